# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fit one cell by the method and recipe that the options name."""

from __future__ import annotations

__all__ = ("CellFitter", "make_fitter")

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from ._device import select_device
from ._errors import FitError
from ._finish import finish_latent, finish_mean
from ._mm import LATENT_FWHM as MM_LATENT_FWHM
from ._mm import fit_mm
from ._options import FitOptions
from ._stack import CellFit, CellStack, HistoryRow
from ._statistic import compute_statistic


class CellFitter(Protocol):
    """One way to fit the cells of a patch."""

    learns: bool
    """Whether `prepare` must be called before `fit`."""

    def prepare(self, stacks: Sequence[CellStack], report: Callable[[str], None]) -> Sequence[HistoryRow]:
        """Learn from some cells what all share; return rows of history."""
        ...

    def fit(self, stack: CellStack, generator: np.random.Generator) -> CellFit:
        """Fit one cell."""
        ...


class _MeanFitter:
    learns = False

    def __init__(self, options: FitOptions):
        self._options = options
        self._device = select_device(options)

    def prepare(self, stacks: Sequence[CellStack], report: Callable[[str], None]) -> Sequence[HistoryRow]:
        return ()

    def fit(self, stack: CellStack, generator: np.random.Generator) -> CellFit:
        statistic = compute_statistic(stack, device=self._device, clip_sigma=self._options.clip_sigma)
        return finish_mean(stack, statistic, options=self._options, generator=generator)


class _MmFitter(_MeanFitter):
    def fit(self, stack: CellStack, generator: np.random.Generator) -> CellFit:
        statistic = compute_statistic(stack, device=self._device, clip_sigma=self._options.clip_sigma)
        history: list[HistoryRow] = []
        latent = fit_mm(statistic, self._options, history.append)
        return finish_latent(
            statistic,
            latent,
            latent_fwhm=MM_LATENT_FWHM,
            options=self._options,
            generator=generator,
            respond=None,
            history=tuple(history),
        )


def make_fitter(options: FitOptions) -> CellFitter:
    """Choose the fitter for ``options.method`` and ``options.recipe``."""
    match options.method, options.recipe:
        case "mean", _:
            return _MeanFitter(options)
        case "mm", _:
            return _MmFitter(options)
    raise FitError(f"method={options.method!r} with recipe={options.recipe!r} cannot be run.")
