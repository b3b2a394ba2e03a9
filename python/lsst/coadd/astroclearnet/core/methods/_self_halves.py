# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Halves of a stack: one is given, the other must be predicted."""

from __future__ import annotations

__all__ = ("Half", "split_cell")

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn.functional import huber_loss

from .._options import FitOptions
from ..encoder._inputs import LATENT_FWHM
from ..fourier._decoder import Decoder
from ..fourier._filters import filtered_sigma, wiener_filters
from ..statistic._statistic import Statistic, reduce_part
from ._self_inputs import SelfInputs

_MODEL_ERROR = 0.02
"""Error of a prediction in proportion to its brightness: what the PSFs are
not known to would else outweigh all faint sources."""

_SMOOTH_FWHM = (3.0, 7.0)
_SMOOTH_WEIGHT = 0.5
"""Filters and weight, each, of the multi-scale terms: without them what is
fainter than the noise of a pixel is lost."""

_SHARP_FWHM = 2.5
_SHARP_STRENGTH = 1e-2
_SHARP_WEIGHT = 0.15
"""Wiener filter and weight of the term at the scale of the target PSF: it
holds the width of stars."""

_MARGIN = 8
"""Border of a window, in pixels, whose surroundings are not up to date."""

_HELD_OUT_SHARE = 0.1
_HELD_OUT_SIZE = 48
_HELD_OUT_BORDER = 8
"""Share of the sky that no loss is computed on, size of its blocks, and the
border of theirs that the filtered residuals reach across."""


class Half:
    """One half of the exposures of a cell to predict from the other.

    Parameters
    ----------
    cell
        Statistic of all exposures.
    given, target
        Indices of the exposures of the two halves.
    learned
        Pixels that the loss is computed on, bool ``(h, w)``.
    held_out
        Pixels that tell the held-out loss, bool ``(h, w)``.
    huber_delta
        Residual in sigma at which the loss becomes linear.
    """

    def __init__(
        self,
        cell: Statistic,
        *,
        given: Sequence[int],
        target: Sequence[int],
        learned: torch.Tensor,
        held_out: torch.Tensor,
        huber_delta: float,
    ):
        self.cell = cell
        part = reduce_part(cell, given)
        self.inputs = SelfInputs.from_statistic(part)
        # Nothing can be predicted where the given half has seen nothing.
        seen = part.used.amax(0)
        self._learned, self._held_out = seen * learned, seen * held_out
        self._delta = huber_delta
        self._target = torch.as_tensor(target, device=seen.device)
        part = reduce_part(cell, target)
        self._data, self._den = part.data, part.den
        self._decoder = Decoder(part.psf_transfer, cell.grid, latent_fwhm=LATENT_FWHM)
        self._sharpen = 1.0 / cell.grid.gaussian(LATENT_FWHM).clamp_min(1e-4)
        grid, den = cell.grid, part.den
        (sharp,) = wiener_filters(den, grid, strengths=(_SHARP_STRENGTH,), fwhm=_SHARP_FWHM)
        self._filters = torch.stack([*(grid.gaussian(fwhm) for fwhm in _SMOOTH_FWHM), sharp])
        weights = [_SMOOTH_WEIGHT] * len(_SMOOTH_FWHM) + [_SHARP_WEIGHT]
        self._weights = torch.tensor(weights, device=den.device)
        self._noise = grid.crop(filtered_sigma(self._filters, den, grid) * part.inflation)

    def loss(self, latent: torch.Tensor, window: tuple[slice, slice]) -> torch.Tensor:
        """Compute the loss of a latent on the padded grid, in a window.

        It is the masked, sigma-scaled Huber loss of the exposures to be
        predicted, plus that of their residual coadd through filters of
        several scales, in units of its noise.
        """
        grid = self.cell.grid
        mask = torch.zeros(grid.shape, device=latent.device)
        rows, columns = (slice(part.start + _MARGIN, part.stop - _MARGIN) for part in window)
        mask[rows, columns] = 1.0
        mask = grid.crop(mask) * self._learned
        spectrum = grid.transform(latent) * self._sharpen
        expected = self._den * spectrum
        residual = grid.crop(grid.inverse((self._data - expected) * self._filters))
        with torch.no_grad():
            bright = grid.crop(grid.inverse(expected * self._filters))
            error = torch.sqrt(self._noise**2 + (_MODEL_ERROR * bright) ** 2)
        filtered = (mask * self._huber(residual / error)).sum((-2, -1)) / mask.sum().clamp_min(1.0)
        return self._exposure_loss(latent, mask)[0] + (self._weights * filtered).sum()

    def measure(self, latent: torch.Tensor) -> tuple[float, float, float]:
        """Return the Huber loss of the exposures to be predicted where it was
        learned from and where not (NaN if there is no such place), and the
        reduced chi2 of both.
        """
        learned, chi2 = self._exposure_loss(latent, self._learned)
        held_out, _ = self._exposure_loss(latent, self._held_out)
        return float(learned), float(held_out) if self._held_out.any() else float("nan"), float(chi2)

    def _exposure_loss(self, latent: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        model = self._decoder.forward(latent)
        variance = self.cell.variance[self._target] + (_MODEL_ERROR * model.detach()) ** 2
        residual = (self.cell.image[self._target] - model) * variance.rsqrt()
        used = self.cell.used[self._target] * mask
        n_used = used.sum().clamp_min(1.0)
        return (used * self._huber(residual)).sum() / n_used, (used * residual.detach() ** 2).sum() / n_used

    def _huber(self, residual: torch.Tensor) -> torch.Tensor:
        return huber_loss(residual, torch.zeros_like(residual), reduction="none", delta=self._delta)


def split_cell(
    cell: Statistic, n_splits: int, options: FitOptions, generator: np.random.Generator
) -> list[Half]:
    """Split the exposures of a cell at random, several times, and use each
    split both ways.

    Parameters
    ----------
    cell
        The statistic of all exposures.
    n_splits
        Splits wanted; fewer if there are no more, none for one exposure.
    options
        ``huber_delta``.
    generator
        Source of the splits and of the parts of the sky held out.
    """
    n = len(cell.image)
    learned, held_out = _hold_out(cell, generator)
    splits: dict[frozenset[tuple[int, ...]], None] = {}
    for _ in range(n_splits if n > 1 else 0):
        mixed = generator.permutation(n)
        splits[frozenset(tuple(np.sort(part).tolist()) for part in (mixed[: n // 2], mixed[n // 2 :]))] = None
    return [
        Half(
            cell,
            given=given,
            target=target,
            learned=learned,
            held_out=held_out,
            huber_delta=options.huber_delta,
        )
        for one, other in map(sorted, splits)
        for given, target in ((one, other), (other, one))
    ]


def _hold_out(cell: Statistic, generator: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Choose blocks of the sky to hold out; return what is left of it, and
    the blocks without their border, ``(h, w)`` each.
    """
    height, width = cell.image.shape[1:]
    n_rows, n_columns = (-(-n // _HELD_OUT_SIZE) for n in (height, width))
    number = max(1, round(_HELD_OUT_SHARE * n_rows * n_columns))
    learned = np.ones((n_rows * _HELD_OUT_SIZE, n_columns * _HELD_OUT_SIZE), dtype=np.float32)
    held_out = np.zeros_like(learned)
    inner = slice(_HELD_OUT_BORDER, _HELD_OUT_SIZE - _HELD_OUT_BORDER)
    for block in generator.choice(n_rows * n_columns, number, replace=False):
        row, column = divmod(int(block), n_columns)
        place = np.s_[row * _HELD_OUT_SIZE :, column * _HELD_OUT_SIZE :]
        learned[place][:_HELD_OUT_SIZE, :_HELD_OUT_SIZE] = 0.0
        held_out[place][inner, inner] = 1.0
    device = cell.image.device
    return tuple(torch.as_tensor(m[:height, :width].copy(), device=device) for m in (learned, held_out))
