# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""A camera like Hyper Suprime-Cam: detectors, distortion, PSF models."""

from __future__ import annotations

__all__ = ("DETECTORS", "PIXEL_SCALE", "SimDetector", "detector_wcs", "make_piff_psf", "point_at")

import dataclasses
from typing import TYPE_CHECKING

import astropy.wcs
import galsim
import numpy as np

if TYPE_CHECKING:
    import piff

PIXEL_SCALE = 0.168
"""Size of a pixel on the axis of the camera, in arcseconds."""

DISTORTION = -1.1e-10
"""Relative change of the field angle with the squared distance from the axis,
per pixel^2; the leading term of the distortion model of obs_subaru."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SimDetector:
    """Place of a detector in the focal plane.

    Numbers as in obs_subaru, hsc/camera/camera.py.
    """

    id: int
    name: str
    offset_x: float
    """Focal-plane x of its centre, in pixels."""
    offset_y: float
    """Focal-plane y of its centre, in pixels."""
    yaw: float
    """Rotation in the focal plane, in degrees."""
    width: int = 2048
    height: int = 4176

    @property
    def center(self) -> np.ndarray:
        """Pixel x and y of its centre (`numpy.ndarray`)."""
        return np.array([(self.width - 1) / 2, (self.height - 1) / 2])

    @property
    def rotation(self) -> np.ndarray:
        """Matrix from pixels to the axes of the focal plane."""
        return _rotation(self.yaw)


DETECTORS = {
    detector.id: detector
    for detector in (
        SimDetector(id=49, name="0_12", offset_x=0.28, offset_y=-1925.76, yaw=0.0073),
        SimDetector(id=50, name="1_12", offset_x=0.70, offset_y=2325.48, yaw=180.0515),
        SimDetector(id=57, name="0_08", offset_x=-2123.83, offset_y=-1926.79, yaw=-0.0346),
        SimDetector(id=58, name="1_16", offset_x=-2121.87, offset_y=2324.64, yaw=180.0056),
    )
}
"""The four detectors around the axis: two stand upside down."""


def detector_wcs(
    detector: SimDetector, *, ra: float, dec: float, rotation: float, scale: float = PIXEL_SCALE
) -> astropy.wcs.WCS:
    """Return the WCS of a detector, TAN with SIP distortion.

    Parameters
    ----------
    detector
        The detector.
    ra, dec
        Where the axis of the camera points, in degrees.
    rotation
        Rotation of the camera, in degrees.
    scale
        Size of a pixel on the axis, in arcseconds.

    Returns
    -------
    `astropy.wcs.WCS`
        Of the whole detector: FITS pixel (1, 1) is pixel (0, 0). The SIP
        terms are the camera's radial distortion, so that the detectors of a
        visit fit together.
    """
    axis = detector.center - detector.rotation.T @ np.array([detector.offset_x, detector.offset_y])
    wcs = astropy.wcs.WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN-SIP", "DEC--TAN-SIP"]
    wcs.wcs.crval = [ra, dec]
    wcs.wcs.crpix = axis + 1.0
    # Focal-plane x runs west, y runs north at rotation 0.
    wcs.wcs.cd = np.diag([-1.0, 1.0]) @ _rotation(rotation) @ detector.rotation * scale / 3600.0
    a, b = np.zeros((4, 4)), np.zeros((4, 4))
    a[3, 0] = a[1, 2] = b[0, 3] = b[2, 1] = DISTORTION
    wcs.sip = astropy.wcs.Sip(a, b, None, None, wcs.wcs.crpix)
    wcs.wcs.set()
    return wcs


def point_at(
    detector: SimDetector, *, x: float, y: float, ra: float, dec: float, rotation: float
) -> tuple[float, float]:
    """Return where to point so that a position falls on a pixel.

    Parameters
    ----------
    detector
        Detector of the pixel.
    x, y
        The pixel; it may be off the detector.
    ra, dec
        The position, in degrees.
    rotation
        Rotation of the camera, in degrees.

    Returns
    -------
    ra, dec : `float`
        Axis of the camera, in degrees.
    """
    axis_ra, axis_dec = ra, dec
    for _ in range(8):
        wcs = detector_wcs(detector, ra=axis_ra, dec=axis_dec, rotation=rotation)
        now_ra, now_dec = wcs.all_pix2world(x, y, 0)
        axis_ra += ra - float(now_ra)
        axis_dec += dec - float(now_dec)
    return axis_ra, axis_dec


def make_piff_psf(rng: np.random.Generator, *, fwhm: float, x: float, y: float, beta: float) -> piff.PSF:
    """Make a PSF that varies over a detector, as a Piff model.

    Parameters
    ----------
    rng
        Random numbers.
    fwhm
        FWHM at the reference pixel without the pixel response, in
        arcseconds.
    x, y
        The reference pixel.
    beta
        Exponent of the Moffat profile.

    Returns
    -------
    `piff.PSF`
        A sheared Moffat profile; its size is a quadratic and its shear a
        linear function of the pixel position: over 700 pixels they change by
        about 2 per cent and 0.01. Piff integrates it over the
        pixels, so its drawn images include their response.
    """
    import piff

    size = galsim.Moffat(beta=beta, fwhm=fwhm).half_light_radius
    shear = np.clip(rng.normal(0.0, 0.02, 2), -0.05, 0.05)
    slopes = rng.normal(0.0, 1.0, 8)
    stars = []
    for dy in np.linspace(-800.0, 800.0, 4):
        for dx in np.linspace(-800.0, 800.0, 4):
            growth = 2e-5 * np.dot(slopes[:2], (dx, dy)) + 1e-8 * np.dot(slopes[2:4], (dx**2, dy**2))
            g1, g2 = shear + 1e-5 * (slopes[4:].reshape(2, 2) @ (dx, dy))
            star = piff.Star.makeTarget(x=x + dx, y=y + dy, scale=PIXEL_SCALE)
            params = np.array([size * (1.0 + growth), g1, g2])
            stars.append(piff.Star(star.data, star.fit.newParams(params, params_var=np.ones(3), num=None)))
    psf = piff.SimplePSF(piff.Moffat(beta=beta), piff.Polynomial(orders=[2, 1, 1]))
    # What a fit would set; only newer versions have a method for it.
    psf.wcs = {0: galsim.PixelScale(PIXEL_SCALE)}
    psf.pointing = None
    psf.interp.initialize(stars)
    psf.interp.solve(stars)
    psf.stars = stars
    return psf


def _rotation(degrees: float) -> np.ndarray:
    turn = np.deg2rad(degrees)
    return np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
