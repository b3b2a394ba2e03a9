# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Planes that the skies of exposures differ by, or are tilted by."""

from __future__ import annotations

__all__ = ("find_skies", "take_plane")

import numpy as np
import torch

from .._batches import parts
from ._neighbours import TO_SIGMA, soft

_EVERY = 2
"""Of so many rows one is looked at."""

_MOST = 3.0
"""Residual in sigma beyond which a pixel counts as if it had this one."""

_SCATTER = 3.0
"""Deviation of a sky up to which it is no artifact, in standard deviations
of all exposures."""

_UNSURE, _UNSURE_OF_FEW = 2.0, 11.0
"""Scatter of levels or slopes, in errors of one, that may be chance, and what
is added to that over the number of exposures. With less, what is clipped would
depend on the size of the cell."""


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
    found, error, middle, sigma = _fit_planes(residual, good, variance)
    # In sigma, from the middle of the pixels; sides are from -1 to 1.
    level, *slopes = (_as_they_scatter(*one) * sigma for one in zip(found.T, error.T, strict=True))
    rows, columns = (
        (_side(size, residual.device) - centre[:, None]) * slope[:, None]
        for size, centre, slope in zip(residual.shape[1:], middle.T, slopes, strict=True)
    )
    return (rows + level[:, None])[:, :, None], columns[:, None, :]


def _side(size: int, device: torch.device) -> torch.Tensor:
    """Places from -1 to 1."""
    return torch.linspace(-1.0, 1.0, size, device=device)


def _fit_planes(
    residual: torch.Tensor, good: torch.Tensor, variance: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Fit planes to pixels, of which none counts for much.

    Parameters
    ----------
    residual, good, variance
        As of `find_skies`.

    Returns
    -------
    found, error
        Level in the middle, slope along y and x, in sigma and for half the
        length of the side, ``(n, 3)``.
    middle
        Mean place of the pixels, y and x from -1 to 1, ``(n, 2)``.
    sigma
        Noise of a pixel, ``(n,)``.
    """
    some = np.s_[:, ::_EVERY]
    sigma = variance[:, ::4, ::4].flatten(1).median(1).values.sqrt()
    y, x = (_side(size, residual.device) for size in residual.shape[1:])
    y, x = (torch.stack([side**0, side, side**2]) for side in (y[::_EVERY], x))
    light, weight = [], []
    for part in parts(residual):
        size = (residual[part][some] / sigma[part, None, None]).clamp_(-_MOST, _MOST)
        light.append(y[:2] @ size.mul_(good[part][some]) @ x[:2].T)
        weight.append(y @ good[part][some] @ x.T)
    light, weight = torch.cat(light), torch.cat(weight)
    # Sums with 1, x, y and so on, to those about the middle.
    count = weight[:, 0, 0]
    middle = torch.stack([weight[:, 1, 0], weight[:, 0, 1]], -1) / count.clamp_min(1)[:, None]
    across = weight[:, 1, 1]
    spread = torch.stack([weight[:, 2, 0], across, across, weight[:, 0, 2]], -1).unflatten(1, (2, 2))
    spread = spread - count[:, None, None] * middle[:, :, None] * middle[:, None, :]
    tilt = torch.stack([light[:, 1, 0], light[:, 0, 1]], -1) - middle * light[:, 0, :1]
    # Pixels in a line tell nothing across it.
    inverse = torch.linalg.inv(spread + torch.eye(2, device=good.device))
    found = torch.cat([light[:, 0, :1] / count[:, None], (inverse @ tilt[:, :, None])[:, :, 0]], -1)
    error = torch.cat([1.0 / count[:, None], inverse.diagonal(dim1=1, dim2=2)], -1).sqrt()
    return found, error, middle, sigma


def _as_they_scatter(value: torch.Tensor, error: torch.Tensor) -> torch.Tensor:
    """Of the deviations from the median, ``(n,)``, take what is not larger
    than all of them scatter, if that is no chance: where skies are alike, what
    stands out is an artifact.
    """
    # An exposure may have no pixel that was looked at: NaN.
    value = value - value.nanmedian()
    scatter = TO_SIGMA * float(value.abs().nanmedian().nan_to_num())
    value = value.nan_to_num().clamp(-_SCATTER * scatter, _SCATTER * scatter)
    return value * soft(scatter / error, _UNSURE + _UNSURE_OF_FEW / len(value))


def take_plane(values: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    """Take a plane from chosen pixels of an image: the tilt of a sky is no
    noise of a star's flux.

    Parameters
    ----------
    values
        The image, ``(h, w)``, of residuals without sources.
    where
        Which pixels, bool of the same shape.

    Returns
    -------
    `torch.Tensor`
        What is left of these pixels, ``(k,)``.
    """
    place = where.nonzero().to(values.dtype)
    place = torch.nn.functional.pad(place - place.mean(0), (0, 1), value=1.0)
    # Pixels in a line tell nothing across it.
    normal = place.T @ place + torch.eye(3, device=place.device)
    kept = values[where]
    return kept - place @ torch.linalg.solve(normal, place.T @ kept)
