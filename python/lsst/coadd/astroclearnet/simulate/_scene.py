# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Catalogue of a simulated sky."""

from __future__ import annotations

__all__ = ("SceneConfig", "flux_from_mag", "mag_from_flux", "make_catalog", "source_profile")

import dataclasses

import astropy.table
import galsim
import numpy as np

from .._magnitudes import flux_from_mag, mag_from_flux

SERSIC_INDICES = (0.6, 1.0, 1.5, 2.5, 4.0)
"""Few values, because galsim keeps a lookup table for each."""

SERSIC_TRUNCATION = 5.0
"""Radius beyond which a galaxy is dark, in half-light radii."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SceneConfig:
    """What is on a simulated sky.

    Raises
    ------
    ValueError
        If a value is out of its range; the text names the field.
    """

    seed: int = 1
    """Seed of the catalogue."""

    width: int = 256
    """Columns of the grid that the sources are placed on."""

    height: int = 256
    """Rows of that grid."""

    x0: int = 0
    """Pixel x of column 0 of the grid."""

    y0: int = 0
    """Pixel y of row 0 of the grid."""

    margin: int = 30
    """Border around the grid that also gets sources, in pixels."""

    pixel_scale: float = 0.168
    """Pixel size of the grid, in arcseconds."""

    density: float = 36.0
    """Sources per square arcminute, pairs not counted."""

    star_fraction: float = 0.35
    """Fraction of the sources that are stars."""

    star_mag: tuple[float, float] = (18.0, 25.5)
    """Brightest and faintest star, AB; drawn evenly."""

    galaxy_mag: tuple[float, float] = (19.5, 27.0)
    """Brightest and faintest galaxy, AB; counts rise by 0.25 dex a mag."""

    separation: float = 14.0
    """Least distance between sources that are no pair, in pixels."""

    pair_density: float = 3.0
    """Blended pairs per square arcminute, inside the grid."""

    pair_separation: tuple[float, float] = (0.5, 1.0)
    """Least and largest distance within a pair, in arcseconds."""

    pair_mag: tuple[float, float] = (21.0, 24.0)
    """Brightest and faintest member of a pair, AB."""

    saturated_mag: tuple[float, ...] = ()
    """Magnitudes of stars to add that every exposure saturates on."""

    def __post_init__(self) -> None:
        for name in ("width", "height"):
            if getattr(self, name) < 16:
                raise ValueError(f"{name} must be at least 16 pixels; got {getattr(self, name)}.")
        for name in ("seed", "margin", "density", "separation", "pair_density"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative; got {getattr(self, name)}.")
        if not self.pixel_scale > 0:
            raise ValueError(f"pixel_scale must be positive; got {self.pixel_scale}.")
        if not 0 <= self.star_fraction <= 1:
            raise ValueError(f"star_fraction must be within 0 to 1; got {self.star_fraction}.")

    @property
    def area(self) -> float:
        """Area of the grid without its margin, in square arcmin (`float`)."""
        return self.width * self.height * (self.pixel_scale / 60.0) ** 2


def make_catalog(config: SceneConfig) -> astropy.table.Table:
    """Draw the sources of a sky.

    Parameters
    ----------
    config
        Grid and populations.

    Returns
    -------
    `astropy.table.Table`
        One row a source: ``id``, ``type`` (``star`` or ``galaxy``), ``x``,
        ``y`` (pixels of the grid), ``flux`` (nJy), ``mag`` (AB),
        ``half_light_radius`` (arcsec along the geometric mean of the axes; 0
        for a star), ``sersic_n``, ``g1``, ``g2`` (shear of the axes of the
        grid), ``pair`` (number of the blended pair, -1 for none) and
        ``saturated``.
    """
    rng = np.random.default_rng([config.seed, 1])
    grown = config.area * (1 + 2 * config.margin / config.width) * (1 + 2 * config.margin / config.height)
    n_pairs = round(config.pair_density * config.area)
    rows: list[dict] = []
    places = _Places(config, rng)
    for mag in config.saturated_mag:
        x, y = places.draw(inset=0.2 * min(config.width, config.height))
        rows.append(_star(x, y, mag) | {"saturated": True})
    for pair in range(n_pairs):
        rows.extend(_pair(config, rng, places, pair))
    n_stars = rng.binomial(round(config.density * grown), config.star_fraction)
    # Evenly spread magnitudes: every scene has stars at all signal-to-noise.
    steps = (np.arange(n_stars) + rng.uniform(0, 1, n_stars)) / max(n_stars, 1)
    for mag in config.star_mag[0] + steps * (config.star_mag[1] - config.star_mag[0]):
        rows.append(_star(*places.draw(), mag))
    for _ in range(round(config.density * grown) - n_stars):
        rows.append(_galaxy(rng, *places.draw(), _power_law(rng, *config.galaxy_mag, slope=0.25)))
    return _to_table(rows)


def source_profile(source: astropy.table.Row) -> galsim.GSObject:
    """Return the profile above the atmosphere of a row of the catalogue.

    It is in arcseconds along the axes of the grid and carries the flux in
    nJy. A row of a catalogue with a column ``profile`` that holds a
    `galsim.GSObject` is that object.
    """
    if "profile" in source.colnames and source["profile"] is not None:
        return source["profile"].withFlux(float(source["flux"]))
    if source["type"] == "star":
        return galsim.DeltaFunction(flux=float(source["flux"]))
    radius = float(source["half_light_radius"])
    profile = galsim.Sersic(
        n=float(source["sersic_n"]),
        half_light_radius=radius,
        trunc=SERSIC_TRUNCATION * radius,
        flux=float(source["flux"]),
    )
    return profile.shear(g1=float(source["g1"]), g2=float(source["g2"]))


class _Places:
    """Positions that keep a distance from each other."""

    def __init__(self, config: SceneConfig, rng: np.random.Generator):
        self._config = config
        self._rng = rng
        self._taken = np.empty((0, 2))

    def draw(self, *, inset: float | None = None) -> tuple[float, float]:
        """Return x and y, `inset` pixels within the grid or in its margin."""
        config, inset = self._config, -float(self._config.margin) if inset is None else inset
        low = np.array([config.x0, config.y0]) + inset
        high = np.array([config.x0 + config.width, config.y0 + config.height]) - 1 - inset
        best, best_distance = None, -1.0
        for _ in range(50):
            place = self._rng.uniform(low, high)
            distance = np.min(np.hypot(*(self._taken - place).T), initial=np.inf)
            if distance > best_distance:
                best, best_distance = place, distance
            if distance >= config.separation:
                break
        # A crowded scene takes the loneliest place it has found.
        self._taken = np.vstack([self._taken, best])
        return float(best[0]), float(best[1])


def _star(x: float, y: float, mag: float) -> dict:
    return {"type": "star", "x": x, "y": y, "mag": float(mag)}


def _galaxy(rng: np.random.Generator, x: float, y: float, mag: float) -> dict:
    # Sizes shrink towards faint magnitudes about as in deep HSC fields.
    radius = 0.45 * 10 ** (-0.12 * (mag - 23.0)) * rng.lognormal(0.0, 0.3)
    g, angle = min(rng.rayleigh(0.2), 0.6), rng.uniform(0, np.pi)
    return {
        "type": "galaxy",
        "x": x,
        "y": y,
        "mag": float(mag),
        "half_light_radius": float(np.clip(radius, 0.1, 1.5)),
        "sersic_n": float(rng.choice(SERSIC_INDICES)),
        "g1": g * np.cos(2 * angle),
        "g2": g * np.sin(2 * angle),
    }


def _pair(config: SceneConfig, rng: np.random.Generator, places: _Places, pair: int) -> list[dict]:
    """Return two sources near each other: two stars, or star and galaxy."""
    x, y = places.draw(inset=min(10.0, 0.1 * min(config.width, config.height)))
    offset = rng.uniform(*config.pair_separation) / config.pixel_scale / 2
    angle = rng.uniform(0, 2 * np.pi)
    dx, dy = offset * np.cos(angle), offset * np.sin(angle)
    mag = rng.uniform(*config.pair_mag)
    second = min(mag + rng.uniform(0.0, 1.0), config.pair_mag[1])
    rows = [_star(x + dx, y + dy, mag)]
    if pair % 3 < 2:
        rows.append(_star(x - dx, y - dy, second))
    else:
        rows.append(_galaxy(rng, x - dx, y - dy, second))
    return [row | {"pair": pair} for row in rows]


def _power_law(rng: np.random.Generator, low: float, high: float, *, slope: float) -> float:
    """Draw a magnitude whose counts rise by `slope` dex a magnitude."""
    a, b = 10.0 ** (slope * low), 10.0 ** (slope * high)
    return float(np.log10(rng.uniform(a, b)) / slope)


def _to_table(rows: list[dict]) -> astropy.table.Table:
    def column(name: str, default: float | int | bool | str) -> list:
        return [row.get(name, default) for row in rows]

    mag = np.array(column("mag", np.nan), dtype=float)
    return astropy.table.Table(
        {
            "id": np.arange(1, len(rows) + 1),
            "type": np.array(column("type", ""), dtype="U6"),
            "x": np.array(column("x", np.nan), dtype=float),
            "y": np.array(column("y", np.nan), dtype=float),
            "flux": flux_from_mag(mag),
            "mag": mag,
            "half_light_radius": np.array(column("half_light_radius", 0.0), dtype=float),
            "sersic_n": np.array(column("sersic_n", 0.0), dtype=float),
            "g1": np.array(column("g1", 0.0), dtype=float),
            "g2": np.array(column("g2", 0.0), dtype=float),
            "pair": np.array(column("pair", -1), dtype=int),
            "saturated": np.array(column("saturated", False), dtype=bool),
        }
    )
