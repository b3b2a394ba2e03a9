# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""The noise of exposures at the scale of their PSFs, against what they say."""

from __future__ import annotations

__all__ = ("measure_noise_scale",)

import numpy as np
import torch

from .._batches import parts
from ..clip._neighbours import brightest_nearby
from ..clip._sky_planes import take_plane
from ..fourier._grid import FourierGrid
from ._understated_noise import MIN_MODES, find_width

_REACH = 4
"""Pixels around a hole or a source in which nothing is measured."""

_FAINT = 3.0
"""Filtered prediction, in sigma of its exposure, above which there is a
source."""

_SIGNIFICANCE = 3.0
"""Errors by which the mean noise must be off to be half corrected, and its
spread over the exposures to be corrected at all. What chance makes of a right
variance differs from cell to cell, and with it the weights of the exposures:
few of them, weighted otherwise, are another coadd."""

_EVEN = (0.8, 1.35)
"""Number of exposures of a pixel, relative to the typical one, within which
one share of the noise in the model holds for all."""

_LIMITS = (0.2, 5.0)
"""Least and largest correction of a variance."""


def measure_noise_scale(
    *,
    residual: torch.Tensor,
    model: torch.Tensor,
    used: torch.Tensor,
    variance: torch.Tensor,
    transfer: torch.Tensor,
    power: torch.Tensor,
    sky_variance: torch.Tensor,
    prior: float,
    grid: FourierGrid,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Measure by what factor the noise power of each exposure is off.

    Residuals of a Wiener model are filtered with the PSF of their exposure,
    so that noise counts as it does in the flux of a star: a variance plane
    can be wrong, and resampling moves noise to low frequencies. The width of
    what is left between the sources is compared with the width that it would
    have if their variance there were true. That one is known: the model is
    linear in the data, and takes its share of the noise of each. How large
    that is depends on how many exposures see a place, so that only places of
    about the usual number count.

    Parameters
    ----------
    residual
        Exposures minus prediction ``(n, h, w)``; of any value where not used.
    model
        Transform of the model.
    used
        1 where a pixel is used, ``(n, h, w)``.
    variance
        Variance of the pixels, ``(n, h, w)``.
    transfer
        Transfer functions of the PSFs, ``(n, rows, columns // 2 + 1)``.
    power
        Their squares.
    sky_variance
        Noise power that the model assumes, ``(n,)``.
    prior
        What the Wiener model adds to the power of the stack.
    grid
        The grid of the transforms.

    Returns
    -------
    factors
        Factors ``(n,)`` for the variances, each with the weight that its
        own error, 2-5 % for a cell of 200 pixels, allows: at 1 where the
        data do not say otherwise. Two exposures share one factor, since
        only their difference is known; one has 1.
    told
        Mean of the variance between the sources, ``(n,)``, which the factors
        belong to: a low quantile of it is too low where the plane scatters,
        by the pixels' own photons or by resampling. It is `sky_variance`
        where nothing could be measured.

    Notes
    -----
    The mean of the factors is shrunk towards 1 and each factor towards the
    mean, as James & Stein (1961) do, by the errors of both.
    """
    n = len(residual)
    if n < 2:
        return torch.ones_like(sky_variance), sky_variance
    chosen = _evenly_shared(used)
    half = _HalfGrid(grid)
    squared = half.lowpass(power)
    mixing, expected = _expected_power(squared, used, chosen, 1.0 / sky_variance, prior, half)
    faint = _FAINT * (sky_variance * half.mean(squared)).sqrt()
    sky = half.lowpass(model)
    width, modes, told = np.zeros(n), np.zeros(n), sky_variance.clone()
    independent = half.independent_share(expected).cpu().numpy().astype(float)
    for part in parts(residual):
        spectra = half.lowpass(grid.transform(residual[part] * chosen[part]))
        filtered = half.inverse(spectra.mul_(half.lowpass(transfer[part]).conj_physical_()))
        bright = half.near(half.inverse(squared[part] * sky), faint[part])
        # Neighbours tell the same: every other row is enough.
        empty = (half.near_hole(chosen[part]) + bright)[:, ::2] == 0
        for t, values, where in zip(range(n)[part], filtered[:, ::2], empty, strict=True):
            kept = take_plane(values, where).cpu().numpy()
            modes[t] = 2 * independent[t] * len(kept)
            # Two of them went with the plane, of twice the mean power.
            width[t] = find_width(kept) * (1.0 + 2.0 / max(modes[t], MIN_MODES))
            if len(kept):
                beside = variance[t, ::4, ::2][where]
                told[t] = beside.clamp_max(2.0 * beside.median()).mean()
    scale = (mixing @ told).cpu().numpy().astype(float)
    share = (mixing * told).cpu().numpy().astype(float) / scale[:, None].clip(1e-30)
    # Without any noise, as of exposures that are 0, nothing is known.
    known = (modes > MIN_MODES) & (scale > 0) & (width > 0)
    ratio = np.where(known, width**2 / scale.clip(1e-30), 1.0)
    # Asymptotic variance of the squared width between these percentiles; 1.3
    # times less since what lies beyond them is less correlated.
    error = np.where(known, ratio * (2.86 / modes.clip(1.0)) ** 0.5, np.inf)
    factors = _shrink(ratio, error, share)
    return torch.as_tensor(factors, dtype=torch.float32, device=residual.device), told


def _evenly_shared(used: torch.Tensor) -> torch.Tensor:
    """Return `used` where about as many exposures were seen as in the median
    of each one's pixels that it shares with others: how much of its noise the
    model takes up depends on their number, and alone it is nearly all.
    """
    depth = (used > 0.5).sum(0)
    even = torch.empty_like(used)
    for one, kept in zip(used, even, strict=True):
        shared = depth[::4][(one[::4] > 0.5) & (depth[::4] > 1)]
        typical = int(shared.median()) if len(shared) else 0
        low, high = (share * typical for share in _EVEN)
        torch.mul(one, (depth > 1) & (depth >= low) & (depth <= high), out=kept)
    return even


def _expected_power(
    squared: torch.Tensor,
    used: torch.Tensor,
    chosen: torch.Tensor,
    weight: torch.Tensor,
    prior: float,
    half: _HalfGrid,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what each exposure's noise adds to each filtered residual.

    Returns
    -------
    mixing
        ``(n, n)``: variance of the filtered residual of the first for noise
        power 1 in the second.
    power
        Spectrum ``(n, rows, columns)`` of the filtered residuals.
    """
    flat = squared.flatten(1)
    # Only exposures that see the same sky share in its model.
    seen = chosen[:, ::4, ::4].flatten(1)
    overlap = (seen @ used[:, ::4, ::4].flatten(1).T) / seen.sum(1, keepdim=True).clamp_min(1.0)
    total = overlap @ (flat * weight[:, None]) + prior
    own = flat * weight[:, None] / total
    kept = flat * (1.0 - own) ** 2
    mean = half.mode_weight.flatten()
    taken = (flat**2 / total**2 * mean) @ (flat * weight[:, None] ** 2).T * overlap
    mixing = taken - torch.diag(taken.diag()) + torch.diag(kept @ mean)
    return mixing, (flat * (1.0 - own)).reshape(squared.shape)


def _shrink(ratio: np.ndarray, error: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Most likely factors for measured ratios, ``(n,)``.

    Parameters
    ----------
    ratio, error
        Of each exposure, ``(n,)``; the error is infinite where nothing could
        be measured.
    share
        ``(n, n)``: expected ratios are ``share @ factors``.
    """
    known, n = np.isfinite(error), len(ratio)
    if not known.any():
        return np.ones(n)
    ratio, error, share = ratio[known], error[known], share[np.ix_(known, known)]
    # Extreme ratios must not weigh more in the mean: errors of ordinary ones.
    error = error / ratio * np.median(ratio)
    mean = np.average(ratio, weights=error**-2)
    # Of n residuals only n - 1 are independent.
    mean_error = (n / (n - 1) / (error**-2).sum()) ** 0.5
    offset = mean - 1.0
    factors = np.full(n, 1.0 + offset * offset**2 / (offset**2 + (_SIGNIFICANCE * mean_error) ** 2))
    if known.sum() > 2:
        deviation = ratio - mean
        # What the errors make of equal factors: of a few exposures the spread
        # is badly known.
        by_chance = (error**2).mean() * (1.0 + _SIGNIFICANCE * (2.0 / (len(ratio) - 1)) ** 0.5)
        # How much of independent deviations of the factors the ratios show.
        centred = share - share.mean(1, keepdims=True)
        response = (centred**2).sum() / len(ratio)
        spread = max(0.0, (deviation**2).mean() - by_chance) / response
        covariance = spread * centred @ centred.T + np.diag(error**2)
        factors[known] += spread * centred.T @ np.linalg.solve(covariance, deviation)
    return np.clip(factors, *_LIMITS)


class _HalfGrid:
    """Every other pixel of a grid: the PSFs have no power beyond it."""

    def __init__(self, grid: FourierGrid):
        self._grid = FourierGrid(
            height=(grid.height + 1) // 2,
            width=(grid.width + 1) // 2,
            shape=(grid.shape[0] // 2, grid.shape[1] // 2),
            device=grid.device,
        )
        # Of the modes of the whole grid, without those at the very edge.
        weight = self._grid.mode_weight / 4.0
        weight = weight.expand(self._grid.shape[0], -1).clone()
        weight[:, -1] = 0.0
        weight[self._grid.shape[0] // 2] = 0.0
        self.mode_weight = weight

    def lowpass(self, spectrum: torch.Tensor) -> torch.Tensor:
        rows, columns = self._grid.shape
        kept = torch.cat([spectrum[..., : rows // 2, :], spectrum[..., -(rows // 2) :, :]], -2)
        return kept[..., : columns // 2 + 1] * (self.mode_weight > 0)

    def inverse(self, spectrum: torch.Tensor) -> torch.Tensor:
        return self._grid.crop(self._grid.inverse(spectrum)) / 4.0

    def mean(self, power: torch.Tensor) -> torch.Tensor:
        """Average a spectrum over the modes of the whole grid."""
        return (power * self.mode_weight).sum((-2, -1))

    def near_hole(self, used: torch.Tensor) -> torch.Tensor:
        """1 where a hole or the edge is within reach, of every other pixel;
        else 0.
        """
        hole = torch.nn.functional.pad(1.0 - used, (0, used.shape[-1] % 2, 0, used.shape[-2] % 2))
        hole = torch.maximum(hole[..., ::2, :], hole[..., 1::2, :])
        hole = brightest_nearby(torch.maximum(hole[..., ::2], hole[..., 1::2]), _REACH // 2)
        edge = _REACH // 2
        hole[..., :edge, :] = hole[..., -edge:, :] = 1.0
        hole[..., :edge] = hole[..., -edge:] = 1.0
        return hole

    def near(self, images: torch.Tensor, limits: torch.Tensor) -> torch.Tensor:
        """1 where an image, of every other pixel, is above its limit within
        reach, else 0.
        """
        return torch.gt(brightest_nearby(images.abs(), _REACH // 2), limits[:, None, None], out=images)

    def independent_share(self, power: torch.Tensor) -> torch.Tensor:
        """Count the independent samples for each of this grid's pixels."""
        return 4.0 * self.mean(power) ** 2 / self.mean(power**2)
