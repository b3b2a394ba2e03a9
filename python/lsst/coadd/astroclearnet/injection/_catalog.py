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
from collections.abc import Sequence

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
    config: InjectionConfig, *, patches: Sequence[PatchGeometry], coverage: Sequence[CoverageMap]
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
        What each exposure covers; the order does not matter.

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
    ras, decs = [], []
    tracts = itertools.groupby(sorted(patches, key=_order), key=lambda patch: (patch.skymap, patch.tract))
    for (_, tract), members in tracts:
        ra, dec = _place(config, list(members), coverage, np.random.default_rng([config.seed, 6, tract]))
        ras.append(ra)
        decs.append(dec)
    ra, dec = np.concatenate(ras or [[]]), np.concatenate(decs or [[]])
    if not len(ra):
        raise InjectionError(
            "There is no room for a source: no place is covered and free; "
            "lower avoid or min_exposures, or choose other patches."
        )
    if len(ras) > 1:  # patches of two tracts may overlap
        kept = _thin(to_unit_vectors(ra, dec), 2 * np.sin(np.radians(config.separation / 3600) / 2))
        ra, dec = ra[kept], dec[kept]
    return _describe(config, ra, dec, np.random.default_rng([config.seed, 7]))


def _order(patch: PatchGeometry) -> tuple[str, int, int]:
    return patch.skymap, patch.tract, patch.patch


def _place(
    config: InjectionConfig,
    patches: Sequence[PatchGeometry],
    coverage: Sequence[CoverageMap],
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Return positions in degrees on the patches of one tract."""
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
    inside = np.any(
        [np.all((place >= box[:2] - 0.5) & (place < box[2:] - 0.5), axis=1) for box in boxes], axis=0
    )
    share = np.count_nonzero(inside) / len(inside)
    place = place[inside]
    if not len(place):
        return np.zeros(0), np.zeros(0)
    ra, dec = wcs.pixel_to_sky(x=place[:, 0], y=place[:, 1])
    free = _is_free(ra, dec, coverage, min_exposures=config.min_exposures)
    chosen = np.flatnonzero(free)
    chosen = chosen[_thin(place[chosen], config.separation / scale)][: round(wanted * share)]
    return ra[chosen], dec[chosen]


def _is_free(
    ra: np.ndarray, dec: np.ndarray, coverage: Sequence[CoverageMap], *, min_exposures: int
) -> np.ndarray:
    """Return the places that enough exposures of each band see, and that no
    exposure sees a bright source on.
    """
    seen = {one.band: np.zeros(len(ra), int) for one in coverage}
    occupied = np.zeros(len(ra), bool)
    places = to_unit_vectors(ra, dec)
    for one in coverage:
        near = one.find_near(places)
        if not len(near):
            continue
        here, taken = one.look(ra=ra[near], dec=dec[near])
        seen[one.band][near] += here
        occupied[near] |= taken
    enough = [count >= min_exposures for count in seen.values()]
    return np.all(enough, axis=0) & ~occupied if enough else np.zeros(len(ra), bool)


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
