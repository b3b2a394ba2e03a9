# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""What stands far above the median of the exposures."""

from __future__ import annotations

__all__ = ("FirstLook", "find_median")

from collections.abc import Iterator

import torch

from .._batches import parts
from ._neighbours import FEW, brightest_nearby, soft

_SOURCE = 5.0
"""Median in sigma from which on there is a source."""

_ABOVE = 0.15
"""How much of the brightest pixel nearby light must stand above the median
there to be an artifact, and 1.3 times as much as the exposure is sharper."""

_BLOCK = 2**15
"""Pixels whose exposures are sorted at a time: as many as a cache holds."""


class FirstLook:
    """The exposures against their median, before there is a model.

    The median is the lower of two middle values, so that a cosmic ray in one
    of two exposures is seen too. The tolerance allows for what seeing does
    to the peak of a star.

    Parameters
    ----------
    image
        The stack, ``(n, h, w)``.
    good
        1 where a pixel can be used, else 0.
    variance
        The stack's, ``(n, h, w)``.
    psf_peak
        Brightest pixel of the PSF of each exposure, ``(n,)``.
    """

    def __init__(
        self, image: torch.Tensor, good: torch.Tensor, variance: torch.Tensor, psf_peak: torch.Tensor
    ):
        self._image, self._good, self._variance = image, good, variance
        self._median = find_median(image, good)
        self._near = brightest_nearby(self._median.abs(), 2)
        self._sharper = (psf_peak / psf_peak.median() - 1.0).clamp_min(0.0)[:, None, None]
        count = good.sum(0)
        self._few = ((count >= 3) & (count <= FEW)).float()
        # Of few exposures one that lacks light moves the median to a broader
        # one, above which the sharp ones stand: not so if peaks are alike.
        self._peak = psf_peak[:, None, None]
        self._alike = find_median(image / self._peak, good) if self._few.amax() else None

    def find_used(self) -> torch.Tensor:
        """Find what stands far above the median, or far below 0.

        Returns
        -------
        `torch.Tensor`
            1 where good and no artifact, else 0, ``(n, h, w)``.
        """
        used = self._good.clone()
        for part in parts(self._image):
            excess = self._image[part] - self._median
            ratio = excess * self._variance[part].rsqrt()
            # A lonely exposure is its own median: nothing can be said there.
            if not ratio.abs().amax() > 5.5:
                continue
            excess /= self._tolerance(part, 0.5)
            core = _above(ratio, 5.5) & _above(excess, 1.0) & _above(used[part], 0.0)
            # No seeing makes less of a star than nothing.
            hole = _above(-ratio, 5.5) & _above(-excess, 2.5) & _above(used[part], 0.0)
            if core.amax():
                wing = brightest_nearby(core, 1) & _above(ratio, 2.0) & _above(excess, 0.5)
                marked = brightest_nearby(wing, 1) & _above(ratio, 1.5) & _above(excess, 0.3)
                used[part] *= 1 - marked
            if hole.amax():
                used[part] *= 1 - (brightest_nearby(hole, 1) & _above(-ratio, 1.5))
        return used

    def _tolerance(self, part: slice, share: float) -> torch.Tensor:
        """How far above the median light may stand on sources, by a share of
        their brightness beside what seeing does.
        """
        tolerance = ((share + 1.3 * self._sharper[part]) * self._near).clamp_min_(1e-30)
        if self._alike is not None:
            expected = (1.0 + share) * self._peak[part] * self._alike
            torch.maximum(tolerance, expected.sub_(self._median).mul_(self._few), out=tolerance)
        return tolerance

    def may_be_artifact(self, part: slice) -> torch.Tensor | None:
        """Tell where the light of exposures may be an artifact.

        Where one of a few exposures lacks the light of a source, because a
        hole is not masked or its calibration is wrong, the model lies below
        all others, and they would be clipped for it. So on sources that three
        to six exposures see light must stand above their median, too.

        Parameters
        ----------
        part
            Exposures.

        Returns
        -------
        `torch.Tensor` or `None`
            From 0, where it may not, to 1, shape of that part; `None` if it
            may everywhere.
        """
        if not self._few.amax():
            return None
        excess = (self._image[part] - self._median) / self._tolerance(part, _ABOVE)
        bright = soft(self._near * self._variance[part].rsqrt(), _SOURCE)
        return 1.0 - self._few * bright * (1.0 - soft(excess, 1.0))


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
