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

from ._neighbours import FEW, TO_SIGMA, Scores, soft, take

_REACH = 3
"""Pixels around the middle of a source over which its light is measured, and
within which the source is looked for that a pixel belongs to."""

_SIDE = 2 * _REACH + 1

_INNER = slice(_REACH - 2, _REACH + 3)
"""Pixels around one whose light is in its scores."""

_FAINTEST = 1.0
"""Brightness of the model in sigma of a pixel from which on a source is looked
for there."""

_BY_CHANCE = 4.6
"""Two errors of the square of a sigma that comes from median distances,
relative to it, times the root of their number."""

_TAIL = 1.5
"""What is expected of the brightest nights, over a Gaussian of that sigma: it
is the magnitude that varies, and of few exposures sigma is not well known."""

_AT_ONCE = 2**9
"""Pixels whose surroundings are compared at a time."""


def allow_for_variability(
    places: torch.Tensor,
    scores: Scores,
    *,
    image: torch.Tensor,
    residual: torch.Tensor,
    good: torch.Tensor,
    variance: torch.Tensor,
    psf: torch.Tensor,
    model_error: float,
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
    scores
        Changed there.
    image, residual
        The stack, and the stack minus the model, ``(n, h, w)``.
    good
        1 where a pixel can be used, else 0, same shape.
    variance
        The stack's, same shape.
    psf
        PSF kernels of the exposures, ``(n, p, p)``.
    model_error
        Error of the model that the scores know of, relative to the brightest
        pixel nearby.
    """
    if len(image) <= FEW:
        return
    height, width = image.shape[1:]
    here = (take(image, places) - take(residual, places)).abs_() * take(variance, places).rsqrt_()
    bright = soft(here.amax(0), _FAINTEST)
    where = bright > 0
    for some, shown in zip(places[where].split(_AT_ONCE), bright[where].split(_AT_ONCE), strict=True):
        around = _look_around(some, height, width)
        model = take(image, around) - take(residual, around)
        middle = around.gather(1, model.mean(0).argmax(1, keepdim=True))[:, 0]
        scatter = shown * _measure_scatter(middle, image, residual, good, variance, psf)
        if not scatter.any():
            continue
        inner = model.unflatten(-1, (_SIDE, _SIDE))[..., _INNER, _INNER].flatten(-2).abs()
        level = take(variance, some)
        varies = (scatter * inner.amax(-1)).square_()
        noise = level + (model_error * inner.amax(-1)).square_()
        scale = (noise / (noise + varies)).sqrt_()
        for plane in (scores.score, scores.light):
            plane.view(len(plane), -1)[:, some] *= scale
        size = inner.sum(-1) * (level * inner.shape[-1]).rsqrt_()
        scores.smooth.view(len(image), -1)[:, some] *= (1.0 + (scatter * size).square_()).rsqrt_()


def _measure_scatter(
    middle: torch.Tensor,
    image: torch.Tensor,
    residual: torch.Tensor,
    good: torch.Tensor,
    variance: torch.Tensor,
    psf: torch.Tensor,
) -> torch.Tensor:
    """Measure by how much of its light each source scatters beyond the noise.

    Its brightness is that of the model, and that of a star. One exposure
    without the source spoils the model for all, the more, the sharper they
    are; extended sources are no stars, the less, the sharper the exposures
    are. Where a source varies both tell.

    Parameters
    ----------
    middle
        Pixels in the middle of the sources, in the flattened image, ``(k,)``.
    image, residual, good, variance, psf
        As of `allow_for_variability`.

    Returns
    -------
    `torch.Tensor`
        Sigma over the source's brightness, ``(k,)``; 0 where no more than
        noise is seen.
    """
    around = _look_around(middle, *image.shape[1:])
    seen, usable, level = take(image, around), take(good, around), take(variance, middle)
    model = seen - take(residual, around)
    edge = psf.shape[-1] // 2 - _REACH
    star = torch.nn.functional.pad(psf, [-edge] * 4).flatten(1)[:, None]
    scatters = [_compare(seen, shape, usable, level) for shape in (model, star)]
    return torch.minimum(*scatters).mul_(_TAIL)


def _compare(
    seen: torch.Tensor, shape: torch.Tensor, usable: torch.Tensor, level: torch.Tensor
) -> torch.Tensor:
    """Fit a shape to each exposure, with a sky of any level; return how much
    its brightness scatters among them beyond the noise, relative to its
    median, ``(k,)``.

    Parameters
    ----------
    seen, shape, usable
        Exposures, what is fitted and pixels to fit, ``(n, k, m)``.
    level
        Variance, ``(n, k)``.
    """
    count = usable.sum(-1, keepdim=True).clamp_min(1.0)
    shape = (shape - (shape * usable).sum(-1, keepdim=True) / count) * usable
    power = shape.square().sum(-1)
    known = power > 0
    found, noise = (torch.where(known, value / power, torch.nan) for value in ((shape * seen).sum(-1), level))
    middle = found.nanmedian(0).values
    off = (found - middle).abs_().nanmedian(0).values * TO_SIGMA
    count = known.sum(0).clamp_min_(1)
    chance = 1.0 + _BY_CHANCE * count.rsqrt()
    more = (off.square_() - chance * noise.nanmedian(0).values) / middle.clamp_min(1e-30).square_()
    return more.nan_to_num_(0.0).mul_((count > FEW) & (middle > 0)).clamp_min_(0.0).sqrt_()


def _look_around(places: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Pixels around others, in the flattened image, ``(k, m)``; those of the
    edge stand for what lies beyond.
    """
    offset = torch.arange(-_REACH, _REACH + 1, device=places.device)
    y = (places[:, None] // width + offset).clamp_(0, height - 1)
    x = (places[:, None] % width + offset).clamp_(0, width - 1)
    return (y[:, :, None] * width + x[:, None, :]).flatten(1)
