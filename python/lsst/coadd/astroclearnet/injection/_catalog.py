# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Make catalogues of synthetic sources."""

from __future__ import annotations

__all__ = ("make_injection_catalog",)

import dataclasses
import itertools
from collections.abc import Iterable, Sequence

import astropy.units as u
import numpy as np
from astropy.table import MaskedColumn, Table
from scipy.spatial import KDTree

from ..adapters import PatchGeometry
from ..core.warp._frame import measure_pixel
from ..simulate._scene import SERSIC_INDICES, SERSIC_TRUNCATION
from ._area import CoverageMap, to_unit_vectors
from ._errors import InjectionError
from ._options import InjectionConfig

_CANDIDATES = 30
"""Places that are tried for each source that is wanted."""


def make_injection_catalog(
    config: InjectionConfig, *, patches: Sequence[PatchGeometry], coverage: Iterable[CoverageMap]
) -> Table:
    """Place synthetic sources on patches.

    Parameters
    ----------
    config
        How many, which, and where not.
    patches
        Where; those of one tract do not get sources twice where they
        overlap, those of two tracts do, at the separation of the options.
    coverage
        What each exposure covers; the order does not matter. Each is looked
        at once and not kept, so that they can be made as they are asked for.

    Returns
    -------
    `~astropy.table.Table`
        The columns of lsst.source_injection (8da8778
        _generate_injection_catalog.py:186, inject_base.py:164): int64
        ``injection_id``; ``ra``, ``dec`` (deg); ``source_type``
        (``DeltaFunction`` or ``Sersic``); ``mag`` (AB); and of galaxies
        ``n``, ``half_light_radius`` (arcsec, before the shear that makes the
        ellipse), ``q``, ``beta`` (degrees from East to North) and ``trunc``
        (arcsec), masked for stars.

    Raises
    ------
    InjectionError
        If there is room for none.
    """
    tracts = itertools.groupby(sorted(patches, key=_order), key=lambda patch: (patch.skymap, patch.tract))
    candidates = [
        _Candidates.draw(config, list(members), np.random.default_rng([config.seed, 6, tract]))
        for (_, tract), members in tracts
    ]
    for one in coverage:
        for places in candidates:
            places.look(one)
    chosen = [places.choose(config) for places in candidates]
    ra, dec = (np.concatenate([place[k] for place in chosen] or [[]]) for k in range(2))
    if not len(ra):
        raise InjectionError(
            "There is no room for a source: no place is covered and free; "
            "lower avoid or min_exposures, or choose other patches."
        )
    if len(chosen) > 1:  # patches of two tracts may overlap
        kept = _thin(to_unit_vectors(ra, dec), 2 * np.sin(np.radians(config.separation / 3600) / 2))
        ra, dec = ra[kept], dec[kept]
    return _describe(config, ra, dec, np.random.default_rng([config.seed, 7]))


def _order(patch: PatchGeometry) -> tuple[str, int, int]:
    return patch.skymap, patch.tract, patch.patch


@dataclasses.dataclass(kw_only=True, eq=False)
class _Candidates:
    """Places of one tract that are tried, and what exposures say of them."""

    place: np.ndarray
    """Pixel x and y of the tract, ``(n, 2)``."""

    sky: tuple[np.ndarray, np.ndarray]
    """Right ascension and declination in degrees, ``(n,)``."""

    scale: float
    """Side of a pixel, in arcsec."""

    wanted: int
    """Sources that the tract shall have."""

    def __post_init__(self) -> None:
        self._on_sphere = to_unit_vectors(*self.sky)
        self._seen: dict[str, np.ndarray] = {}  # exposures by band
        self._occupied = np.zeros(len(self.place), bool)

    @classmethod
    def draw(
        cls, config: InjectionConfig, patches: Sequence[PatchGeometry], rng: np.random.Generator
    ) -> _Candidates:
        """Draw places on the patches of one tract."""
        wcs = patches[0].wcs
        boxes = np.array(
            [
                (p.outer_bbox.x.start, p.outer_bbox.y.start, p.outer_bbox.x.stop, p.outer_bbox.y.stop)
                for p in patches
            ]
        )
        low, high = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
        middle = (low + high) / 2
        scale = measure_pixel(wcs, x=middle[0], y=middle[1])
        wanted = config.density * np.prod(high - low) * (scale / 60) ** 2
        place = rng.uniform(low, high, (round(_CANDIDATES * max(wanted, 1)), 2)) - 0.5
        inside = np.zeros(len(place), bool)
        for box in boxes:
            inside |= np.all((place >= box[:2] - 0.5) & (place < box[2:] - 0.5), axis=1)
        share = np.count_nonzero(inside) / len(inside)
        place = place[inside]
        sky = wcs.pixel_to_sky(x=place[:, 0], y=place[:, 1]) if len(place) else (np.zeros(0), np.zeros(0))
        return cls(place=place, sky=sky, scale=scale, wanted=round(wanted * share))

    def look(self, one: CoverageMap) -> None:
        """Note what one exposure says of the places."""
        seen = self._seen.setdefault(one.band, np.zeros(len(self.place), np.int32))
        near = one.find_near(self._on_sphere)
        if len(near):
            here, taken = one.look(ra=self.sky[0][near], dec=self.sky[1][near])
            seen[near] += here
            self._occupied[near] |= taken

    def choose(self, config: InjectionConfig) -> tuple[np.ndarray, np.ndarray]:
        """Return right ascension and declination of places that enough
        exposures of each band see, that no exposure sees a bright source on,
        and that keep their distance.
        """
        free = ~self._occupied if self._seen else np.zeros(len(self.place), bool)
        for seen in self._seen.values():
            free &= seen >= config.min_exposures
        places = np.flatnonzero(free)
        chosen = places[_take_apart(self.place[places], config.separation / self.scale, self.wanted)]
        return self.sky[0][chosen], self.sky[1][chosen]


def _take_apart(place: np.ndarray, distance: float, number: int) -> np.ndarray:
    """Return the first places that keep a distance from those before them, up
    to a number.

    Later places do not matter to earlier ones, so that no more are compared
    than are needed: the pairs of all those of a tract fill gigabytes.
    """
    n_tried, chosen = 2 * number, np.zeros(0, int)
    while len(place):
        chosen = np.flatnonzero(_thin(place[:n_tried], distance))[:number]
        if len(chosen) == number or n_tried >= len(place):
            break
        n_tried *= 2
    return chosen


def _thin(place: np.ndarray, distance: float) -> np.ndarray:
    """Return the places that keep a distance from those before them."""
    kept = [True] * len(place)
    if distance > 0 and len(place) > 1:
        pairs = KDTree(place).query_pairs(distance, output_type="ndarray")
        pairs.sort(axis=1)
        # Millions of steps, which take a tenth of the time with plain lists.
        for first, second in pairs[np.lexsort(pairs.T)].tolist():
            if kept[first]:
                kept[second] = False
    return np.array(kept, bool)


def _describe(config: InjectionConfig, ra: np.ndarray, dec: np.ndarray, rng: np.random.Generator) -> Table:
    """Draw what the sources at these places are."""
    count = len(ra)
    is_star = np.zeros(count, bool)
    is_star[rng.permutation(count)[: round(config.star_fraction * count)]] = True
    mag = np.empty(count)
    for kind in (is_star, ~is_star):
        number = np.count_nonzero(kind)
        steps = rng.permutation((np.arange(number) + rng.uniform(0, 1, number)) / max(number, 1))
        mag[kind] = config.mag[0] + steps * (config.mag[1] - config.mag[0])
    # Sizes as those of simulated skies: about as in deep HSC fields.
    radius = np.clip(0.45 * 10 ** (-0.12 * (mag - 23.0)) * rng.lognormal(0.0, 0.3, count), 0.1, 1.5)
    galaxy = {
        "n": rng.choice(SERSIC_INDICES, count),
        "half_light_radius": radius,
        "q": rng.uniform(0.3, 1.0, count),
        "beta": rng.uniform(0.0, 180.0, count),
        "trunc": SERSIC_TRUNCATION * radius,
    }
    return Table(
        {
            "injection_id": np.arange(count, dtype=np.int64),
            "ra": ra * u.deg,
            "dec": dec * u.deg,
            "source_type": np.where(is_star, "DeltaFunction", "Sersic"),
            "mag": mag,
            **{name: MaskedColumn(values, mask=is_star) for name, values in galaxy.items()},
        },
        meta={f"acn_injection_{key}": value for key, value in _plain(config).items()},
    )


def _plain(config: InjectionConfig) -> dict[str, float | int | str]:
    """Return the options as a table's metadata can hold them."""
    values = dataclasses.asdict(config)
    return values | {"mag": " ".join(f"{value:g}" for value in config.mag)}
