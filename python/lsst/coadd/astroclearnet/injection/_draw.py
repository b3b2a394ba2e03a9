# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Draw sources as an exposure, or a coadd, sees them."""

from __future__ import annotations

__all__ = ("Drawn", "draw_light")

import dataclasses

import astropy.wcs
import galsim
import numpy as np
from astropy.table import Table

from ..core import InvalidExposureError, PsfModel
from ..core.warp._frame import Frame, measure_pixel
from ..core.warp._warped_psf import normalise_kernel
from ..simulate import draw_scene, flux_from_mag
from ..simulate._draw import MAX_STAMP
from ._profiles import FLAGS, check_catalog, flag_sources, make_profile

_INTERPOLANT = galsim.Lanczos(9)
"""Between the pixels of a PSF. A star that is off the centre of its pixel has
an error of 0.05 % of its peak where the FWHM is 3.5 pixels; with the default
of galsim 0.4 %."""


_LARGEST_STAMP = 8192
"""Side of a stamp, in pixels, up to which memory and time allow to draw it."""

_FOLDINGS = 1e-4, 3e-4, 1e-3, 5e-3
"""Share of the flux of a source that may lie outside its stamp: the first for
which the stamp is not too large."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Drawn:
    """What `draw_light` drew."""

    light: np.ndarray
    """Flux in nJy per pixel, float64 ``(y, x)``."""

    touched: np.ndarray
    """Pixels within a stamp that was drawn, bool ``(y, x)``."""

    cores: np.ndarray
    """The 3 x 3 pixels around the centre of each source, bool ``(y, x)``."""

    catalog: Table
    """Sources near the frame, with columns ``injection_id``,
    ``injection_flag``, ``injection_draw_size`` (px), ``x`` and ``y`` (pixels
    of the frame) beside those of the injection catalogue."""


def draw_light(catalog: Table, frame: Frame, *, psf: PsfModel, padding: int = 100) -> Drawn:
    """Draw the sources of an injection catalogue without noise.

    Parameters
    ----------
    catalog
        Injection catalogue: ``ra``, ``dec`` in degrees, ``source_type``,
        ``mag`` (AB), and what `SOURCE_TYPES` and `make_profile` say.
    frame
        Pixels to draw on.
    psf
        PSF at a pixel position; it includes the pixel response.
    padding
        Border around the frame, in pixels, from which sources are drawn too.

    Returns
    -------
    `Drawn`
        Light and sources. A source that cannot be drawn is in the catalogue
        with a flag of `FLAGS`.

    Raises
    ------
    InjectionError
        If the catalogue lacks a column.

    Notes
    -----
    Positions go through the WCS of the frame; shapes and areas through its
    Jacobian at the source; each source is convolved with the PSF at its own
    place, as lsst/source_injection 8da8778 inject_engine.py:691-775 does. The
    PSF is scaled to sum 1, which is how all of this package takes it;
    upstream scales it to the aperture of the calibration.
    """
    check_catalog(catalog)
    near = _locate(catalog, frame, padding=padding)
    shape = frame.height, frame.width
    light, touched, cores = np.zeros(shape), np.zeros(shape, bool), np.zeros(shape, bool)
    for row in near:
        if row["injection_flag"]:
            continue
        try:
            part, stamp = _draw_source(row, frame, psf)
        except InvalidExposureError:
            row["injection_flag"] |= 1 << FLAGS["PSF_COMPUTE_ERROR"]
            continue
        except galsim.GalSimFFTSizeError:
            row["injection_flag"] |= 1 << FLAGS["FFT_SIZE_ERROR"]
            continue
        drawn = np.argwhere(stamp)
        if not len(drawn):
            row["injection_flag"] |= 1 << FLAGS["NO_OVERLAP"]
            continue
        row["injection_draw_size"] = int((np.ptp(drawn, axis=0) + 1).max())
        light[part] += stamp
        touched[part] |= stamp != 0
        column, line = round(row["x"]) - frame.x0, round(row["y"]) - frame.y0
        cores[max(line - 1, 0) : max(line + 2, 0), max(column - 1, 0) : max(column + 2, 0)] = True
    return Drawn(light=light, touched=touched, cores=cores, catalog=near)


def _locate(catalog: Table, frame: Frame, *, padding: int) -> Table:
    """Return the sources near the frame, ordered by id, with their place and
    their flags.
    """
    ra, dec = (np.ma.filled(np.ma.asarray(catalog[name], dtype=float), np.nan) for name in ("ra", "dec"))
    valid = np.isfinite(ra) & (np.abs(dec) <= 90)
    catalog, ra, dec = catalog[valid], ra[valid], dec[valid]
    x, y = (np.asarray(value, float) for value in frame.wcs.sky_to_pixel(ra=ra, dec=dec))
    left, bottom = frame.x0 - padding - 0.5, frame.y0 - padding - 0.5
    right, top = frame.x0 + frame.width + padding - 0.5, frame.y0 + frame.height + padding - 0.5
    inside = (x >= left) & (x < right) & (y >= bottom) & (y < top)
    if inside.any():
        # A WCS may put the other side of the sky into the frame.
        back_ra, back_dec = frame.wcs.pixel_to_sky(x=x[inside], y=y[inside])
        turn = np.abs((back_ra - ra[inside] + 180) % 360 - 180) * np.cos(np.radians(dec[inside]))
        inside[inside] = (turn < 1e-4) & (np.abs(back_dec - dec[inside]) < 1e-4)
    near = catalog[inside]
    ids = np.asarray(catalog["injection_id"] if "injection_id" in catalog.colnames else range(len(catalog)))
    header = {
        "injection_id": ids[inside].astype(np.int64),
        "injection_flag": flag_sources(near),
        "injection_draw_size": np.zeros(len(near), int),
        "x": x[inside],
        "y": y[inside],
    }
    rest = near[[name for name in near.colnames if name not in header]]
    result = Table({**header, **{name: rest[name] for name in rest.colnames}}, meta=dict(catalog.meta))
    result.meta.update(FLAGS)
    result.sort("injection_id")
    return result


def _draw_source(row: Table.Row, frame: Frame, psf: PsfModel) -> tuple[tuple[slice, slice], np.ndarray]:
    """Draw one source on the part of the frame that its stamp can reach."""
    x, y = float(row["x"]), float(row["y"])
    scale = measure_pixel(frame.wcs, x=x, y=y)
    kernel = galsim.ImageD(normalise_kernel(psf(x=x, y=y), label=frame.label), scale=scale)
    profile_of_psf = galsim.InterpolatedImage(kernel, x_interpolant=_INTERPOLANT, flux=1.0)
    profile = make_profile(row)
    is_star = isinstance(profile, galsim.DeltaFunction)
    size, folding = _find_size(profile_of_psf if is_star else galsim.Convolve(profile, profile_of_psf), scale)
    half = size // 2 + 1
    left, bottom = max(round(x) - half, frame.x0), max(round(y) - half, frame.y0)
    right = max(min(round(x) + half + 1, frame.x0 + frame.width), left)
    top = max(min(round(y) + half + 1, frame.y0 + frame.height), bottom)
    part = (
        slice(bottom - frame.y0, top - frame.y0),
        slice(left - frame.x0, right - frame.x0),
    )
    if right == left or top == bottom:
        return part, np.zeros((top - bottom, right - left))
    to_sky = _tangent_plane(float(row["ra"]), float(row["dec"]), scale)

    def to_image(east: np.ndarray, north: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        ra, dec = to_sky.all_pix2world(east, north, 0)
        return frame.wcs.sky_to_pixel(ra=ra, dec=dec)

    flux = float(flux_from_mag(float(row["mag"])))
    source = {
        "x": [0.0],
        "y": [0.0],
        "flux": [flux],
        "type": ["star" if is_star else "galaxy"],
        "profile": np.array([profile], dtype=object),
    }
    stamp = draw_scene(
        Table(source),
        height=top - bottom,
        width=right - left,
        x0=left,
        y0=bottom,
        pixel_scale=scale,
        psf=lambda *, x, y: profile_of_psf,
        to_image=to_image,
        faintest=folding * flux,
        method="no_pixel",
        max_stamp=size,
    )
    return part, stamp


def _find_size(profile: galsim.GSObject, scale: float) -> tuple[int, float]:
    """Return the side of the stamp that a profile needs, in pixels, and the
    share of its flux that may lie outside; that of small sources is not
    looked at.

    Raises
    ------
    galsim.GalSimFFTSizeError
        If the stamp would be too large.
    """
    for folding in _FOLDINGS:
        params = galsim.GSParams(folding_threshold=folding)
        size = profile.withGSParams(params).getGoodImageSize(scale)
        if size <= _LARGEST_STAMP:
            return max(MAX_STAMP, size), folding
    raise galsim.GalSimFFTSizeError("The stamp is too large.", size)


def _tangent_plane(ra: float, dec: float, scale: float) -> astropy.wcs.WCS:
    """Return a plane that touches the sky at a source: x to the East, y to
    the North, in units of `scale` arcsec.
    """
    wcs = astropy.wcs.WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [ra, dec]
    wcs.wcs.crpix = [1.0, 1.0]
    wcs.wcs.cdelt = [scale / 3600, scale / 3600]
    wcs.wcs.set()
    return wcs
