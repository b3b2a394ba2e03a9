# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Close pairs."""

from __future__ import annotations

__all__ = ("measure_pairs", "pair_positions")

import astropy.table
import numpy as np
from scipy.ndimage import map_coordinates


def pair_positions(sources: astropy.table.Table) -> np.ndarray:
    """List the pairs that are on the image.

    Parameters
    ----------
    sources
        As of `select_sources`.

    Returns
    -------
    `numpy.ndarray`
        ``x1, y1, x2, y2`` of each pair in order of its number, ``(n, 4)``.
    """
    pair = np.array(sources["pair"])
    places = np.column_stack([sources["x"], sources["y"]]).astype(float)
    rows = []
    for number in np.unique(pair[pair >= 0]):
        members = np.flatnonzero(pair == number)
        if len(members) == 2 and np.all(sources["inside"][members]):
            rows.append(places[members].ravel())
    return np.array(rows).reshape(-1, 4)


def measure_pairs(image: np.ndarray, pairs: np.ndarray) -> astropy.table.Table:
    """Say which pairs are resolved.

    The image is interpolated with quintic splines along the line through the
    two places. A pair is resolved if there is one maximum within 0.4 of the
    separation from each, and the lowest value between these is at least
    5 % below the lower of them (0 would be Sparrow's criterion; 0.26
    is Rayleigh's for two equal Airy discs).

    Parameters
    ----------
    image
        Image ``(y, x)``.
    pairs
        ``x1, y1, x2, y2`` in pixels, ``(n, 4)``.

    Returns
    -------
    `astropy.table.Table`
        One row a pair: ``separation`` in pixels, ``dip`` (0 if there are no
        two maxima) and ``resolved``.
    """
    pairs = np.asarray(pairs, dtype=float).reshape(-1, 4)
    t = np.linspace(-0.6, 1.6, 221)
    step = pairs[:, 2:] - pairs[:, :2]
    x = pairs[:, :1] + step[:, :1] * t
    y = pairs[:, 1:2] + step[:, 1:] * t
    lines = map_coordinates(np.asarray(image, dtype=float), [y, x], order=5, mode="nearest")
    dip = np.array([_dip(line, t) for line in lines]).reshape(-1)
    return astropy.table.Table({"separation": np.hypot(*step.T), "dip": dip, "resolved": dip >= 0.05})


def _dip(line: np.ndarray, t: np.ndarray) -> float:
    peaks = []
    for place in (0.0, 1.0):
        near = np.flatnonzero(np.abs(t - place) <= 0.4)
        highest = near[np.argmax(line[near])]
        # The end of the range is the flank of something else.
        if highest in (near[0], near[-1]) or line[highest] <= 0:
            return 0.0
        peaks.append(highest)
    lower = min(line[peaks[0]], line[peaks[1]])
    return float(1.0 - line[peaks[0] : peaks[1] + 1].min() / lower)
