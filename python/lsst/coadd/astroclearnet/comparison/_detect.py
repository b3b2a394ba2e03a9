# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Detection of sources in a plane, whatever its PSF and noise."""

from __future__ import annotations

__all__ = ("detect_sources", "extract", "filter_psf", "is_restored", "point_source_error")

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.ndimage
import sep
from scipy.signal import oaconvolve

from .._coadds import CoaddView, sample_gaussian
from ..flux_errors import sky_scatter, variance_between_sources
from ._photometry import Sources, half_width, middle_psf

_PARTS = 100000
"""Peaks that one group of pixels may have while it is taken apart; the 1024 of
`sep` are too few for the halo of a very bright star."""


def detect_sources(view: CoaddView, *, threshold: float, least_error: float = 0.0) -> Sources:
    """Detect sources with `sep` after a filter with the plane's own PSF.

    Noise is the declared one between sources, or, where that is larger, the
    scatter of the sky in the filtered image: resampled noise is correlated,
    and the blank sky of a restored image is emptier than its errors say.
    Sources add nothing to this scatter, however many there are. What a faint
    source adds to the variance, much in a coadd that is sharper than its
    exposures, says how well it is known, not whether it is there.

    Parameters
    ----------
    view
        Plane to detect in.
    threshold
        Detection threshold after the filter, in sigma.
    least_error
        Least error of the flux of a point source, in nJy; see
        `point_source_error`.

    Returns
    -------
    `Sources`
        Positions, and the pixels left after everything above 1.5 sigma and
        its surroundings has been cut away.
    """
    good = ~view.bad & (view.variance > 0)
    if not good.any():
        return Sources(x=np.zeros(0), y=np.zeros(0), sky=good, footprint=~good)
    view = _without_faint(view, good)
    flux, error = filter_psf(view, good)
    scatter = max(_sky_scatter(np.where(good, flux / error, 0), ~good), 1.0)
    signal = np.where(good, flux / np.maximum(scatter * error, least_error), 0).astype(np.float32)
    # Its cleaning takes faint galaxies beside bright stars away.
    options = dict(filter_kernel=None, minarea=3, deblend_cont=0.001, clean=False)
    found, segments = extract(signal, threshold, mask=~good, segmentation_map=True, **options)
    image = np.ascontiguousarray(view.image, dtype=np.float32)
    noise = np.sqrt(view.variance).astype(np.float32)
    level = _sky_scatter(image / noise, ~good)
    # The sky of a restored image may be 0 in nearly all pixels: then all that
    # is not would be a source.
    noise *= max(level, 1.0) if is_restored(view) else level
    _, wide = extract(image, 1.5, err=noise, mask=~good, segmentation_map=True, minarea=5)
    sources = scipy.ndimage.binary_dilation(wide > 0, iterations=6)
    return Sources(
        x=found["x"] + view.x0, y=found["y"] + view.y0, sky=good & ~sources, footprint=segments > 0
    )


def point_source_error(views: Sequence[CoaddView]) -> float:
    """Return the error of the flux of a point source on the sky, in nJy, in
    the best of the planes that have noise; 0 if none has.

    A restored image, which is never negative, has an empty sky that tells
    no threshold: what its method takes for nothing would count as a source.
    Its detections are compared with those of the planes beside it at the
    same flux.
    """
    errors = []
    for view in views:
        good = ~view.bad & (view.variance > 0)
        if good.any() and not is_restored(view):
            flux, error = filter_psf(_without_faint(view, good), good)
            scatter = max(_sky_scatter(np.where(good, flux / error, 0), ~good), 1.0)
            errors.append(scatter * float(np.median(error[good])))
    return min(errors, default=0.0)


def _without_faint(view: CoaddView, good: np.ndarray) -> CoaddView:
    """Replace the variance by that without faint sources."""
    return dataclasses.replace(view, variance=variance_between_sources(view.variance, good))


def is_restored(view: CoaddView) -> bool:
    """Whether a plane is never negative."""
    good = ~view.bad
    return bool(good.any() and view.image[good].min() >= 0)


def _sky_scatter(image: np.ndarray, bad: np.ndarray) -> float:
    """Measure the scatter of the pixels between sources; where nearly all are
    equal, of all pixels, because nothing is left by the clipping.
    """
    scatter = sky_scatter(image, bad)
    return scatter if scatter > 0 else half_width(image[~bad])


def filter_psf(view: CoaddView, good: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fit a point source at every pixel.

    Parameters
    ----------
    view
        Plane; its PSF is that of the middle of its data, or a Gaussian of
        3.5 pixels.
    good
        Pixels to use, bool ``(y, x)``.

    Returns
    -------
    flux, error
        Flux of a point source at each pixel, and its error if the declared
        variance were white noise; nJy, float ``(y, x)``.
    """
    kernel = middle_psf(view)
    kernel = sample_gaussian(3.5, 15) if kernel is None else kernel / kernel.sum()
    variance = np.where(good, view.variance, np.median(view.variance[good])).astype(float)
    image = np.where(good, view.image, 0).astype(float)
    power = np.sum(kernel**2)
    flux = oaconvolve(image, kernel[::-1, ::-1], mode="same") / power
    error = np.sqrt(np.maximum(oaconvolve(variance, kernel[::-1, ::-1] ** 2, mode="same"), 0)) / power
    return flux, np.maximum(error, 1e-3 * np.median(error[good]))


def extract(
    image: np.ndarray,
    threshold: float,
    *,
    err: float | np.ndarray | None = None,
    mask: np.ndarray | None = None,
    **options: Any,
) -> Any:
    """Run `sep.extract` with room for whatever is above the threshold.

    With its own limits it stops with an exception where a halo covers much of
    the image.

    Parameters
    ----------
    image
        Sky-subtracted image, float32 ``(y, x)``.
    threshold
        In the unit of the image, or of ``err`` where that is given.
    err
        Noise of a pixel, one number or ``(y, x)``.
    mask
        Pixels to leave out, bool ``(y, x)``.
    **options
        Of `sep.extract`.
    """
    above = image > threshold * (1.0 if err is None else err)
    # A filter of `sep` spreads what is above by a pixel or two.
    sep.set_extract_pixstack(max(300000, min(image.size, 2 * np.count_nonzero(above)) + 1000))
    sep.set_sub_object_limit(_PARTS)
    return sep.extract(image, threshold, err=err, mask=mask, **options)
