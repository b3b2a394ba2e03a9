# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Skies on which one thing can be measured well, and odd galaxies.

Each is a catalogue as `~lsst.coadd.astroclearnet.simulate.make_catalog` makes
them, on a square field with a halo around it.
"""

from __future__ import annotations

import functools

import astropy.table
import galsim
import numpy as np
import scipy.ndimage

from lsst.coadd.astroclearnet.simulate import (
    PIXEL_SCALE,
    SceneConfig,
    flux_from_mag,
    mag_from_flux,
    make_catalog,
)
from lsst.coadd.astroclearnet.simulate._scene import SERSIC_INDICES

PAIR_SEPARATIONS = (0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
"""Arcseconds."""

PAIR_MAGS = (22.0, 23.0, 24.0)
"""AB magnitudes of the members of the pairs."""

SHAPES = ("ring", "spiral", "bar", "square", "knots", "tail")
SHAPE_SNR = (30.0, 80.0, 160.0, 320.0, 640.0)
SHAPE_SPACING = 52
"""Distance between odd galaxies, in pixels."""

_GRID_SPACING, _PAIR_SPACING = 22, 32
"""The same of single sources, and of pairs."""

_SKY_SIGMA, _FWHM = 18.0, 4.4
"""Noise of the sky of an exposure in nJy per pixel, and a typical FWHM of a
PSF with its pixel in pixels, as the simulator has them."""

_FINE = 6  # samples of an odd galaxy per pixel
_EXTENT = 44  # side of its drawing, in pixels


def empty_catalog() -> astropy.table.Table:
    """Return a catalogue without sources."""
    return make_catalog(SceneConfig(density=0.0, pair_density=0.0))


def tabulate(rows: list[dict]) -> astropy.table.Table:
    """Make a catalogue of rows that hold at least ``x``, ``y`` and ``flux``.

    Columns that a row leaves out are those of a star.
    """
    template = empty_catalog()
    defaults = {"id": 0, "type": "star", "half_light_radius": 0.0, "sersic_n": 0.0, "g1": 0.0, "g2": 0.0}
    defaults |= {"pair": -1, "saturated": False}
    columns = {}
    for name in template.colnames:
        if name == "mag":
            columns[name] = mag_from_flux([row["flux"] for row in rows])
        else:
            values = [row.get(name, defaults.get(name)) for row in rows]
            columns[name] = np.array(values, dtype=template[name].dtype)
    columns["id"] = np.arange(1, len(rows) + 1)
    return astropy.table.Table(columns)


def flux_at(snr: float, *, n: int, radius: float) -> float:
    """Return about the flux in nJy that a stack of the simulator sees at a
    signal to noise.

    Parameters
    ----------
    snr
        Signal to noise after a matched filter.
    n
        Exposures.
    radius
        Half-light radius of the source, in pixels.
    """
    sigma = np.hypot(_FWHM / 2.3548, radius / 1.1774)
    return snr * _SKY_SIGMA / np.sqrt(n) * np.sqrt(4 * np.pi) * sigma


def grid_sky(
    seed: int,
    *,
    size: int,
    halo: int,
    n: int,
    snr: tuple[float, float],
) -> astropy.table.Table:
    """Lay isolated stars, small and large galaxies on a grid.

    Every third source is a star, a galaxy of 0.12 to 0.33 arcsec half-light
    radius, or one of 0.37 to 0.75 arcsec. Their S/N is drawn evenly in its
    logarithm, each place is jittered by a pixel and a half.
    """
    rng = np.random.default_rng([seed, 11])
    count, spacing = size // _GRID_SPACING, _GRID_SPACING
    order = rng.permutation(count**2)
    steps = (np.arange(count**2) + rng.uniform(size=count**2)) / count**2
    rows = []
    for rank, place in enumerate(order):
        row, column = divmod(int(place), count)
        offset = halo + (size - count * spacing) / 2 + (spacing - 1) / 2
        y, x = offset + spacing * np.array([row, column]) + rng.uniform(-1.5, 1.5, 2)
        kind = rank % 3
        radius = (0.0, rng.uniform(0.12, 0.33), rng.uniform(0.37, 0.75))[kind]
        signal = snr[0] * (snr[1] / snr[0]) ** steps[rank]
        flux = flux_at(signal, n=n, radius=radius / PIXEL_SCALE)
        source = {"x": x, "y": y, "flux": flux}
        if kind:
            g, angle = min(rng.rayleigh(0.2), 0.6), rng.uniform(0, np.pi)
            source |= {"type": "galaxy", "half_light_radius": radius, "sersic_n": rng.choice(SERSIC_INDICES)}
            source |= {"g1": g * np.cos(2 * angle), "g2": g * np.sin(2 * angle)}
        rows.append(source)
    return tabulate(rows)


def pair_sky(seed: int, *, size: int, halo: int) -> astropy.table.Table:
    """Lay pairs of equal stars on a grid, in all directions.

    Separations and magnitudes take their values in turn.
    """
    rng = np.random.default_rng([seed, 12])
    count, spacing = size // _PAIR_SPACING, _PAIR_SPACING
    rows = []
    for place in range(count**2):
        row, column = divmod(place, count)
        offset = halo + (size - count * spacing) / 2 + (spacing - 1) / 2
        centre = offset + spacing * np.array([column, row]) + rng.uniform(-1.5, 1.5, 2)
        mag = PAIR_MAGS[place // len(PAIR_SEPARATIONS) % len(PAIR_MAGS)]
        half = PAIR_SEPARATIONS[place % len(PAIR_SEPARATIONS)] / PIXEL_SCALE / 2
        angle = rng.uniform(0, np.pi)
        for sign in (1, -1):
            x, y = centre + sign * half * np.array([np.cos(angle), np.sin(angle)])
            rows.append({"x": x, "y": y, "flux": float(flux_from_mag(mag)), "pair": place})
    return tabulate(rows)


def shape_sky(seed: int, *, size: int, halo: int, n: int) -> astropy.table.Table:
    """Lay odd galaxies on a grid: every shape at every S/N.

    The catalogue has two more columns: ``shape``, and ``profile`` with the
    galaxy itself.
    """
    rng = np.random.default_rng([seed, 13])
    rows, profiles, names = [], [], []
    for i, shape in enumerate(SHAPES):
        for j, snr in enumerate(SHAPE_SNR):
            place = halo + (np.array([j, i]) + 0.5) * SHAPE_SPACING + rng.uniform(-0.5, 0.5, 2)
            profile, radius = odd_galaxy(shape, angle=float(rng.uniform(0, 2 * np.pi)), seed=seed)
            flux = flux_at(snr, n=n, radius=radius)
            rows.append({"x": place[0], "y": place[1], "flux": flux, "type": "galaxy"})
            rows[-1] |= {"half_light_radius": radius * PIXEL_SCALE, "sersic_n": 1.0}
            profiles.append(profile)
            names.append(shape)
    if max(row[axis] for row in rows for axis in ("x", "y")) > size + halo:
        raise ValueError(f"The odd galaxies do not fit on {size} pixels.")
    catalog = tabulate(rows)
    catalog["shape"] = names
    catalog["profile"] = np.array(profiles, dtype=object)
    return catalog


@functools.lru_cache(maxsize=64)
def odd_galaxy(shape: str, *, angle: float, seed: int) -> tuple[galsim.GSObject, float]:
    """Draw a galaxy that no family of profiles holds.

    Parameters
    ----------
    shape
        One of `SHAPES`.
    angle
        Its position angle, in radians.
    seed
        Seed of the places of knots.

    Returns
    -------
    profile : `galsim.GSObject`
        In arcsec, with flux 1.
    radius : `float`
        Its half-light radius, in pixels.
    """
    axis = (np.arange(_EXTENT * _FINE) + 0.5) / _FINE - _EXTENT / 2
    x, y = np.meshgrid(axis, axis)
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    light = _SHAPES[shape](u, v, np.random.default_rng([seed, 14]))
    # A third of a pixel: edges stay sharper than any PSF.
    light = scipy.ndimage.gaussian_filter(light, 0.33 * _FINE)
    light /= light.sum()
    distance = np.hypot(x - (light * x).sum(), y - (light * y).sum()).ravel()
    order = np.argsort(distance)
    half = float(distance[order][np.searchsorted(np.cumsum(light.ravel()[order]), 0.5)])
    image = galsim.Image(light, scale=PIXEL_SCALE / _FINE)
    return galsim.InterpolatedImage(image, x_interpolant="linear", flux=1.0), half


def _ring(u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return (np.abs(np.hypot(u, v / 0.7) - 7.0) < 1.0).astype(float)


def _spiral(u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    r = np.hypot(u, v / 0.8)
    phase = np.arctan2(v / 0.8, u) - 2.2 * np.log(r + 0.5)
    arms = np.exp(6.0 * (np.cos(2 * phase) - 1.0))
    return np.exp(-r / 4.0) * (0.15 + arms) * (r < 15.0)


def _bar(u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return ((np.abs(u) < 8.0) & (np.abs(v) < 3.0)).astype(float)


def _square(u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return ((np.abs(u) < 5.0) & (np.abs(v) < 5.0)).astype(float)


def _knots(u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    light = 0.02 * np.exp(-0.5 * (np.hypot(u, v) / 5.0) ** 2)
    for x, y in rng.normal(0.0, 4.5, (9, 2)):
        light += rng.uniform(0.3, 1.0) * np.exp(-0.5 * np.hypot(u - x, v - y) ** 2 / 0.6**2)
    return light


def _tail(u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    core = np.exp(-np.hypot(u + 5.0, v + 3.0) / 1.3)
    radius, turn = np.hypot(u - 3.0, v + 3.0), np.arctan2(v + 3.0, u - 3.0)
    along = np.clip((np.pi - turn) / np.pi, 0.0, 1.0)
    tail = np.exp(-0.5 * ((radius - 8.0) / (0.7 + 0.8 * along)) ** 2) * (turn > 0.0)
    return core + 0.12 * (1.0 - 0.6 * along) * tail


_SHAPES = dict(zip(SHAPES, (_ring, _spiral, _bar, _square, _knots, _tail), strict=True))
