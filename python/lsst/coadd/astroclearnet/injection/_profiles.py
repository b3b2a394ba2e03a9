# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rows of an injection catalogue as profiles of galsim."""

from __future__ import annotations

__all__ = ("FLAGS", "SOURCE_TYPES", "check_catalog", "flag_sources", "make_profile")

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import galsim
import numpy as np
from astropy.table import Table

from ._errors import InjectionError

SOURCE_TYPES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "DeltaFunction": (),
        "Star": (),  # the older name of the same
        "Gaussian": ("half_light_radius",),
        "Exponential": ("half_light_radius",),
        "DeVaucouleurs": ("half_light_radius",),
        "Sersic": ("n", "half_light_radius"),
    }
)
"""Columns that each source type needs beside ``mag``; a subset of the types
of lsst/source_injection 8da8778 inject_base.py:43, which are classes of
galsim."""

FLAGS: Mapping[str, int] = MappingProxyType(
    {
        "MAG_BAD": 0,
        "TYPE_UNKNOWN": 1,
        "SERSIC_EXTREME": 2,
        "NO_OVERLAP": 3,
        "FFT_SIZE_ERROR": 4,
        "PSF_COMPUTE_ERROR": 5,
    }
)
"""Bits of the column ``injection_flag`` (lsst/source_injection 8da8778
inject_base.py:284)."""

_SERSIC_LIMITS = 0.3, 6.2
"""Between these galsim can draw a profile."""


def check_catalog(catalog: Table) -> None:
    """Check that a table can be injected.

    Parameters
    ----------
    catalog
        Any table.

    Raises
    ------
    InjectionError
        If a column is missing; the text names all of them.
    """
    missing = [name for name in ("ra", "dec", "source_type", "mag") if name not in catalog.colnames]
    # As a list, because one by one a column gives its values slowly, and a
    # tract has hundreds of thousands for each exposure.
    kinds = set(catalog["source_type"].tolist()) if not missing else ()
    for kind in sorted(str(kind) for kind in kinds):
        missing += [name for name in SOURCE_TYPES.get(kind, ()) if name not in catalog.colnames]
    if missing:
        raise InjectionError(
            f"The injection catalogue has no column {', '.join(dict.fromkeys(missing))}; "
            f"there are: {', '.join(catalog.colnames)}."
        )


def flag_sources(catalog: Table) -> np.ndarray:
    """Return the bits of `FLAGS` that the rows alone decide.

    Parameters
    ----------
    catalog
        Injection catalogue.

    Returns
    -------
    `numpy.ndarray`
        Bits of each row, int ``(n,)``.
    """
    flags = np.zeros(len(catalog), int)
    mag = np.ma.filled(np.ma.asarray(catalog["mag"], dtype=float), np.nan)
    flags[~np.isfinite(mag)] |= 1 << FLAGS["MAG_BAD"]
    for i, row in enumerate(catalog):
        if str(row["source_type"]) not in SOURCE_TYPES:
            flags[i] |= 1 << FLAGS["TYPE_UNKNOWN"]
        elif str(row["source_type"]) == "Sersic":
            n = _get(row, "n")
            if n is None or not _SERSIC_LIMITS[0] <= n <= _SERSIC_LIMITS[1]:
                flags[i] |= 1 << FLAGS["SERSIC_EXTREME"]
    return flags


def make_profile(row: Any) -> galsim.GSObject:
    """Make the profile of a source above the atmosphere.

    Parameters
    ----------
    row
        Row of an injection catalogue without a flag.

    Returns
    -------
    `galsim.GSObject`
        Flux 1; arcsec, x towards East and y towards North, so that ``beta``
        is an angle in degrees from East to North (lsst/source_injection
        8da8778 inject_engine.py:128, 697). A Sersic profile ends at
        ``trunc`` arcsec where that column has a value.
    """
    kind = str(row["source_type"])
    if kind in ("DeltaFunction", "Star"):
        return galsim.DeltaFunction()
    options = {name: _get(row, name) for name in SOURCE_TYPES[kind]}
    if kind == "Sersic":
        options["trunc"] = _get(row, "trunc") or 0.0
    profile = getattr(galsim, kind)(**options)
    q = _get(row, "q")
    if q is not None:
        return profile.shear(q=q, beta=(_get(row, "beta") or 0.0) * galsim.degrees)
    g1, g2 = _get(row, "g1"), _get(row, "g2")
    return profile if g1 is None or g2 is None else profile.shear(g1=g1, g2=g2)


def _get(row: Any, name: str) -> float | None:
    """Return a number, or `None` where there is none."""
    if name not in row.colnames or np.ma.is_masked(row[name]):
        return None
    value = float(row[name])
    return value if np.isfinite(value) else None
