# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Errors of the assembly task that a quantum can end with."""

from __future__ import annotations

__all__ = ("FitFailedError", "UnusableInputsError")

from collections.abc import Mapping

from lsst.pipe.base import AlgorithmError


class UnusableInputsError(AlgorithmError):
    """Too many of the inputs of a patch cannot be used."""

    def __init__(self, *, n_bad: int, n_inputs: int, first_reason: str, max_bad_fraction: float):
        self.n_bad, self.n_inputs, self.first_reason = n_bad, n_inputs, first_reason
        super().__init__(
            f"{n_bad} of {n_inputs} inputs cannot be used (max_bad_fraction is {max_bad_fraction:g}); "
            f"the first: {first_reason}"
        )

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
