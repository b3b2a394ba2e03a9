# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Catalogues of true, injected or reference sources."""

from __future__ import annotations

__all__ = ("read_catalog",)

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .._coadds import CoaddView
from .._metrics import Truth

if TYPE_CHECKING:
    from astropy.table import Table

_POINTS = ("star", "deltafunction", "stellar")
_AB_ZERO = 31.4  # AB magnitude of 1 nJy


def read_catalog(catalog: Table, *, like: CoaddView, view: CoaddView | None = None) -> Truth:
    """Put a catalogue on the pixels of a coadd.

    Parameters
    ----------
    catalog
        Columns ``ra`` and ``dec`` in degrees; ``type`` or ``source_type``,
        as in catalogues of lsst.source_injection; ``flux`` in nJy or ``mag``
        (AB); ``half_light_radius`` in arcsec and ``sersic_n`` or ``n`` for
        galaxies. Without a type all sources are points.
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
        If a column is missing; the text says which.
    """
    ra, dec = (_find(catalog, [name]) for name in ("ra", "dec"))
    x, y = like.wcs.sky_to_pixel(ra=ra, dec=dec) if like.wcs is not None else (ra * np.nan, dec * np.nan)
    flux = _find_flux(catalog, required=view is None)
    with np.errstate(invalid="ignore"):
        inside = np.isfinite(x) & np.isfinite(y) & like.contains(x=x, y=y)
    if view is None:
        inside &= np.isfinite(flux) & (flux > 0)
    kind = next((name for name in ("type", "source_type") if name in catalog.colnames), None)
    is_star = np.ones(len(catalog), dtype=bool)
    if kind is not None:
        is_star = np.array([str(value).lower() in _POINTS for value in catalog[kind]])
    size = _find(catalog, ["half_light_radius"], default=0.0) / like.pixel_scale
    return Truth(
        x=x[inside],
        y=y[inside],
        is_star=is_star[inside],
        view=view,
        flux=flux[inside],
        half_light_radius=np.where(is_star, 0, size)[inside],
        sersic_n=_find(catalog, ["sersic_n", "n"], default=1.0)[inside],
    )


def _find(catalog: Table, names: Sequence[str], default: float | None = None) -> np.ndarray:
    """Return the first of some columns as numbers; missing values are NaN,
    or the default.
    """
    for name in names:
        if name in catalog.colnames:
            values = np.ma.filled(np.ma.asarray(catalog[name], dtype=float), np.nan)
            return values if default is None else np.where(np.isfinite(values), values, default)
    if default is None:
        raise ValueError(f"The catalogue of true sources has no column {' or '.join(names)}.")
    return np.full(len(catalog), default)


def _find_flux(catalog: Table, *, required: bool) -> np.ndarray:
    """Return fluxes in nJy."""
    if "mag" in catalog.colnames and "flux" not in catalog.colnames:
        return 10 ** (0.4 * (_AB_ZERO - _find(catalog, ["mag"])))
    return _find(catalog, ["flux"], default=None if required else np.nan)
