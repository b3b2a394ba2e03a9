# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which pixels of a stack are artifacts."""

from __future__ import annotations

__all__ = ("Clipper", "brightest_nearby", "clip_against_median", "find_median")

from collections.abc import Iterator

import torch

from ._batches import parts
from ._trail import SHORTEST_TRAIL, find_trails

_MODEL_ERROR = 0.05
"""Error of the Wiener model relative to the brightest pixel nearby: its
prior and the PSF's own error leave a pattern around stars."""

_AMONG_WORST = 0.6
"""Score relative to the worst exposure's above which an exposure is clipped
with it."""

_FAINT = 5.0
"""S/N in the smoothed residual from which on light is an artifact: no pixel
of it need be bright."""

_GROW, _GROW_SMOOTH = 1.5, 2.0
"""S/N of a pixel, and of the smoothed residual, down to which what is clipped
grows."""

_SOFT = 0.12
"""Between this much below a limit and as much above it, relative to the
limit, a pixel is clipped in part: a decision of all or nothing would be
taken otherwise when a hair has changed, such as the size of the cell."""

_REACH = 6
"""Pixels by which what is clipped can grow in all."""

_AT_ONCE = 2**11
"""Pixels around which marks grow at a time."""

_BLOCK = 2**15
"""Pixels whose exposures are sorted at a time: as many as a cache holds."""


def brightest_nearby(images: torch.Tensor, reach: int) -> torch.Tensor:
    """Largest value of images ``(..., h, w)``, which must not be negative,
    within some rows and columns.
    """
    size = 2 * reach + 1
    images = torch.nn.functional.pad(images, (reach, reach, reach, reach))
    for axis in (-1, -2):
        known = 1
        while known < size:
            # Of a window of twice the size two halves are known.
            step = min(known, size - known)
            length = images.shape[axis] - step
            images = torch.maximum(images.narrow(axis, 0, length), images.narrow(axis, step, length))
            known += step
    return images


def clip_against_median(
    image: torch.Tensor, good: torch.Tensor, variance: torch.Tensor, psf_peak: torch.Tensor
) -> torch.Tensor:
    """Find what stands far above the median of the exposures.

    The median is the lower of two middle values, so that a cosmic ray in one
    of two exposures is seen too. The tolerance allows for what seeing does
    to the peak of a star.

    Parameters
    ----------
    image, variance
        The stack, ``(n, h, w)``.
    good
        1 where a pixel can be used, else 0.
    psf_peak
        Brightest pixel of the PSF of each exposure, ``(n,)``.

    Returns
    -------
    `torch.Tensor`
        1 where good and no artifact, else 0, ``(n, h, w)``.
    """
    median = find_median(image, good)
    sharper = (psf_peak / psf_peak.median() - 1.0).clamp_min(0.0)[:, None, None]
    near = brightest_nearby(median.abs(), 2)
    used = good.clone()
    for part in parts(image):
        excess = image[part] - median
        ratio = excess * variance[part].rsqrt()
        # A lonely exposure is its own median: nothing can be said there.
        if not ratio.amax() > 5.5:
            continue
        excess /= ((0.5 + 1.3 * sharper[part]) * near).clamp_min_(1e-30)
        core = _above(ratio, 5.5) & _above(excess, 1.0) & _above(used[part], 0.0)
        if not core.amax():
            continue
        wing = brightest_nearby(core, 1) & _above(ratio, 2.0) & _above(excess, 0.5)
        marked = brightest_nearby(wing, 1) & _above(ratio, 1.5) & _above(excess, 0.3)
        used[part] *= 1 - marked
    return used


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
    """

    def __init__(self, clip_sigma: float, psf: torch.Tensor):
        self._clip_sigma = clip_sigma
        self._psf = psf

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
        for part in parts(image):
            model = (image[part] - residual[part]).abs_()
            noise = brightest_nearby(model, 2).mul_(_MODEL_ERROR).square_().add_(variance[part]).rsqrt_()
            torch.mul(residual[part], noise, out=score[part]).mul_(good[part])
            # For the time being: in proportion to the noise's share in it.
            torch.mul(noise.square_().mul_(variance[part]), score[part], out=used[part])
            # A deficit counts half.
            for one in torch.nn.functional.leaky_relu_(score[part], 0.5).abs():
                torch.maximum(worst, one, out=worst)
        worst *= _AMONG_WORST
        enough = worst * (1.0 - _SOFT)
        smooth, found = torch.empty_like(score), []
        for part in parts(image):
            smooth[part] = _smooth(used[part].clamp(max=self._clip_sigma))
            size = torch.maximum(score[part].abs(), smooth[part] * (self._clip_sigma / _FAINT))
            at = (size > enough).nonzero()
            at[:, 0] += part.start
            found.append(at)
        planes = score, used, smooth
        cores = self._judge(torch.cat(found), worst, *planes)
        kept = torch.ones_like(score)
        for some in zip(*(one.split(_AT_ONCE) for one in cores), strict=True):
            where, marks = self._grow(*some, *planes)
            kept.view(-1).scatter_reduce_(0, where.flatten(), 1.0 - marks.flatten(), "amin")
        for one, *of_one in zip(kept, *planes, self._psf, strict=True):
            if _is_long(one):
                torch.minimum(one, 1.0 - _mark_trails(*of_one), out=one)
        torch.mul(good, kept, out=used)

    def _judge(
        self,
        found: torch.Tensor,
        worst: torch.Tensor,
        score: torch.Tensor,
        light: torch.Tensor,
        smooth: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Tell how far each pixel that may be an artifact is one.

        Parameters
        ----------
        found
            Exposure, y, x of these pixels, ``(k, 3)``.
        worst
            How much a pixel must stand out, ``(h, w)``.
        score, light, smooth
            Of all pixels, ``(n, h, w)``.

        Returns
        -------
        cores
            Those that stand out, ``(j, 3)``.
        strength, sharp
            How far, from 0 to 1, and how far as a sharp artifact, ``(j,)``.
        """
        at = tuple(found.T)
        size, faint = score[at].abs(), smooth[at] * _dark(score[at], light[at])
        excess = torch.maximum(size, faint * (self._clip_sigma / _FAINT))
        strength = _soft(excess / worst[at[1:]], 1.0)
        sharp = strength * _soft(size, 4 * self._clip_sigma)
        out = strength > 0
        return found[out], strength[out], sharp[out]

    @staticmethod
    def _grow(
        cores: torch.Tensor,
        strength: torch.Tensor,
        sharp: torch.Tensor,
        score: torch.Tensor,
        light: torch.Tensor,
        smooth: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Grow from each pixel that stands out, in a window around it.

        Parameters
        ----------
        cores, strength, sharp
            As `_judge` returns them.
        score, light, smooth
            Of all pixels, ``(n, h, w)``.

        Returns
        -------
        where
            Places of the windows in the flattened stack, ``(j, s, s)``.
        marks
            How far they are to be clipped, from 0 to 1, same shape.
        """
        _, height, width = score.shape
        offset = torch.arange(-_REACH, _REACH + 1, device=score.device)
        y = (cores[:, 1, None] + offset).clamp_(0, height - 1)
        x = (cores[:, 2, None] + offset).clamp_(0, width - 1)
        where = (cores[:, :1] * height + y)[:, :, None] * width + x[:, None, :]
        seen = score.view(-1)[where]
        faint = smooth.view(-1)[where] * _dark(seen, light.view(-1)[where])
        # A deficit, which has been halved, counts in full here.
        excess = torch.maximum(torch.nn.functional.leaky_relu(seen, -2.0), faint * (_GROW / _GROW_SMOOTH))
        noticed = _soft(excess, _GROW)
        marks = torch.zeros_like(seen)
        # Resampling spreads a sharp artifact with alternating signs.
        for reach, marked in ((1, strength), (2, sharp)):
            middle = marks[:, _REACH - reach : _REACH + reach + 1, _REACH - reach : _REACH + reach + 1]
            torch.maximum(middle, marked[:, None, None], out=middle)
        for _ in range(2):
            marks = torch.maximum(marks, torch.minimum(brightest_nearby(marks, 2), noticed))
        return where, marks


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
    share = torch.where(score < 0, 0.5 * light, light).abs() / score.abs().clamp(min=1e-20)
    return ((share - 0.5) / (2.0 * _SOFT) + 0.5).clamp(0.0, 1.0)


def _soft(values: torch.Tensor, limit: float) -> torch.Tensor:
    """From 0 well below a limit to 1 well above it."""
    return ((values / limit - 1.0) / (2.0 * _SOFT) + 0.5).clamp(0.0, 1.0)


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


def _above(values: torch.Tensor, limit: torch.Tensor | float) -> torch.Tensor:
    """1 where values are above a limit, else 0; bytes are worked faster than
    truth values.
    """
    return (values > limit).view(torch.uint8)


def find_median(image: torch.Tensor, good: torch.Tensor) -> torch.Tensor:
    """Lower median of the good pixels along the first axis; 0 where there is
    none. All pixels are sorted at once, by comparing whole images.
    """
    n = len(image)
    flat, good = image.flatten(1), good.flatten(1)
    result = torch.empty_like(flat[0])
    network = list(_sorting_network(n))
    size = _BLOCK if image.device.type == "cpu" else flat.shape[1]
    for start in range(0, flat.shape[1], size):
        place = slice(start, start + size)
        planes = list(torch.where(good[:, place] > 0, flat[:, place], torch.inf))
        spare = torch.empty_like(planes[0])
        for low, high in network:
            torch.minimum(planes[low], planes[high], out=spare)
            torch.maximum(planes[low], planes[high], out=planes[high])
            planes[low], spare = spare, planes[low]
        middle = ((good[:, place].sum(0) - 1.0) / 2.0).floor()
        chosen = torch.zeros_like(planes[0])
        for k in range((n + 1) // 2):
            chosen += torch.nan_to_num(planes[k], posinf=0.0) * (middle == k)
        result[place] = chosen
    return result.reshape(image.shape[1:])


def _sorting_network(n: int) -> Iterator[tuple[int, int]]:
    """Comparisons that sort n values (Batcher's odd-even merge sort; Knuth,
    The Art of Computer Programming 3, algorithm 5.2.2 M).
    """
    top = 1 << max(0, (n - 1).bit_length() - 1)
    p = top
    while p > 0:
        q, r, d = top, 0, p
        while d > 0:
            yield from ((i, i + d) for i in range(n - d) if i & p == r)
            d, q, r = q - p, q >> 1, p
        p >>= 1
