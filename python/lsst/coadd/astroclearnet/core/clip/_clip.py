# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which pixels of a stack are artifacts."""

from __future__ import annotations

__all__ = ("Clipper",)

import torch

from .._batches import parts
from ._first_look import FirstLook
from ._neighbours import SOFT, Scores, brightest_nearby, soft, take
from ._sky_planes import find_skies
from ._trail import SHORTEST_TRAIL, find_trails
from ._variability import allow_for_variability

_MODEL_ERROR = 0.05
"""Error of the Wiener model relative to the brightest pixel nearby: its
prior and the PSF's own error leave a pattern around stars."""

_AMONG_WORST = 0.6
"""Score relative to the worst exposure's above which an exposure is clipped
with it."""

_FAINT = 5.0
"""S/N in the smoothed residual from which on light is an artifact: no pixel
of it need be bright."""

_DARK = 3.0
"""S/N of the smoothed residual from which on an exposure that is too dark can
make the others look bright."""

_GROW, _GROW_SMOOTH = 1.5, 2.0
"""S/N of a pixel, and of the smoothed residual, down to which what is clipped
grows."""

_REACH = 6
"""Pixels by which what is clipped can grow in all."""

_AT_ONCE = 2**11
"""Pixels around which marks grow at a time."""


class Clipper:
    """Marks artifacts in the residuals of a model.

    Light is added by cosmic rays, trails and ghosts, never taken away, and an
    artifact drags the model up in all exposures. So an exposure is clipped
    only where it is among the worst, and a deficit counts half. What no pixel
    shows, wings and faint trails, the sum over a small square does. There only
    light counts, and only where noise is the larger part of the error: a model
    is wrong in many pixels at once.

    Parameters
    ----------
    clip_sigma
        Residual in sigma above which a pixel can be an artifact.
    psf
        PSF kernels of the exposures, ``(n, p, p)``.
    look
        The same exposures against their median.
    """

    def __init__(self, clip_sigma: float, psf: torch.Tensor, look: FirstLook):
        self._clip_sigma = clip_sigma
        self._psf = psf
        self._look = look

    def find_used(
        self,
        image: torch.Tensor,
        residual: torch.Tensor,
        good: torch.Tensor,
        variance: torch.Tensor,
        *,
        score: torch.Tensor,
        used: torch.Tensor,
    ) -> None:
        """Find the pixels that are no artifacts.

        Parameters
        ----------
        image, variance
            The stack, ``(n, h, w)``.
        good
            1 where a pixel can be used, else 0.
        residual
            Exposures minus model.
        score
            Room for an intermediate result, ``(n, h, w)``.
        used
            Becomes 1 where good and no artifact, 0 where not, and between
            them where it is hard to tell.
        """
        worst = torch.full_like(image[0], self._clip_sigma / _AMONG_WORST)
        rows, columns = find_skies(residual, good, variance)
        for part in parts(image):
            model = (image[part] - residual[part]).abs_()
            noise = brightest_nearby(model, 2).mul_(_MODEL_ERROR).square_().add_(variance[part]).rsqrt_()
            torch.sub(residual[part], rows[part], out=score[part]).sub_(columns[part])
            score[part].mul_(noise).mul_(good[part])
            if (allowed := self._look.may_be_artifact(part)) is not None:
                torch.where(score[part] > 0, score[part] * allowed, score[part], out=score[part])
            # For the time being: in proportion to the noise's share in it.
            torch.mul(noise.square_().mul_(variance[part]), score[part], out=used[part])
            # A deficit counts half.
            for one in torch.nn.functional.leaky_relu_(score[part], 0.5).abs():
                torch.maximum(worst, one, out=worst)
        worst *= _AMONG_WORST
        enough = worst * (1.0 - SOFT)
        smooth, found = torch.empty_like(score), []
        for part in parts(image):
            smooth[part] = _smooth(used[part].clamp(max=self._clip_sigma))
        _forgive_deficit(smooth, good, variance)
        for part in parts(image):
            size = torch.maximum(score[part].abs(), smooth[part] * (self._clip_sigma / _FAINT))
            at = (size > enough).nonzero()
            at[:, 0] += part.start
            found.append(at)
        scores, found = Scores(score, used, smooth), torch.cat(found)
        about = {"image": image, "residual": residual, "good": good, "variance": variance, "psf": self._psf}
        self._expect_variability(found, worst, scores, **about)
        cores = self._judge(found, worst, scores)
        kept = torch.ones_like(score)
        for some in zip(*(one.split(_AT_ONCE) for one in cores), strict=True):
            where, marks = self._grow(*some, scores)
            kept.view(-1).scatter_reduce_(0, where.flatten(), 1.0 - marks.flatten(), "amin")
        for one, *of_one in zip(kept, *scores, self._psf, strict=True):
            if _is_long(one):
                torch.minimum(one, 1.0 - _mark_trails(*of_one), out=one)
        torch.mul(good, kept, out=used)

    def _expect_variability(
        self, found: torch.Tensor, worst: torch.Tensor, scores: Scores, **stack: torch.Tensor
    ) -> None:
        """Lower the scores of sources that vary, and with them what is the
        worst there; arguments as of `_judge` and `allow_for_variability`.
        """
        places = torch.unique(found[:, 1] * worst.shape[1] + found[:, 2])
        allow_for_variability(places, scores, model_error=_MODEL_ERROR, **stack)
        most = take(scores.score, places).abs_().amax(0)
        most.clamp_(min=self._clip_sigma / _AMONG_WORST)
        worst.view(-1)[places] = most.mul_(_AMONG_WORST)

    def _judge(
        self, found: torch.Tensor, worst: torch.Tensor, scores: Scores
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Tell how far each pixel that may be an artifact is one.

        Parameters
        ----------
        found
            Exposure, y, x of these pixels, ``(k, 3)``.
        worst
            How much a pixel must stand out, ``(h, w)``.
        scores
            Of all pixels.

        Returns
        -------
        cores
            Those that stand out, ``(j, 3)``.
        strength, sharp
            How far, from 0 to 1, and how far as a sharp artifact, ``(j,)``.
        """
        _, height, width = scores.score.shape
        score, light, smooth = scores.at((found[:, 0] * height + found[:, 1]) * width + found[:, 2])
        size = score.abs()
        excess = torch.maximum(size, smooth * _dark(score, light) * (self._clip_sigma / _FAINT))
        strength = soft(excess / worst[found[:, 1], found[:, 2]], 1.0)
        sharp = strength * soft(size, 4 * self._clip_sigma)
        out = strength > 0
        return found[out], strength[out], sharp[out]

    @staticmethod
    def _grow(
        cores: torch.Tensor, strength: torch.Tensor, sharp: torch.Tensor, scores: Scores
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Grow from each pixel that stands out, in a window around it.

        Parameters
        ----------
        cores, strength, sharp
            As `_judge` returns them.
        scores
            Of all pixels.

        Returns
        -------
        where
            Places of the windows in the flattened stack, ``(j, s, s)``.
        marks
            How far they are to be clipped, from 0 to 1, same shape.
        """
        _, height, width = scores.score.shape
        offset = torch.arange(-_REACH, _REACH + 1, device=cores.device)
        y = (cores[:, 1, None] + offset).clamp_(0, height - 1)
        x = (cores[:, 2, None] + offset).clamp_(0, width - 1)
        where = (cores[:, :1] * height + y)[:, :, None] * width + x[:, None, :]
        score, light, smooth = scores.at(where)
        smooth *= _dark(score, light)
        # A deficit, which has been halved, counts in full here.
        excess = torch.maximum(torch.nn.functional.leaky_relu(score, -2.0), smooth * (_GROW / _GROW_SMOOTH))
        noticed = soft(excess, _GROW)
        marks = torch.zeros_like(score)
        # Resampling spreads a sharp artifact with alternating signs.
        for reach, marked in ((1, strength), (2, sharp)):
            middle = marks[:, _REACH - reach : _REACH + reach + 1, _REACH - reach : _REACH + reach + 1]
            torch.maximum(middle, marked[:, None, None], out=middle)
        for _ in range(2):
            marks = torch.maximum(marks, torch.minimum(brightest_nearby(marks, 2), noticed))
        return where, marks


def _forgive_deficit(smooth: torch.Tensor, good: torch.Tensor, variance: torch.Tensor) -> None:
    """Take from the smoothed light of exposures what one of them lacks.

    Where the sky of an exposure is too dark, over a place or all of it, the
    model is too dark as well, and all others seem to have light there. If one
    exposure is darker than any other is bright, what the model would rise by
    without it is no light of theirs; of two nobody can tell which is wrong.

    Parameters
    ----------
    smooth
        Smoothed residuals in sigma, ``(n, h, w)``; changed in place.
    good
        1 where a pixel can be used, else 0.
    variance
        The stack's, ``(n, h, w)``.
    """
    total, largest, darkest = (torch.zeros_like(smooth[0]) for _ in range(3))
    for one, light, level in zip(good, smooth, variance, strict=True):
        weight = one / level
        total += weight
        torch.maximum(largest, weight, out=largest)
        torch.minimum(darkest, light, out=darkest)
    # Alone an exposure has nobody to be darker than.
    least = 1e-6 * total.max()
    # How much of its score one can lose to the model that it is part of.
    most = (1.0 + largest / (total - largest).clamp_min(least)).sqrt_()
    places = (-darkest * most > _DARK * (1.0 - SOFT)).flatten().nonzero()[:, 0]
    if not len(places):
        return
    light, level = take(smooth, places), take(variance, places)
    others = (total.flatten()[places] - take(good, places) / level).clamp_min_(least)
    # Against a model of the others, so that their depths do not matter.
    score = light * (1.0 + 1.0 / (level * others)).sqrt_()
    # Its own holes may not look like a trail of the others.
    rise, which = (-light * level.rsqrt() / others).max(0)
    depth = -score.gather(0, which[None])[0]
    brightest = score.amax(0)
    # One of two is as dark as the other is bright: that is still an artifact.
    several = brightest_nearby((good.sum(0) > 2.0).float(), 2).flatten()[places]
    rise.clamp_(min=0.0).mul_(several * soft(depth / brightest.clamp_min(1e-20), 1.0) * soft(depth, _DARK))
    smooth.view(len(smooth), -1).index_add_(1, places, level.rsqrt_().mul_(rise), alpha=-1.0)


def _mark_trails(
    score: torch.Tensor, light: torch.Tensor, smooth: torch.Tensor, psf: torch.Tensor
) -> torch.Tensor:
    """Tell how far pixels of one exposure lie on trails, from 0 to 1,
    ``(h, w)``. A trail is found on the dark sky, and goes on across the
    sources.
    """
    return find_trails(light, smooth * _dark(score, light), psf)


def _dark(score: torch.Tensor, light: torch.Tensor) -> torch.Tensor:
    """1 where noise is the larger part of the error, 0 on bright sources,
    where the model's is, and a pixel must tell by itself.
    """
    # Scores below 0 have been halved; light has the noise's share in it.
    share = torch.nn.functional.leaky_relu(light, 0.5).abs_().div_(score.abs().clamp_(min=1e-20))
    return share.sub_(0.5).div_(2.0 * SOFT).add_(0.5).clamp_(0.0, 1.0)


def _is_long(kept: torch.Tensor) -> bool:
    """Whether pixels ``(h, w)`` that are not kept, 1, are in as many rows or
    columns as the shortest trail is long.
    """
    return any(int((kept.amin(axis) < 1.0).sum()) >= SHORTEST_TRAIL for axis in (0, 1))


def _smooth(images: torch.Tensor) -> torch.Tensor:
    """Sum of 5 x 5 pixels ``(..., h, w)``, as wide as a PSF, over 5: white
    noise stays as strong as it was.
    """
    images = torch.nn.functional.pad(images, (2, 2, 2, 2))
    for axis in (-1, -2):
        length = images.shape[axis] - 4
        total = images.narrow(axis, 0, length) + images.narrow(axis, 1, length)
        for shift in (2, 3, 4):
            total += images.narrow(axis, shift, length)
        images = total
    return images.mul_(0.2)
