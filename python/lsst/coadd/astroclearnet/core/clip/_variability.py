# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Sources that are not equally bright in all exposures."""

from __future__ import annotations

__all__ = ("allow_for_variability",)

import torch

from ._neighbours import soft, take

_REACH = 3
"""Pixels around one over which its source is compared with the model."""

_NEAR = 2
"""Pixels around one whose light is in its scores."""

_INNER = slice(_REACH - _NEAR, _REACH + _NEAR + 1)

_FAINTEST = 1.0
"""Brightness of the model in sigma of a pixel from which on a source is looked
for there."""

_MEDIAN_OFF = 0.6745
"""Median distance of Gaussian noise from its middle, in sigma."""

_LEAST = 5
"""Exposures from which on they can tell whether a source varies: of
fewer, chance makes one of an artifact."""

_BY_CHANCE = 4.6
"""Two errors of the square of a sigma that comes from such distances, relative
to it, times the root of their number."""

_TAIL = 1.5
"""What is expected of the brightest nights, over a Gaussian of that sigma: it
is the magnitude that varies, and of few exposures sigma is not well known."""

_AT_ONCE = 2**9
"""Pixels whose surroundings are compared at a time."""


def allow_for_variability(
    places: torch.Tensor,
    *,
    image: torch.Tensor,
    residual: torch.Tensor,
    good: torch.Tensor,
    variance: torch.Tensor,
    model_error: float,
    score: torch.Tensor,
    light: torch.Tensor,
    smooth: torch.Tensor,
) -> None:
    """Lower the scores of sources that vary.

    An artifact is in one exposure, or in few of many. Where half of the
    exposures lie far from their median the source itself varies, and its
    bright nights are as true as its faint ones: what it scatters by is
    expected, as noise is. (``CompareWarpAssembleCoaddTask`` keeps what
    differs in a large part of the exposures, too: drp_tasks,
    ``maxFractionEpochsLow``.)

    Parameters
    ----------
    places
        Pixels to look at, in the flattened image, ``(k,)``.
    image, residual
        The stack, and the stack minus the model, ``(n, h, w)``.
    good
        1 where a pixel can be used, else 0, same shape.
    variance
        The stack's, same shape.
    model_error
        Error of the model that the scores know of, relative to the brightest
        pixel nearby.
    score, light, smooth
        Residuals in sigma, the noise's share in them, and the sums of that
        over 5 x 5 pixels, same shape; changed in place.
    """
    height, width = image.shape[1:]
    here = (take(image, places) - take(residual, places)).abs_() * take(variance, places).rsqrt_()
    bright = soft(here.amax(0), _FAINTEST)
    where = bright > 0
    for some, seen_there in zip(places[where].split(_AT_ONCE), bright[where].split(_AT_ONCE), strict=True):
        around = _look_around(some, height, width)
        level, seen = take(variance, some), take(residual, around)
        model = take(image, around) - seen
        scatter = seen_there * _measure_scatter(seen, model, take(good, around), level)
        if not scatter.any():
            continue
        inner = model.unflatten(-1, (2 * _REACH + 1,) * 2)[..., _INNER, _INNER].flatten(-2).abs()
        varies = (scatter * inner.amax(-1)).square_()
        noise = level + (model_error * inner.amax(-1)).square_()
        scale = (noise / (noise + varies)).sqrt_()
        for plane in (score, light):
            plane.view(len(plane), -1)[:, some] *= scale
        size = inner.sum(-1) * (level * inner.shape[-1]).rsqrt_()
        smooth.view(len(smooth), -1)[:, some] *= (1.0 + (scatter * size).square_()).rsqrt_()


def _measure_scatter(
    seen: torch.Tensor, model: torch.Tensor, good: torch.Tensor, level: torch.Tensor
) -> torch.Tensor:
    """Measure by how much of its light a source scatters beyond the noise.

    Parameters
    ----------
    seen, model, good
        Residual, model and usable pixels around each place, ``(n, k, m)``.
    level
        Variance there, ``(n, k)``.

    Returns
    -------
    `torch.Tensor`
        Sigma over the source's brightness, ``(k,)``; 0 where no more than
        noise is seen.
    """
    # What a sky is too bright by is no light of the source.
    count = good.sum(-1, keepdim=True).clamp_min(1.0)
    shape = (model - (model * good).sum(-1, keepdim=True) / count) * good
    power = shape.square().sum(-1)
    known = power > 0
    ratio, noise = (torch.where(known, value / power, torch.nan) for value in ((shape * seen).sum(-1), level))
    off = (ratio - ratio.nanmedian(0).values).abs_().nanmedian(0).values / _MEDIAN_OFF
    count = known.sum(0).clamp_min_(1)
    chance = 1.0 + _BY_CHANCE * count.rsqrt()
    more = (off.square_() - chance * noise.nanmedian(0).values).nan_to_num_(0.0).mul_(count >= _LEAST)
    return more.clamp_min_(0.0).sqrt_().mul_(_TAIL)


def _look_around(places: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Pixels around others, in the flattened image, ``(k, m)``; those of the
    edge stand for what lies beyond.
    """
    offset = torch.arange(-_REACH, _REACH + 1, device=places.device)
    y = (places[:, None] // width + offset).clamp_(0, height - 1)
    x = (places[:, None] % width + offset).clamp_(0, width - 1)
    return (y[:, :, None] * width + x[:, None, :]).flatten(1)
