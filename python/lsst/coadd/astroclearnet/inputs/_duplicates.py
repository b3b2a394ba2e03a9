# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Exposures that are there twice, under two names."""

from __future__ import annotations

__all__ = ("SeenPixels",)

import hashlib

import numpy as np


class SeenPixels:
    """Tells an exposure that holds the same pixels as one before it.

    Such an exposure would count double, and its noise would be taken for sky:
    no two exposures have the same noise. Only pixels that are equal to the
    last bit are told, which noise never makes so by chance.
    """

    def __init__(self):
        self._names: dict[bytes, str] = {}

    def find(self, name: str, image: np.ndarray, good: np.ndarray) -> str:
        """Return which exposure before has the same pixels; empty if none.

        Parameters
        ----------
        name
            Of the exposure, for those that come after.
        image
            Its pixels.
        good
            Those to be used, bool of the same shape. Without one that is not
            0 nothing is told: empty exposures are all the same.
        """
        pixels = np.where(good, image, 0)
        if not pixels.any():
            return ""
        digest = hashlib.sha256(pixels).digest()
        first = self._names.setdefault(digest, name)
        return "" if first == name else first
