# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""By what planes the skies of a stack differ."""

from __future__ import annotations

__all__ = ("find_skies",)

import numpy as np
import torch

from ._batches import parts
from ._neighbours import soft

_EVERY = 2
"""Of so many rows one is looked at."""

_MOST = 3.0
"""Residual in sigma beyond which a pixel counts as if it had this one."""

_SCATTER, _TO_SIGMA = 3.0, 1.4826
"""Deviation of a sky up to which it is no artifact, in standard deviations
of all exposures; and what makes their median absolute deviation one."""

_UNSURE = 5.7
"""Errors of a level or slope that may be chance: with less, what is clipped
would depend on the size of the cell."""


def find_skies(
    residual: torch.Tensor, good: torch.Tensor, variance: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Find the planes by which the skies of the exposures differ.

    Where the skies of many were not taken away alike, half of them seem to
    have light everywhere. Clipped, they leave a darker model, above which
    the next ones stand, until only the darkest are left. An exposure that
    stands out alone, by a ghost over all of the cell, is still an artifact:
    levels and slopes count as far as they scatter.

    Parameters
    ----------
    residual
        Exposures minus model, ``(n, h, w)``.
    good
        1 where a pixel can be used, else 0.
    variance
        The stack's, ``(n, h, w)``.

    Returns
    -------
    rows, columns
        A term of each row, ``(n, h, 1)``, and of each column, ``(n, 1, w)``:
        their sum is the plane.
    """
    some = np.s_[:, ::4, ::4]
    sigma = variance[some].flatten(1).median(1).values.sqrt()
    seen = torch.where(good[some] > 0, residual[some], torch.nan).flatten(1)
    level = seen.nanmedian(1).values / sigma
    slope, slope_error, middle = _fit_slopes(residual, good, sigma=sigma, level=level.nan_to_num())
    error = (0.5 * np.pi / seen.isfinite().sum(1).clamp_min(1)).sqrt()  # of a median
    level = _as_they_scatter(level, error) * sigma
    terms = []
    for axis, size in enumerate(residual.shape[1:]):
        along = _as_they_scatter(slope[:, axis], slope_error[:, axis]) * sigma
        terms.append((_side(size, residual.device) - middle[:, axis, None]) * along[:, None])
    return (terms[0] + level[:, None])[:, :, None], terms[1][:, None, :]


def _side(size: int, device: torch.device) -> torch.Tensor:
    """Places from -1 to 1."""
    return torch.linspace(-1.0, 1.0, size, device=device)


def _fit_slopes(
    residual: torch.Tensor, good: torch.Tensor, *, sigma: torch.Tensor, level: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Fit planes to pixels, of which none counts for much.

    Parameters
    ----------
    residual, good
        As of `find_skies`.
    sigma
        Noise of a pixel, ``(n,)``.
    level
        Median of the pixels in sigma, ``(n,)``.

    Returns
    -------
    slope, error
        Along y and x, in sigma for half the length of the side, ``(n, 2)``.
    middle
        Mean place of the pixels, from -1 to 1, the same.
    """
    every = np.s_[:, ::_EVERY]
    y, x = (_side(size, residual.device) for size in residual.shape[1:])
    y, x = (torch.stack([side**0, side, side**2]) for side in (y[::_EVERY], x))
    light, weight = [], []
    for part in parts(residual):
        scale = sigma[part, None, None]
        size = (residual[part][every] / scale).sub_(level[part, None, None])
        size = size.clamp_(-_MOST, _MOST).mul_(good[part][every])
        light.append(y[:2] @ size @ x[:2].T)
        weight.append(y @ good[part][every] @ x.T)
    light, weight = torch.cat(light), torch.cat(weight)
    # Sums of 1, x, y and so on, to means and about these.
    count = weight[:, 0, 0].clamp_min(1)
    middle = torch.stack([weight[:, 1, 0], weight[:, 0, 1]], -1) / count[:, None]
    across = weight[:, 1, 1]
    spread = torch.stack([weight[:, 2, 0], across, across, weight[:, 0, 2]], -1).unflatten(1, (2, 2))
    spread = spread - count[:, None, None] * middle[:, :, None] * middle[:, None, :]
    tilt = torch.stack([light[:, 1, 0], light[:, 0, 1]], -1) - middle * light[:, 0, :1]
    # Pixels in a line tell nothing across it.
    inverse = torch.linalg.inv(spread + torch.eye(2, device=good.device))
    return (inverse @ tilt[:, :, None])[:, :, 0], inverse.diagonal(dim1=1, dim2=2).sqrt(), middle


def _as_they_scatter(value: torch.Tensor, error: torch.Tensor) -> torch.Tensor:
    """Of the deviations from the median, ``(n,)``, take what is no chance and
    is not larger than all of them scatter.
    """
    # An exposure may have no pixel that was looked at: NaN.
    value = value - value.nanmedian()
    limit = _SCATTER * _TO_SIGMA * float(value.abs().nanmedian().nan_to_num())
    value = value.nan_to_num().clamp(-limit, limit)
    return value * soft(value.abs() / error, _UNSURE)
