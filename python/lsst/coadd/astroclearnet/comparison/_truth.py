# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Catalogues of true, injected or reference sources."""

from __future__ import annotations

__all__ = ("SERSIC_OF_TYPE", "Truth", "read_catalog")

import dataclasses
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

import astropy.units as u
import numpy as np

from .._coadds import CoaddView
from .._magnitudes import flux_from_mag

if TYPE_CHECKING:
    from astropy.table import Table

_POINTS = ("star", "deltafunction", "stellar")

SERSIC_OF_TYPE: Mapping[str, float] = MappingProxyType(
    {"gaussian": 0.5, "exponential": 1.0, "devaucouleurs": 4.0}
)
"""Sersic index of the source types, in lower case, whose name says it."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Truth:
    """What a simulation knows."""

    x: np.ndarray
    """Patch pixel x of each source, float ``(n,)``."""

    y: np.ndarray
    """Patch pixel y of each source, float ``(n,)``."""

    is_star: np.ndarray
    """Point sources, bool ``(n,)``."""

    view: CoaddView | None = None
    """Noiseless image with its PSF; then there are no sources but these."""

    flux: np.ndarray | None = None
    """True flux of each in nJy ``(n,)``; needed where there is no image."""

    half_light_radius: np.ndarray | None = None
    """Of each galaxy in pixels ``(n,)``, 0 for stars; goes with `flux`, as
    what follows, all as of `expected_fluxes`."""

    sersic_n: np.ndarray | None = None
    """Sersic index of each galaxy ``(n,)``; 1 by default."""

    axis_ratio: np.ndarray | None = None
    """Minor to major axis of each ``(n,)``; 1 by default."""

    trunc: np.ndarray | None = None
    """Where each profile ends, in pixels ``(n,)``; nowhere by default."""


def read_catalog(catalog: Table, *, like: CoaddView, view: CoaddView | None = None) -> Truth:
    """Put a catalogue on the pixels of a coadd.

    Parameters
    ----------
    catalog
        Columns ``ra`` and ``dec`` in degrees; ``type`` or ``source_type``,
        as in catalogues of lsst.source_injection; ``flux`` in nJy or ``mag``
        (AB); for galaxies ``half_light_radius`` in arcsec, ``sersic_n`` or
        ``n``, and if they are known axis ratio ``q`` and ``trunc``, where the
        profile ends, in arcsec. Columns with a unit of their own are
        converted. Without a type all sources are points.
    like
        The coadd.
    view
        Noiseless image of the same sources, and of nothing else.

    Returns
    -------
    `Truth`
        The sources on the coadd; without ``view`` those with a flux.

    Raises
    ------
    ValueError
        If a column is missing, or its unit is of something else; the text
        says which.
    """
    ra, dec = (_find(catalog, [name], unit=u.deg) for name in ("ra", "dec"))
    x, y = like.wcs.sky_to_pixel(ra=ra, dec=dec) if like.wcs is not None else (ra * np.nan, dec * np.nan)
    flux = _find_flux(catalog, required=view is None)
    with np.errstate(invalid="ignore"):
        inside = np.isfinite(x) & np.isfinite(y) & like.contains(x=x, y=y)
    if view is None:
        inside &= np.isfinite(flux) & (flux > 0)
    names = [name for name in ("source_type", "type") if name in catalog.colnames]
    kind = [str(value).lower() for value in catalog[names[-1]]] if names else ["star"] * len(catalog)
    is_star = np.array([one in _POINTS for one in kind], dtype=bool)
    # The name of a source type says more than that it is a galaxy.
    by_type = [str(value).lower() for value in catalog[names[0]]] if names else kind
    index = np.array([SERSIC_OF_TYPE.get(one, np.nan) for one in by_type], dtype=float)
    index = np.where(np.isnan(index), _find(catalog, ["sersic_n", "n"], default=1.0), index)
    size, trunc = (
        _find(catalog, [name], unit=u.arcsec, default=0.0) / like.pixel_scale
        for name in ("half_light_radius", "trunc")
    )
    return Truth(
        x=x[inside],
        y=y[inside],
        is_star=is_star[inside],
        view=view,
        flux=flux[inside],
        half_light_radius=np.where(is_star, 0, size)[inside],
        sersic_n=index[inside],
        axis_ratio=_find(catalog, ["q"], default=1.0)[inside],
        trunc=trunc[inside],
    )


def _find(
    catalog: Table, names: Sequence[str], *, unit: u.UnitBase | None = None, default: float | None = None
) -> np.ndarray:
    """Return the first of some columns as numbers, in a unit if it has one;
    missing values are NaN, or the default.
    """
    for name in names:
        if name in catalog.colnames:
            values = np.ma.filled(np.ma.asarray(catalog[name], dtype=float), np.nan)
            if unit is not None and catalog[name].unit:
                values = values * _convert(catalog[name].unit, unit, name)
            return values if default is None else np.where(np.isfinite(values), values, default)
    if default is None:
        raise ValueError(f"The catalogue of true sources has no column {' or '.join(names)}.")
    return np.full(len(catalog), default)


def _convert(unit: u.UnitBase, wanted: u.UnitBase, name: str) -> float:
    """Return what turns one unit into another."""
    try:
        return float(unit.to(wanted))
    except u.UnitConversionError:
        raise ValueError(
            f"The column {name} of the catalogue of true sources is in {unit}, which cannot be converted "
            f"to {wanted}."
        ) from None


def _find_flux(catalog: Table, *, required: bool) -> np.ndarray:
    """Return fluxes in nJy."""
    if "mag" in catalog.colnames and "flux" not in catalog.colnames:
        return flux_from_mag(_find(catalog, ["mag"]))
    return _find(catalog, ["flux"], unit=u.nJy, default=None if required else np.nan)
