# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""What bright stars and artifacts leave around them."""

from __future__ import annotations

__all__ = ("footprint", "ideal_artifact", "rings", "streak_leakage")

import astropy.table
import numpy as np
from scipy.ndimage import binary_dilation, generate_binary_structure

_OUTER = 20
"""Largest radius of a ring, in pixels."""

_REACH = 3
"""Pixels around an artifact that are searched for its flux."""


def rings(
    image: np.ndarray,
    truth_image: np.ndarray,
    sources: astropy.table.Table,
    *,
    sigma: float | np.ndarray,
    psf_fwhm: float,
) -> astropy.table.Table:
    """Measure rings around bright stars.

    The error ``(image - truth) / sigma`` is reduced to its median over the
    azimuth in annuli of one pixel, from 1.5 FWHM outwards: a neighbour does
    not move it, a ring does.

    Parameters
    ----------
    image
        Image ``(y, x)`` in nJy per pixel.
    truth_image
        Noiseless sky at the PSF of the image.
    sources
        As of `select_sources`; usable stars of S/N 100 or more are measured.
    sigma
        Noise of a pixel that a ring would have to be seen against: a number,
        as `coadd_unit`, or the local one ``(y, x)`` of a coadd.
    psf_fwhm
        FWHM of the PSF of the image, in pixels.

    Returns
    -------
    `astropy.table.Table`
        One row a source: ``height`` of the highest and ``depth`` of the
        deepest annulus in sigma, both positive, 0 without such an annulus,
        and their ``height_radius`` and ``depth_radius`` in pixels; NaN
        where not measured.
    """
    bright = np.array(sources["usable"]) & (np.array(sources["kind"]) == "star")
    bright &= np.array(sources["snr"]) >= 100.0
    error = (np.asarray(image, dtype=float) - truth_image) / sigma
    names = ("height", "depth", "height_radius", "depth_radius")
    figures = np.full((len(sources), 4), np.nan)
    radii = np.arange(int(np.ceil(1.5 * psf_fwhm)), _OUTER + 1)
    for i in np.flatnonzero(bright):
        x, y = float(sources["x"][i]), float(sources["y"][i])
        top, left = max(round(y) - _OUTER - 1, 0), max(round(x) - _OUTER - 1, 0)
        cut = error[top : round(y) + _OUTER + 2, left : round(x) + _OUTER + 2]
        rows, columns = np.mgrid[top : top + cut.shape[0], left : left + cut.shape[1]]
        annulus = np.rint(np.hypot(rows - y, columns - x)).astype(int)
        profile = np.array([np.median(cut[annulus == radius]) for radius in radii])
        high, low = int(np.argmax(profile)), int(np.argmin(profile))
        figures[i] = max(profile[high], 0.0), max(-profile[low], 0.0), radii[high], radii[low]
    return astropy.table.Table(figures, names=names)


def ideal_artifact(artifacts: np.ndarray, sky_sigma: np.ndarray) -> np.ndarray:
    """What artifacts put into an ideal inverse-variance mean coadd.

    Parameters
    ----------
    artifacts
        Light added to each exposure, nJy per pixel, ``(n, y, x)``.
    sky_sigma
        Noise of the sky in each exposure, ``(n,)``.

    Returns
    -------
    `numpy.ndarray`
        Weighted mean ``(y, x)`` in nJy per pixel.
    """
    weight = np.asarray(sky_sigma, dtype=float) ** -2.0
    return np.tensordot(weight / weight.sum(), np.asarray(artifacts, dtype=float), axes=1)


def footprint(light: np.ndarray) -> np.ndarray:
    """Tell which pixels of images ``(..., y, x)`` an artifact reaches, with 3
    pixels around it, bool.
    """
    touched = np.abs(light) > 1e-3 * np.abs(light).max()
    cross = generate_binary_structure(2, 1)[(np.newaxis,) * (light.ndim - 2)]
    return binary_dilation(touched, cross, iterations=_REACH)


def streak_leakage(
    image: np.ndarray,
    reference: np.ndarray,
    artifact: np.ndarray,
    *,
    region: np.ndarray | None = None,
) -> float:
    """Share of an artifact's flux that is left in an image.

    ``sum (image - reference) / sum artifact`` over the artifact and
    3 pixels around it: 1 if the image is a plain mean, 0 if the
    artifact has gone, negative if light was taken away with it.

    Parameters
    ----------
    image
        Image ``(y, x)`` in nJy per pixel.
    reference
        The same without the artifact: best the result of the same method on
        the same noise. With the noiseless sky at the PSF of the image the
        noise stays in: its standard deviation is 0.02 in white noise of a
        mean of 4 exposures with a trail of the simulator, and grows as the
        square root of their number.
    artifact
        `ideal_artifact`, ``(y, x)``.
    region
        Pixels to use, bool ``(y, x)``, e.g. those without bright sources;
        `None` for all.

    Returns
    -------
    `float`
        The share; NaN if there is no artifact in the region.
    """
    near = footprint(artifact)
    if region is not None:
        near &= region
    flux = float(np.sum(artifact[near], dtype=float))
    if flux == 0:
        return np.nan
    left = np.asarray(image, dtype=float)[near] - np.asarray(reference, dtype=float)[near]
    return float(left.sum() / flux)
