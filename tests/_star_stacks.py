# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Stacks of two stars, and what a fit makes of them."""

import numpy as np

from lsst.coadd.astroclearnet.core import CellStack, FitOptions, fit_patch

SIZE, HALO = 48, 24
STARS = ((30.3, 40.2, 2000.0), (61.1, 69.8, 5000.0))
"""x and y in the stack, and flux in units of the noise of a pixel."""


def draw_star(x: float, y: float, fwhm: float) -> np.ndarray:
    """Gaussian of sum 1 on the pixels of a stack."""
    sigma = fwhm / np.sqrt(8 * np.log(2))
    axis = np.arange(SIZE + 2 * HALO)
    squared = (axis[:, None] - y) ** 2 + (axis - x) ** 2
    return np.exp(-0.5 * squared / sigma**2) / (2 * np.pi * sigma**2)


def make_stack(fwhms, *, stars=STARS, sigmas=None, gain=np.inf, curve=None) -> CellStack:
    """Observe stars through Gaussian PSFs.

    Parameters
    ----------
    fwhms
        Of the exposures, in pixels.
    stars
        x, y and flux.
    sigmas
        Noise of a pixel of each exposure, 1 if not given.
    gain
        Electrons in a unit of light.
    curve
        Relative brightness of all stars in each exposure.
    """
    rng = np.random.default_rng(4)
    sigmas = np.ones(len(fwhms)) if sigmas is None else sigmas
    side = SIZE + 2 * HALO
    light = np.zeros((len(fwhms), side, side))
    curve = np.ones(len(fwhms)) if curve is None else curve
    for x, y, flux in stars:
        light += [flux * share * draw_star(x, y, fwhm) for share, fwhm in zip(curve, fwhms, strict=True)]
    variance = np.asarray(sigmas)[:, None, None] ** 2 + light / gain
    axis = np.arange(-15, 16)
    psf = [np.exp(-4 * np.log(2) * (axis[:, None] ** 2 + axis**2) / fwhm**2) for fwhm in fwhms]
    return CellStack(
        image=rng.normal(light, np.sqrt(variance)).astype(np.float32),
        variance=variance.astype(np.float32),
        good=np.ones(light.shape, bool),
        psf=np.array([kernel / kernel.sum() for kernel in psf], np.float32),
        labels=tuple(f"exposure {t}" for t in range(len(fwhms))),
    )


def measure_fluxes(stack: CellStack, *, plane="coadd", stars=STARS, **options) -> np.ndarray:
    """Fit a stack; return fluxes with the declared PSF over the true ones."""
    chosen = FitOptions(cell_size=SIZE, halo=HALO, n_threads=1, **options)
    fit = fit_patch(lambda tile, halo: stack, height=SIZE, width=SIZE, options=chosen)
    inner = np.s_[HALO:-HALO, HALO:-HALO]
    profiles = [draw_star(x, y, chosen.target_fwhm)[inner].ravel() for x, y, _ in stars]
    found = np.linalg.lstsq(np.array(profiles).T, getattr(fit, plane).ravel().astype(float))[0]
    return found / [flux for *_, flux in stars]
