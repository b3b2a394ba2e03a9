# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Noise, level and depth of the sky, masks and seams."""

from __future__ import annotations

__all__ = ("make_mask_rows", "make_seam_rows", "make_sky_rows")

import numpy as np
import sep

from .._coadds import CoaddView
from .._magnitudes import mag_from_flux
from ..flux_errors import aperture_flux_error, noise_area
from ._detect import filter_psf, is_restored
from ._photometry import Sources, half_width, middle_psf
from ._rows import Row, make_row

_MIN_PIXELS, _MIN_APERTURES = 100, 20
_BLOCK = 25  # side in pixels of the blocks whose means tell how noise is correlated


def make_sky_rows(view: CoaddView, sources: Sources, aperture_rms: float, *, radius: float) -> list[Row]:
    """Make the rows about the pixels without sources.

    A restored image has no depth and no noise of apertures: what its method
    takes for nothing is 0 there, however bright it may be.

    Parameters
    ----------
    view
        Plane.
    sources
        Gives the pixels free of sources.
    aperture_rms
        Scatter of empty apertures at the common PSF, in nJy.
    radius
        Their radius, in pixels.
    """
    sky = sources.sky & ~view.bad & ~view.saturated
    values = view.image[sky].astype(float)
    n = len(values)
    rms = mean = pull = np.nan
    count = 1.0
    if n >= _MIN_PIXELS:
        low, high = np.percentile(values, (0.1, 99.9))
        inner = (values >= low) & (values <= high)
        rms, mean = float(values[inner].std()), float(values[inner].mean())
        with np.errstate(divide="ignore", invalid="ignore"):
            pulls = (values / np.sqrt(view.variance[sky].astype(float)))[inner]
        pulls = pulls[np.isfinite(pulls)]
        pull = float(pulls.std()) if len(pulls) else np.nan
        count = _count_independent(view.image, sky, rms)
    correlation, pairs = _correlate(view.image, sky)
    depth, depth_error = _measure_depth(view, sky)
    aperture_pull, n_apertures = _measure_aperture_pull(view, sky, radius)
    if is_restored(view):
        aperture_rms = aperture_pull = depth = depth_error = float("nan")
    return [
        make_row("sky_rms", view.name, rms, rms / np.sqrt(2 * count), n=n),
        make_row("sky_mean", view.name, mean, rms / np.sqrt(count), n=n),
        make_row("sky_pull", view.name, pull, pull / np.sqrt(2 * count), n=n),
        make_row("sky_aperture_rms", view.name, aperture_rms, n=n),
        make_row(
            "sky_aperture_pull",
            view.name,
            aperture_pull,
            aperture_pull / np.sqrt(2 * max(n_apertures, 1)),
            n=n_apertures,
        ),
        make_row("pixel_correlation", view.name, correlation, 1 / np.sqrt(count), n=pairs),
        make_row("point_source_depth", view.name, depth, depth_error, n=n),
    ]


def _count_independent(image: np.ndarray, sky: np.ndarray, rms: float) -> float:
    """Return how many independent pixels would tell as much as those of the
    sky, whose noise is correlated and whose level may vary: from the scatter
    of the means of blocks.
    """
    low, high = np.percentile(image[sky], (0.1, 99.9))
    inner = sky & (image >= low) & (image <= high)
    rows, columns = (side // _BLOCK for side in image.shape)
    blocks = (slice(rows * _BLOCK), slice(columns * _BLOCK))
    shape = (rows, _BLOCK, columns, _BLOCK)
    number = inner[blocks].reshape(shape).sum(axis=(1, 3))
    total = np.where(inner, image, 0)[blocks].astype(float).reshape(shape).sum(axis=(1, 3))
    full = number > _BLOCK**2 // 2
    if np.count_nonzero(full) < 10 or not rms > 0:
        return float(np.count_nonzero(sky))
    means = total[full] / number[full]
    area = np.mean(number[full] * (means - np.average(means, weights=number[full])) ** 2) / rms**2
    return np.count_nonzero(sky) / max(float(area), 1.0)


def _correlate(image: np.ndarray, sky: np.ndarray) -> tuple[float, int]:
    """Return the correlation of neighbouring sky pixels, and their number."""
    if sky.sum() < _MIN_PIXELS:
        return float("nan"), 0
    low, high = np.percentile(image[sky], (0.1, 99.9))
    inner = sky & (image >= low) & (image <= high)
    deviation = np.where(inner, image - image[inner].mean(), 0).astype(float)
    power, pairs = float(np.mean(deviation[inner] ** 2)), 0
    products = 0.0
    for ahead, behind in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        both = inner[ahead] & inner[behind]
        products += float(np.sum((deviation[ahead] * deviation[behind])[both]))
        pairs += int(both.sum())
    return products / max(pairs, 1) / power if power > 0 else float("nan"), pairs


def _measure_aperture_pull(view: CoaddView, sky: np.ndarray, radius: float) -> tuple[float, int]:
    """Return the scatter of the fluxes of apertures side by side on empty sky
    in units of their errors, and the number of apertures.
    """
    step = int(np.ceil(2 * radius)) + 1
    y, x = (axis.ravel() for axis in np.mgrid[tuple(slice(step, side - step, step) for side in sky.shape)])
    if not len(x):
        return float("nan"), 0

    def add(plane: np.ndarray) -> np.ndarray:
        return sep.sum_circle(np.ascontiguousarray(plane, dtype=np.float64), x, y, radius, subpix=0)[0]

    empty = add(~sky) == 0
    if np.count_nonzero(empty) < _MIN_APERTURES:
        return float("nan"), int(np.count_nonzero(empty))
    flux, variance = add(view.image)[empty], add(view.variance)[empty]
    area = noise_area(view.noise_area, np.sqrt(np.pi) * radius)
    error = aperture_flux_error(
        np.sqrt(variance),
        radius=radius,
        sky_variance=variance / (np.pi * radius**2),
        area=area if np.isfinite(area) else 1.0,
    )
    return half_width(flux / error), len(flux)


def _measure_depth(view: CoaddView, sky: np.ndarray) -> tuple[float, float]:
    """Return the 5 sigma depth for point sources and its error."""
    if sky.sum() < _MIN_PIXELS:
        return float("nan"), float("nan")
    flux, _ = filter_psf(view, ~view.bad & (view.variance > 0))
    sigma = half_width(flux[sky])
    # Fluxes within a PSF are not independent: count places, not pixels.
    kernel = middle_psf(view)
    area = 40.0 if kernel is None else kernel.sum() ** 2 / np.sum(kernel**2)
    error = 1.0857 / np.sqrt(2 * max(sky.sum() / area, 1))
    return float(mag_from_flux(5 * sigma)), float(error)


def make_mask_rows(view: CoaddView) -> list[Row]:
    """Make a row of each mask plane (`CoaddView.mask_fractions`)."""
    n = view.image.size
    return [
        make_row("mask_fraction", view.name, value, n=n, suffix=plane)
        for plane, value in view.mask_fractions.items()
    ]


def make_seam_rows(view: CoaddView, sources: Sources) -> list[Row]:
    """Test the edges of cells for steps of the sky, which are compared with
    the noise; a restored image has none.

    Parameters
    ----------
    view
        Plane; without edges of cells there is no row.
    sources
        Gives the pixels free of sources.
    """
    sky = sources.sky & ~view.bad
    at_seams, elsewhere = [], []
    for axis, (seams, origin) in enumerate(zip(view.seams, (view.x0, view.y0), strict=True)):
        image, free = (plane if axis == 0 else plane.T for plane in (view.image, sky))
        lines = np.array(seams, dtype=int) - origin
        if not len(lines):
            continue
        cell = int(lines[0])
        at_seams += [step for line in lines for step in _steps(image, free, line, cell)]
        for offset in (-(cell // 3), -(cell // 4), cell // 4, cell // 3):
            elsewhere += [step for line in lines for step in _steps(image, free, line + offset, cell)]
    if not any(view.seams):
        return []
    ratio, n = np.nan, len(at_seams)
    if (
        not is_restored(view)
        and n > 1
        and len(elsewhere) > 1
        and (quiet := np.sqrt(np.mean(np.square(elsewhere)))) > 0
    ):
        ratio = float(np.sqrt(np.mean(np.square(at_seams))) / quiet)
    return [make_row("seam_ratio", view.name, ratio, ratio / np.sqrt(2 * max(n, 1)), n=n)]


def _steps(image: np.ndarray, free: np.ndarray, line: int, cell: int) -> list[float]:
    """Return mean steps of the sky from column ``line - 1`` to ``line``,
    one for each length of a cell, in units of what noise lets expect.
    """
    if not 0 < line < image.shape[1]:
        return []
    both = free[:, line] & free[:, line - 1]
    difference = (image[:, line] - image[:, line - 1]).astype(float)
    steps = []
    for start in range(0, len(both), cell):
        values = difference[start : start + cell][both[start : start + cell]]
        if len(values) >= 20:
            steps.append(float(np.mean(values) * np.sqrt(len(values))))
    return steps
