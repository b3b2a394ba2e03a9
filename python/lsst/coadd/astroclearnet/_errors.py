# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Errors of the assembly task that a quantum can end with."""

from __future__ import annotations

__all__ = ("CellFailures", "FitFailedError", "ReasonError", "UnusableInputsError", "is_shortage")

import dataclasses
import errno
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from lsst.pipe.base import AlgorithmError

if TYPE_CHECKING:
    from .core import Tile


class ReasonError(AlgorithmError):
    """An error of an algorithm that says all in its text."""

    @property
    def metadata(self) -> dict[str, str]:
        return {"reason": str(self)}


class UnusableInputsError(AlgorithmError):
    """Inputs of a patch cannot be used: too many of them, or one of which
    none is let pass.

    Parameters
    ----------
    n_bad
        Inputs that are known to be unusable.
    n_inputs
        Inputs of the patch.
    first_reason
        What is wrong with the first; names its data id.
    rule
        Why that stops the patch.
    """

    def __init__(self, *, n_bad: int, n_inputs: int, first_reason: str, rule: str):
        self.n_bad, self.n_inputs, self.first_reason = n_bad, n_inputs, first_reason
        super().__init__(f"{n_bad} of {n_inputs} inputs cannot be used ({rule}); the first: {first_reason}")

    @property
    def metadata(self) -> dict[str, int | str]:
        return {"n_bad": self.n_bad, "n_inputs": self.n_inputs, "first_reason": self.first_reason}


class FitFailedError(AlgorithmError):
    """The fit ran, but its result cannot be used."""

    def __init__(self, message: str, details: Mapping[str, float | int | str]):
        super().__init__(message)
        self._details = dict(details)

    @property
    def metadata(self) -> dict[str, float | int | str]:
        return self._details


@dataclasses.dataclass(kw_only=True)
class CellFailures:
    """Cells of a patch whose fit failed: some may, not many."""

    where: str
    """Data id of the patch."""

    n_cells: int
    """Cells of the patch."""

    max_fraction: float
    """Fraction of them that may fail."""

    log: logging.Logger

    cells: list[tuple[int, int]] = dataclasses.field(default_factory=list)
    """Row and column of those that did."""

    def add(self, tile: Tile, error: Exception) -> None:
        """Note a failure.

        Raises
        ------
        FitFailedError
            If there are too many.
        """
        self.cells.append((tile.i, tile.j))
        text = " ".join(f"{type(error).__name__}: {error}".split())
        if len(self.cells) > self.max_fraction * self.n_cells:
            raise FitFailedError(
                f"{self.where}: the fit of {len(self.cells)} of {self.n_cells} cells failed "
                f"(max_failed_cells is {self.max_fraction:g}), the last ({tile.i}, {tile.j}) with {text}",
                {"n_failed_cells": len(self.cells), "cell_i": tile.i, "cell_j": tile.j},
            ) from error
        self.log.warning(
            "%s: the fit of cell (%d, %d) failed; it is left without data. %s",
            self.where,
            *self.cells[-1],
            text,
        )
        self.log.debug("Why cell (%d, %d) failed:", *self.cells[-1], exc_info=error)


def is_shortage(error: BaseException | None) -> bool:
    """Tell whether it is the machine that lacks something, which is no fault
    of what was read: left out for that, an exposure would be missing in one
    run and not in the next.

    The Butler raises an error of its own from that of a formatter.
    """
    while error is not None:
        if isinstance(error, MemoryError):
            return True
        if isinstance(error, OSError) and error.errno in (errno.ENOMEM, errno.EMFILE, errno.ENFILE):
            return True
        error = error.__cause__
    return False
