# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Detection after one filter for all images."""

from __future__ import annotations

__all__ = ("Detection", "completeness", "find_peaks", "searched_area")

import dataclasses
from collections.abc import Sequence

import astropy.table
import numpy as np
import scipy.spatial
from scipy.ndimage import maximum_filter
from scipy.signal import oaconvolve

from lsst.coadd.astroclearnet.simulate import PIXEL_SCALE

from ._images import detection_filter
from ._summary import share_error

_BORDER = 12
"""Pixels at the edges where no peak counts; as in `select_sources`."""

_MATCH_RADIUS = 3.0
"""Largest distance of a peak from its source, in pixels."""


def find_peaks(
    image: np.ndarray,
    truth_image: np.ndarray,
    sources: astropy.table.Table,
    *,
    sigma: float | np.ndarray = 1.0,
) -> astropy.table.Table:
    """List the local maxima of a filtered image, and what they are.

    The filter, a Gaussian about as broad as the PSF of a coadd, is the same
    for every image that is compared.

    Parameters
    ----------
    image
        Image ``(y, x)`` in nJy per pixel.
    truth_image
        Noiseless sky at the PSF of the image.
    sources
        As of `select_sources`.
    sigma
        Noise to divide by where it differs from place to place, ``(y, x)``.

    Returns
    -------
    `astropy.table.Table`
        One row a positive maximum of 3 x 3 pixels: ``x``, ``y``, ``value``
        after the filter; ``source``, the row of the source of S/N > 1
        whose highest peak it is, or -1; ``false``: no source near it, and
        the filtered truth there is less than half of its value. A peak on
        the wing of a bright source is neither, nor is a second one near a
        source.
    """
    kernel = detection_filter()
    smooth, smooth_truth = (
        oaconvolve(np.asarray(plane, dtype=float), kernel, mode="same") / sigma
        for plane in (image, truth_image)
    )
    top = (smooth == maximum_filter(smooth, 3)) & (smooth > 0)
    top[:_BORDER] = top[-_BORDER:] = top[:, :_BORDER] = top[:, -_BORDER:] = False
    rows, columns = np.nonzero(top)
    value = smooth[rows, columns]
    near, source = _match(rows, columns, value, sources)
    return astropy.table.Table(
        {
            "x": columns,
            "y": rows,
            "value": value,
            "source": source,
            "false": ~near & (smooth_truth[rows, columns] < 0.5 * value),
        }
    )


def searched_area(size: int) -> float:
    """Return the area of a square image that `find_peaks` searches.

    Parameters
    ----------
    size
        Side of the image, in pixels.

    Returns
    -------
    `float`
        Square arcminutes, without the border.
    """
    return (max(size - 2 * _BORDER, 0) * PIXEL_SCALE / 60) ** 2


def _match(
    rows: np.ndarray,
    columns: np.ndarray,
    value: np.ndarray,
    sources: astropy.table.Table,
) -> tuple[np.ndarray, np.ndarray]:
    """Say which peaks are near a source, and whose best peak each is."""
    real = np.flatnonzero(np.array(sources["snr"]) > 1)
    owner = np.full(len(value), -1)
    if not len(real) or not len(value):
        return np.zeros(len(value), dtype=bool), owner
    tree = scipy.spatial.KDTree(np.column_stack([sources["x"], sources["y"]])[real])
    distance, nearest = tree.query(np.column_stack([columns, rows]))
    near = distance <= _MATCH_RADIUS
    order = np.flatnonzero(near)[np.argsort(-value[near], kind="stable")]
    _, first = np.unique(nearest[order], return_index=True)
    owner[order[first]] = real[nearest[order[first]]]
    return near, owner


@dataclasses.dataclass(frozen=True, kw_only=True)
class Detection:
    """How many sources are found at a rate of false ones."""

    completeness: float
    """Share of the sources with a peak above the threshold."""

    error: float
    """That of the share, as of `share_error`, and what the threshold does to
    it: the highest false peak is one of chance, and the number of false ones
    above a threshold scatters as its root does."""

    threshold: float
    """Lowest value at which the false rate is kept."""

    false_per_arcmin2: float
    """False peaks above the threshold."""

    n: int
    """How many sources."""


def completeness(
    peaks: astropy.table.Table | Sequence[astropy.table.Table],
    sources: astropy.table.Table | Sequence[astropy.table.Table],
    *,
    area: float,
    false_rate: float = 0.0,
    snr: tuple[float, float] = (3.0, np.inf),
) -> Detection:
    """Measure completeness at a matched rate of false detections.

    Parameters
    ----------
    peaks
        As of `find_peaks`, of one image or several that share a threshold.
    sources
        The sources of each, as of `select_sources`. Those inside that are
        not members of a pair count. Rows with the same ``object``, if there
        is such a column, are one source.
    area
        Area of all images without their border, in square arcmin.
    false_rate
        False peaks per square arcmin that are accepted; 0 puts the
        threshold at the highest false peak.
    snr
        Range of the S/N of sources that count.

    Returns
    -------
    `Detection`
        Completeness at the lowest threshold that keeps the rate.
    """
    peaks = [peaks] if isinstance(peaks, astropy.table.Table) else list(peaks)
    sources = [sources] if isinstance(sources, astropy.table.Table) else list(sources)
    false = np.concatenate([np.array(table["value"])[table["false"]] for table in peaks])
    false = np.append(np.sort(false)[::-1], 0.0)
    accepted = min(int(np.floor(false_rate * area + 1e-9)), len(false) - 1)
    more = min(accepted + round((accepted + 1) ** 0.5), len(false) - 1)
    threshold = float(false[accepted])
    found, objects = _find(peaks, sources, threshold=threshold, snr=snr)
    loose, _ = _find(peaks, sources, threshold=false[more], snr=snr)
    share = found.mean() if len(found) else np.nan
    return Detection(
        completeness=float(share),
        error=float(np.hypot(share_error(found, objects), loose.mean() - share)) if len(found) else np.nan,
        threshold=threshold,
        false_per_arcmin2=float(np.sum(false > threshold) / area),
        n=len(found),
    )


def _find(
    peaks: Sequence[astropy.table.Table],
    sources: Sequence[astropy.table.Table],
    *,
    threshold: float,
    snr: tuple[float, float],
) -> tuple[np.ndarray, np.ndarray]:
    """Return which of the sources that count have a peak above a threshold,
    and which source each is.
    """
    found, objects = [], []
    for number, (table, scene) in enumerate(zip(peaks, sources, strict=True)):
        counts = scene["inside"] & (scene["pair"] < 0) & (scene["snr"] >= snr[0]) & (scene["snr"] < snr[1])
        counts = np.array(counts)
        owners = np.array(table["source"])[table["value"] > threshold]
        hit = np.zeros(len(scene), dtype=bool)
        hit[owners[owners >= 0]] = True
        found.append(hit[counts])
        rows = [f"{number} {row}" for row in range(len(scene))]
        objects.append(np.array(scene["object"] if "object" in scene.colnames else rows)[counts])
    return np.concatenate(found), np.concatenate(objects)
