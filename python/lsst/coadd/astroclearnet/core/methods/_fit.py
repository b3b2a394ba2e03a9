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

import dataclasses
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch

from .._device import select_device
from .._options import PAPER_LATENT_FWHM, FitOptions
from .._stack import CellFit, CellStack, HistoryRow
from ..cell._finish import finish_latent, finish_mean
from ..encoder._encoder import load_encoder
from ..encoder._flux import match_and_quieten
from ..encoder._inputs import LATENT_FWHM, EncoderInputs
from ..encoder._scatter import Scatter
from ..statistic._stages import FILL_STRENGTH
from ..statistic._statistic import Statistic, compute_statistic
from ._kaiser import KAISER_FILL_STRENGTH, finish_kaiser
from ._mm import fit_mm
from ._paper import PaperNetwork
from ._self import SelfNetwork


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


class _Fitter:
    """What the fitters share: options, device and the statistic."""

    learns = False
    fill_strength = FILL_STRENGTH

    def __init__(self, options: FitOptions):
        self._options = options
        self._device = select_device(options)

    def prepare(self, stacks: Sequence[CellStack], report: Callable[[str], None]) -> Sequence[HistoryRow]:
        return ()

    def _reduce(self, stack: CellStack) -> Statistic:
        return compute_statistic(
            stack,
            device=self._device,
            clip_sigma=self._options.clip_sigma,
            halo=self._options.halo,
            fill_strength=self.fill_strength,
        )


def _match(
    statistic: Statistic, latent: torch.Tensor, *, data: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Give a latent the fluxes of the statistic, or of another D, and take
    the noise out; return the share that is left, too.
    """
    return match_and_quieten(
        latent,
        data=statistic.data if data is None else data,
        den=statistic.den,
        inflation=statistic.inflation,
        grid=statistic.grid,
    )


class _MeanFitter(_Fitter):
    def fit(self, stack: CellStack, generator: np.random.Generator) -> CellFit:
        return finish_mean(stack, self._reduce(stack), generator=generator)


class _KaiserFitter(_Fitter):
    fill_strength = KAISER_FILL_STRENGTH

    def fit(self, stack: CellStack, generator: np.random.Generator) -> CellFit:
        return finish_kaiser(stack, self._reduce(stack), generator=generator)


class _MmFitter(_Fitter):
    def fit(self, stack: CellStack, generator: np.random.Generator) -> CellFit:
        statistic = self._reduce(stack)
        history: list[HistoryRow] = []
        latent = fit_mm(statistic, self._options, history.append)
        return finish_latent(
            statistic,
            latent,
            latent_fwhm=LATENT_FWHM,
            options=self._options,
            generator=generator,
            history=tuple(history),
        )


class _TrainedFitter(_Fitter):
    def __init__(self, options: FitOptions):
        super().__init__(options)
        self._encoder = load_encoder(self._device, weights=options.weights)

    def fit(self, stack: CellStack, generator: np.random.Generator) -> CellFit:
        statistic = self._reduce(stack)
        inputs = EncoderInputs.from_statistic(
            statistic.data[None], statistic.den[None], statistic.grid, inflation=statistic.inflation[None]
        )
        output = self._encoder(inputs)

        def scatter_of(delivered: torch.Tensor, sigma: torch.Tensor) -> Scatter:
            fwhm, tell = self._options.target_fwhm, self._encoder.tell_scatter
            return tell(inputs, output.state, delivered=delivered, sigma=sigma, fwhm=fwhm)

        def restore(data: torch.Tensor) -> torch.Tensor:
            latent = self._encoder(dataclasses.replace(inputs, data=data[None])).latent[0]
            return _match(statistic, latent, data=data)[0]

        latent, share = _match(statistic, output.latent[0])
        return finish_latent(
            statistic,
            latent,
            latent_fwhm=LATENT_FWHM,
            options=self._options,
            generator=generator,
            scatter_of=scatter_of,
            share=share,
            restore=restore,
        )


class _PaperFitter(_Fitter):
    learns = True

    def prepare(self, stacks: Sequence[CellStack], report: Callable[[str], None]) -> Sequence[HistoryRow]:
        labels = {label for stack in stacks for label in stack.labels}
        self._network = PaperNetwork(sorted(labels), self._options, self._device)
        return self._network.train([(self._reduce(stack), stack.labels) for stack in stacks], report)

    def fit(self, stack: CellStack, generator: np.random.Generator) -> CellFit:
        statistic = self._reduce(stack)
        return finish_latent(
            statistic,
            self._network.restore(statistic, stack.labels),
            latent_fwhm=PAPER_LATENT_FWHM,
            options=self._options,
            generator=generator,
        )


class _SelfFitter(_Fitter):
    learns = True

    def prepare(self, stacks: Sequence[CellStack], report: Callable[[str], None]) -> Sequence[HistoryRow]:
        self._network = SelfNetwork(self._options)
        return self._network.train([self._reduce(stack) for stack in stacks], report)

    def fit(self, stack: CellStack, generator: np.random.Generator) -> CellFit:
        statistic = self._reduce(stack)
        return finish_latent(
            statistic,
            _match(statistic, self._network.restore(statistic))[0],
            latent_fwhm=LATENT_FWHM,
            options=self._options,
            generator=generator,
        )


def make_fitter(options: FitOptions) -> CellFitter:
    """Choose the fitter for ``options.method`` and ``options.recipe``."""
    match options.method, options.recipe:
        case "mean", _:
            return _MeanFitter(options)
        case "kaiser", _:
            return _KaiserFitter(options)
        case "mm", _:
            return _MmFitter(options)
        case "acn", "trained":
            return _TrainedFitter(options)
        case "acn", "self":
            return _SelfFitter(options)
        case "acn", "paper":
            return _PaperFitter(options)
    raise ValueError(f"method={options.method!r} with recipe={options.recipe!r} is not known.")
