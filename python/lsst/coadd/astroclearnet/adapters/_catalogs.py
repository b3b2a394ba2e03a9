# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Catalogues of sources, of afw or of astropy."""

from __future__ import annotations

__all__ = ("find_apertures", "has_column", "make_writable")

import re
from collections.abc import Iterable
from typing import Any


def make_writable(catalog: Any) -> Any:
    """Return a catalogue whose columns can be written: itself, or a copy of
    one of afw whose records do not lie side by side (``isContiguous``:
    afw/table/python/catalog.h:381).
    """
    if hasattr(catalog, "isContiguous") and not catalog.isContiguous():
        return catalog.copy(deep=True)
    return catalog


def find_apertures(catalog: Any, prefixes: Iterable[str]) -> list[tuple[str, float]]:
    """Return the fluxes in circular apertures of a catalogue, and their radii
    in pixels, from the smallest on.

    ``base_CircularApertureFlux_12_0`` has 12.0 (``makeFieldPrefix`` in
    lsst/meas_base 3e17d70 src/ApertureFlux.cc:57).
    """
    names = catalog.schema.getNames() if hasattr(catalog, "schema") else catalog.colnames
    pattern = re.compile(rf"((?:{'|'.join(map(re.escape, prefixes))})_(\d+)_(\d+))_instFluxErr")
    found = [match for match in map(pattern.fullmatch, names) if match]
    return sorted(((match[1], float(f"{match[2]}.{match[3]}")) for match in found), key=lambda one: one[1])


def has_column(catalog: Any, name: str) -> bool:
    """Tell whether a catalogue of either library has a column, or an alias of
    one (``name in schema``: afw/table/_schema.cc:481).
    """
    return name in (catalog.schema if hasattr(catalog, "schema") else catalog.colnames)
