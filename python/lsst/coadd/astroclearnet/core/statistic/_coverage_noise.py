# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""What missing exposures make of the noise of a statistic."""

from __future__ import annotations

__all__ = ("measure_inflation", "measure_noise_power", "measure_share")

import torch

from .._batches import parts
from ..fourier._deliver import residual_response
from ..fourier._grid import FourierGrid

_FWHM = 2.5
"""FWHM in pixels of the coadd whose noise is told: that of the default target;
how far wider ones see missing exposures differs less than the exposures do."""

_RINGS, _FREQUENCY = 16, 0.4
"""Rings of equal area in the plane of frequencies, in which exposures are
compared, and the frequency in cycles per pixel up to which."""

_BLOCK = 4
"""Pixels on each side of the blocks in which coverage is counted."""

_SMOOTH_FWHM = 5.0
"""FWHM in pixels to which the maps of coverage are smoothed."""

_LEAST_SEEN, _UNSEEN = 0.01, 0.04
"""Part of the weight that a pixel counts with at least, and one that nothing
was seen of: with these the noise that is told is that of the coadd where the
sharp exposures are missing, in narrow strips, and beside the end of coverage.
"""


def measure_inflation(
    coverage: torch.Tensor,
    used: torch.Tensor,
    power: torch.Tensor,
    weight: torch.Tensor,
    grid: FourierGrid,
    *,
    prior: float,
) -> torch.Tensor:
    """Noise of a filled statistic relative to full coverage.

    Where only some of the exposures were seen, the others are filled with a
    model of these: D is ``D' (den + p) / (den' + p)``, D' and den' being those
    of the exposures seen and p the prior of the model. So the noise rises by
    the share that is missing, and by more where the sharp ones are missing:
    at each frequency as den' tells. The map is smooth on the scale of the
    PSF, so that dividing by it leaves profiles alone.

    Beside what nothing was seen of, it says what coverage says: what lies
    there must not look like noise inside (faint sources of the whole cell
    would come out half a per cent fainter).

    Parameters
    ----------
    coverage
        What `measure_share` returns, ``(rows, columns)``.
    used
        1 where a pixel is used, ``(n, h, w)``.
    power
        Squares of the transfer functions, ``(n, rows, columns // 2 + 1)``.
    weight
        ``1 / s_t^2`` of the exposures, ``(n,)``.
    grid
        The grid of the result.
    prior
        Strength of the prior, relative to the sum of the weights.

    Returns
    -------
    `torch.Tensor`
        Factor of the noise of the coadd, ``(rows, columns)``, >= 1.
    """
    own, importance = _gather_rings(power, weight, grid)
    whole = own.sum(0)[:, None]
    blocks = _count_coverage(used, grid)
    # A block of which little was seen counts as seen by the weakest exposure.
    present = blocks.amax((1, 2)) > 0
    if not present.any():
        return coverage.rsqrt()
    seen = torch.maximum(own.T @ blocks.flatten(1), own[present].amin(0)[:, None])
    rise = _rise(seen, whole, prior * weight.sum(), importance).reshape(blocks.shape[1:])
    share = torch.tensordot(weight, blocks, 1) / weight.sum()
    least = weight[present].min() / weight.sum()
    excess = torch.where(share > 0.5 * least, rise * share, 1.0)
    fine = torch.nn.functional.interpolate(excess[None, None], grid.shape, mode="bilinear")[0, 0]
    smooth = grid.inverse(grid.transform(fine) * grid.gaussian(_SMOOTH_FWHM))
    return (smooth.clamp_min(1.0) / coverage).sqrt()


def measure_noise_power(
    used: torch.Tensor, power: torch.Tensor, weight: torch.Tensor, grid: FourierGrid, *, prior: float
) -> torch.Tensor:
    """Noise power of a filled statistic, relative to full coverage.

    The same as `measure_inflation` tells, pixel by pixel: what a filter makes
    of it is as sharp as the filter, and a strip of a few pixels, such as a
    masked column, is as noisy as it is. Of what nothing was seen, the filling
    has the noise of pixels that count little.

    Parameters
    ----------
    used, power, weight, grid, prior
        As of `measure_inflation`.

    Returns
    -------
    `torch.Tensor`
        Factor of the noise power, ``(rows, columns)``.
    """
    own, importance = _gather_rings(power, weight, grid)
    whole = own.sum(0)[:, None]
    pixels = used.flatten(1)
    seen = torch.where(
        pixels.amax(0) > 0, torch.maximum(own.T @ pixels, _LEAST_SEEN * whole), _UNSEEN * whole
    )
    rise = _rise(seen, whole, prior * weight.sum(), importance)
    beyond = _rise(_UNSEEN * whole, whole, prior * weight.sum(), importance)
    result = beyond.expand(grid.shape).clone()
    grid.crop(result)[:] = rise.reshape(used.shape[1:])
    return result


def _rise(
    seen: torch.Tensor, whole: torch.Tensor, prior: torch.Tensor, importance: torch.Tensor
) -> torch.Tensor:
    """Return by what the noise power rises where a part of the whole was
    seen, both ``(rings, pixels)``.
    """
    return importance @ (seen / whole * ((whole + prior) / (seen + prior)) ** 2)


def measure_share(used: torch.Tensor, weight: torch.Tensor, grid: FourierGrid) -> torch.Tensor:
    """Part of the weight that was seen, smooth on the scale of the PSF.

    Parameters
    ----------
    used, weight, grid
        As of `measure_inflation`.

    Returns
    -------
    `torch.Tensor`
        From the part of the weakest exposure to 1, ``(rows, columns)``.
    """
    share = torch.zeros(grid.shape, device=used.device)
    for part in parts(used):
        grid.crop(share).add_((used[part] * weight[part, None, None]).sum(0))
    share /= weight.sum()
    smooth = grid.inverse(grid.transform(share) * grid.gaussian(_SMOOTH_FWHM))
    return smooth.clamp(min=float(weight.min() / weight.sum()), max=1.0)


def _gather_rings(
    power: torch.Tensor, weight: torch.Tensor, grid: FourierGrid
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the part of den of each exposure in rings, ``(n, rings)``, and
    the share of each ring in the noise of the coadd, ``(rings,)``.
    """
    den = torch.tensordot(weight, power, 1)
    noise = residual_response(den, grid, fwhm=_FWHM) ** 2 * den * grid.mode_weight
    ring = (grid.frequency_squared * (_RINGS / _FREQUENCY**2)).long().clamp_max(_RINGS - 1).flatten()
    total = torch.zeros(_RINGS, device=den.device).index_add_(0, ring, noise.flatten())
    own = torch.zeros(len(power), _RINGS, device=den.device)
    for part in parts(power):
        own[part] = own[part].index_add(1, ring, (power[part] * noise).flatten(1))
    return own * weight[:, None] / total.clamp_min(1e-30), total / total.sum()


def _count_coverage(used: torch.Tensor, grid: FourierGrid) -> torch.Tensor:
    """Return which part of each block was used, ``(n, rows / 4, columns /
    4)``: the sides of the grid are multiples of 4.
    """
    rows, columns = (side // _BLOCK for side in grid.shape)
    coverage = torch.zeros(len(used), rows, columns, device=used.device)
    pad = (0, -used.shape[2] % _BLOCK, 0, -used.shape[1] % _BLOCK)
    for part in parts(used):
        blocks = torch.nn.functional.avg_pool2d(torch.nn.functional.pad(used[part], pad), _BLOCK)
        coverage[part, : blocks.shape[1], : blocks.shape[2]] = blocks
    return coverage
