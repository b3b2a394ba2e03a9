# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Write the files of exposures.yaml into the current directory."""

import numpy as np
from astropy.io import fits

SIDE, SKY, SIGMA = 240, 250.0, 4.0  # pixels; counts
rng = np.random.default_rng(1)
stars = rng.uniform(30, SIDE - 30, (12, 2)), 10 ** rng.uniform(3.0, 4.5, 12)  # x, y; counts


def draw(x, y, fwhm, side):
    """Draw a star of flux 1."""
    rows, columns = np.mgrid[:side, :side]
    sigma = fwhm / 2.355
    return np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2)) / (2 * np.pi * sigma**2)


for visit, fwhm, shift in ((101, 3.0, 0.0), (102, 4.0, 2.3), (103, 3.5, -1.6)):  # pixels
    image = SKY + rng.normal(0, SIGMA, (SIDE, SIDE))
    for (x, y), flux in zip(*stars, strict=True):
        image += flux * draw(x + shift, y, fwhm, SIDE)
    mask = np.zeros((SIDE, SIDE), np.int16)
    mask[:, 50] = 1  # a bad column
    header = fits.Header({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 150.0, "CRVAL2": 2.5})
    header.update(
        {"CRPIX1": SIDE / 2 + shift, "CRPIX2": SIDE / 2, "CDELT1": -0.2 / 3600, "CDELT2": 0.2 / 3600}
    )
    fits.writeto(f"v{visit}_image.fits", image.astype(np.float32), header, overwrite=True)
    variance = np.full((SIDE, SIDE), SIGMA**2, np.float32)
    fits.writeto(f"v{visit}_variance.fits", variance, overwrite=True)
    fits.writeto(f"v{visit}_mask.fits", mask, overwrite=True)
    fits.writeto(f"v{visit}_psf.fits", draw(16, 16, fwhm, 33), overwrite=True)
