# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Widths and shapes of stars against the attached PSF."""

from __future__ import annotations

__all__ = ("StarShapes", "find_stars", "make_star_rows", "measure_stars")

import dataclasses

import numpy as np
import scipy.ndimage

from .._coadds import CoaddView
from ._photometry import Moments, Sources, adaptive_moments, half_width
from ._rows import Row, make_row, measure_median

_HALF = 12  # half the side of the stamps, in pixels
_BREADTH, _LOCUS = 0.04, 0.02
"""Stars are within the first of their common width, which is looked for in
intervals of the second to each side."""

_LEAST_STARS = 5
"""So many must agree on a width before the PSF is doubted."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class StarShapes:
    """Adaptive moments of stars and of the PSF at their places, ``(n,)``."""

    fwhm: np.ndarray
    """FWHM of the stars in pixels; NaN where it was not measured."""

    psf_fwhm: np.ndarray
    """FWHM in pixels of the attached PSF as it is, centred on a pixel."""

    placed_fwhm: np.ndarray
    """The same of the PSF moved to the star's place in its pixel: a sharp PSF
    looks broader between two pixels."""

    e: np.ndarray
    """Ellipticity e1, e2 of the stars ``(n, 2)``."""

    psf_e: np.ndarray
    """The same of the PSF at their places, ``(n, 2)``."""


def measure_stars(view: CoaddView, sources: Sources, stars: np.ndarray) -> StarShapes:
    """Measure stars and the PSF at their places in the same way.

    Parameters
    ----------
    view
        Plane.
    sources
        Positions.
    stars
        Which of them are stars, bool ``(n,)``.
    """
    figures = [_measure_star(view, sources.x[i], sources.y[i]) for i in np.flatnonzero(stars)]
    table = np.array(figures, dtype=float).reshape(-1, 7)
    return StarShapes(
        fwhm=table[:, 0],
        psf_fwhm=table[:, 1],
        placed_fwhm=table[:, 2],
        e=table[:, 3:5],
        psf_e=table[:, 5:7],
    )


def _measure_star(view: CoaddView, x: float, y: float) -> tuple[float, ...]:
    """Return the seven figures of a star; all NaN if one is missing."""
    nothing = (np.nan,) * 7
    stamp = view.stamp(x=x, y=y, half=_HALF)
    kernel = view.psf(x=x, y=y)
    if stamp is None or kernel is None:
        return nothing
    star, psf = adaptive_moments(stamp), adaptive_moments(kernel)
    if star is None or psf is None:
        return nothing
    placed = adaptive_moments(_place(kernel, star))
    if placed is None:
        return nothing
    return star.fwhm, psf.fwhm, placed.fwhm, star.e1, star.e2, placed.e1, placed.e2


def _place(kernel: np.ndarray, star: Moments) -> np.ndarray:
    """Move a PSF by the fraction of a pixel at which a star was found."""
    shift = (star.dy, star.dx)
    if max(map(abs, shift)) > 1.5:
        return kernel
    return scipy.ndimage.shift(kernel, shift, order=5, mode="constant")


def find_stars(view: CoaddView, sources: Sources, candidates: np.ndarray) -> np.ndarray:
    """Find the point sources by their width.

    Parameters
    ----------
    view
        Plane; if its PSF is wrong, stars are what agrees on another width.
    sources
        Positions.
    candidates
        Bright and isolated sources, bool ``(n,)``.

    Returns
    -------
    `numpy.ndarray`
        Stars, bool ``(n,)``: width within 4 % of the PSF's, or of another
        that at least 5 sources, and twice as many, agree on.
    """
    stars = np.zeros(len(sources.x), dtype=bool)
    shapes = measure_stars(view, sources, candidates)
    ratio = shapes.fwhm / shapes.placed_fwhm
    stars[candidates] = np.abs(ratio / _find_locus(ratio) - 1) < _BREADTH
    return stars


def _find_locus(ratio: np.ndarray) -> float:
    """Return the width of stars in units of that of the PSF: 1, unless hardly
    any source has that, but many have another; stars chosen by a wrong PSF
    would hide that it is wrong.
    """
    known = np.sort(ratio[np.isfinite(ratio)])
    if not len(known):
        return 1.0
    first, last = (
        np.searchsorted(known, (1 + step) * known, side=side)
        for step, side in ((-_LOCUS, "left"), (_LOCUS, "right"))
    )
    most = int(np.argmax(last - first))
    n_most, n_expected = last[most] - first[most], np.count_nonzero(np.abs(known - 1) < _BREADTH)
    if n_most < _LEAST_STARS or n_most <= 2 * n_expected:
        return 1.0
    return float(np.median(known[first[most] : last[most]]))


def make_star_rows(view: CoaddView, shapes: StarShapes) -> list[Row]:
    """Make the rows about widths and shapes.

    Parameters
    ----------
    view
        Plane.
    shapes
        As of `measure_stars`.
    """
    ratio = shapes.fwhm / shapes.placed_fwhm
    de1, de2 = (shapes.e - shapes.psf_e).T
    rows = []
    for name, values in (
        ("star_fwhm", shapes.fwhm * view.pixel_scale),
        ("psf_fwhm", shapes.psf_fwhm * view.pixel_scale),
        ("star_over_psf_fwhm", ratio),
        ("star_ellipticity", np.hypot(*shapes.e.T)),
        ("e1_diff", de1),
        ("e2_diff", de2),
    ):
        value, error, n = measure_median(values)
        rows.append(make_row(name, view.name, value, error, n=n))
        if name in ("star_fwhm", "star_over_psf_fwhm"):
            scatter = half_width(values) if n > 2 else np.nan
            rows.append(
                make_row(f"{name}_scatter", view.name, scatter, scatter / np.sqrt(2 * max(n, 1)), n=n)
            )
    return rows
