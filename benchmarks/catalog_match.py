# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Sources of catalogues of the stack and true ones."""

from __future__ import annotations

import astropy.table
import numpy as np
from scipy.spatial import KDTree

from lsst.coadd.astroclearnet.comparison._photometry import Sources, select_isolated
from lsst.images import Image

_DISTANCE = 14
"""Pixels around a source in which none of more than 2 % of its flux may be."""

_MATCH = 2.0
"""Largest distance in pixels of a source from its true place."""


def find_isolated(truth: astropy.table.Table) -> np.ndarray:
    """Tell which true sources have no neighbour; bool ``(n,)``."""
    sources = Sources(x=np.array(truth["x"]), y=np.array(truth["y"]), sky=np.zeros((1, 1), bool))
    return select_isolated(sources, np.array(truth["flux"]), distance=_DISTANCE)


def place_single(catalog: astropy.table.Table) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of what was measured alone, not of parents and empty
    places, ``(n,)``, and its places x, y, ``(n, 2)``.
    """
    single = (catalog["deblend_nChild"] == 0) & np.isfinite(catalog["slot_Centroid_x"])
    rows = np.flatnonzero(single & ~catalog["merge_peak_sky"])
    return rows, np.stack([catalog[f"slot_Centroid_{axis}"][rows] for axis in "xy"], axis=1)


def find_rows(catalog: astropy.table.Table, truth: astropy.table.Table) -> tuple[np.ndarray, np.ndarray]:
    """Find true sources in a catalogue.

    Returns
    -------
    rows
        Row of each true source, among those that were measured alone, or
        that of any other if it is not there; ``(n,)``.
    found
        Whether it is there, bool ``(n,)``.
    """
    rows, places = place_single(catalog)
    distance, nearest = KDTree(places).query(np.stack([truth["x"], truth["y"]], axis=1))
    return rows[np.minimum(nearest, len(rows) - 1)], distance < _MATCH


def look_up(image: Image, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the pixels nearest to places; those at the border for what lies
    beyond.
    """
    rows, columns = (
        np.clip(np.rint(values).astype(int) - side.start, 0, side.size - 1)
        for values, side in ((y, image.bbox.y), (x, image.bbox.x))
    )
    return image.array[rows, columns]
