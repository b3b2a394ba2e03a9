# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Draw a catalogue of sources on pixels."""

from __future__ import annotations

__all__ = ("draw_scene", "draw_truth")

from collections.abc import Callable

import astropy.table
import galsim
import numpy as np

from ._scene import source_profile

type PixelMap = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Takes x and y of the grid of the scene, returns x and y of an image."""

MAX_STAMP = 320
"""Largest stamp of one source, in pixels, unless another is asked for."""

_FINEST_FOLDING = 1e-4
"""Share of the flux of a source that may lie outside its stamp at best."""


def draw_scene(
    catalog: astropy.table.Table,
    *,
    height: int,
    width: int,
    x0: int = 0,
    y0: int = 0,
    pixel_scale: float = 0.168,
    psf: Callable[..., galsim.GSObject],
    to_image: PixelMap | None = None,
    faintest: float = 1.0,
    method: str = "auto",
    max_stamp: int = MAX_STAMP,
) -> np.ndarray:
    """Draw sources through a PSF, without noise.

    Parameters
    ----------
    catalog
        Sources, as `make_catalog` makes them.
    height, width
        Shape of the image.
    x0, y0
        Pixel of the image's first column and row.
    pixel_scale
        Size in arcseconds of a pixel of the grid of the scene.
    psf
        Called with keywords ``x`` and ``y`` (pixels of the image), returns
        the profile of a point source of flux 1 on pixels of `pixel_scale`
        arcseconds.
    to_image
        Mapping from the grid of the scene to the image; `None` when they are
        the same. Its local Jacobian shapes the galaxies; the flux of a source
        is what the sum of its pixels gives.
    faintest
        Flux in nJy of a source's wings that may be left out.
    method
        ``auto`` to integrate over the pixels, ``no_pixel`` where the PSF
        includes them.
    max_stamp
        Largest stamp of one source, in pixels.

    Returns
    -------
    `numpy.ndarray`
        Flux in nJy per pixel, float64 ``(y, x)``.
    """
    image = galsim.ImageD(np.zeros((height, width)), xmin=x0, ymin=y0)
    for source in catalog:
        x, y, jacobian = locate(float(source["x"]), float(source["y"]), to_image)
        if not (-max_stamp < x - x0 < width + max_stamp and -max_stamp < y - y0 < height + max_stamp):
            continue
        gsparams = galsim.GSParams(
            folding_threshold=float(np.clip(faintest / source["flux"], _FINEST_FOLDING, 5e-3)),
            maximum_fft_size=16384,
        )
        profile = psf(x=x, y=y).withGSParams(gsparams)
        if source["type"] == "star":
            profile = profile * float(source["flux"])
        else:
            galaxy = source_profile(source)
            if jacobian is not None:
                galaxy = galaxy.transform(*jacobian.ravel()) / abs(np.linalg.det(jacobian))
            profile = galsim.Convolve(galaxy, profile, gsparams=gsparams)
        _add(profile, image, x=x, y=y, pixel_scale=pixel_scale, method=method, largest=max_stamp)
    return image.array


def locate(x: float, y: float, to_image: PixelMap | None) -> tuple[float, float, np.ndarray | None]:
    """Return the place in the image and the Jacobian there.

    The Jacobian is ``[[dx/dx', dx/dy'], [dy/dx', dy/dy']]``, pixels of the
    image per pixel of the grid of the scene; `None` where they are the same.
    """
    if to_image is None:
        return x, y, None
    step = 1.0
    xs, ys = to_image(
        np.array([x, x + step, x - step, x, x]),
        np.array([y, y, y, y + step, y - step]),
    )
    jacobian = np.array([[xs[1] - xs[2], xs[3] - xs[4]], [ys[1] - ys[2], ys[3] - ys[4]]]) / (2 * step)
    return float(xs[0]), float(ys[0]), jacobian


def draw_truth(
    catalog: astropy.table.Table,
    *,
    height: int,
    width: int,
    x0: int = 0,
    y0: int = 0,
    pixel_scale: float = 0.168,
    target_fwhm: float = 2.5,
    psf: galsim.GSObject | None = None,
) -> np.ndarray:
    """Draw the noiseless sky at a Gaussian PSF, or at another one.

    Parameters
    ----------
    catalog
        Sources, as `make_catalog` makes them.
    height, width
        Shape of the image.
    x0, y0
        Pixel of the image's first column and row.
    pixel_scale
        Size of a pixel, in arcseconds.
    target_fwhm
        FWHM of the Gaussian PSF in pixels; it includes the pixel response.
    psf
        PSF to draw with instead, in arcseconds along the axes of the grid;
        it includes the pixel response.

    Returns
    -------
    `numpy.ndarray`
        Flux in nJy per pixel, float32 ``(y, x)``.
    """
    profile = psf or galsim.Gaussian(fwhm=target_fwhm * pixel_scale)
    image = draw_scene(
        catalog,
        height=height,
        width=width,
        x0=x0,
        y0=y0,
        pixel_scale=pixel_scale,
        psf=lambda *, x, y: profile,
        method="no_pixel",
    )
    return image.astype(np.float32)


def _add(
    profile: galsim.GSObject,
    image: galsim.Image,
    *,
    x: float,
    y: float,
    pixel_scale: float,
    method: str,
    largest: int,
) -> None:
    """Add one profile, centred at x and y, where its stamp hits the image."""
    size = min(profile.getGoodImageSize(pixel_scale), largest)
    center = galsim.PositionI(round(x), round(y))
    bounds = galsim.BoundsI(
        center.x - size // 2, center.x + size // 2, center.y - size // 2, center.y + size // 2
    )
    overlap = bounds & image.bounds
    if not overlap.isDefined():
        return
    # A whole stamp of a galaxy that fills the image could be too large.
    stamp = galsim.ImageD(bounds if size <= MAX_STAMP else overlap, scale=pixel_scale)
    profile.drawImage(image=stamp, center=galsim.PositionD(x, y), method=method)
    image[overlap] += stamp[overlap]
