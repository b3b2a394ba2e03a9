# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Catalogues of the stack from acn_coadd and deepCoadd, against the truth.

``python -m benchmarks.catalog_truth REPO --collections u/demo/acn`` takes the
repository of ``acn demo`` and a run of ``pipelines/acn.yaml`` in it, measures
``acn_coadd`` and ``deepCoadd`` with ``acn-measure.yaml``, and compares fluxes,
the separation of stars and galaxies, and close pairs. ``--out FILE`` writes
the tables. Needs the full stack; ten minutes at full size.
"""

from __future__ import annotations

import argparse
import itertools
import textwrap
from collections.abc import Iterator
from pathlib import Path

import astropy.table
import numpy as np
from scipy.spatial import KDTree

from lsst.coadd.astroclearnet._coadds import view_from_cell_coadd
from lsst.daf.butler import Butler

from .catalog_match import find_isolated, find_rows, look_up, place_single
from .print_lines import format_table, print_lines

_MAGNITUDES = range(20, 26)

_LEAST = 15
"""Sources that a row must have."""

_DISTANCES = (0.4, 0.6, 0.8, 1.0)
"""Of pairs, in arcsec."""

_PAIRS, _UNLIKE = (19.0, 24.5), 1.5
"""Magnitudes of their sources, and the difference they may have."""

_LEAST_EXPOSURES = 10

_FLUXES = ("base_PsfFlux", "modelfit_CModel", "ext_photometryKron_KronFlux")


def match(catalog: astropy.table.Table, truth: astropy.table.Table) -> astropy.table.Table:
    """Return the isolated true sources that were found and measured alone,
    with what was measured: columns ``type``, ``mag``, ``star_by_flux``,
    ``star_by_size``, and of each flux its ratio to the true one.
    """
    rows, found = find_rows(catalog, truth)
    chosen = found & find_isolated(truth) & ~truth["saturated"]
    found, truth = catalog[rows[chosen]], truth[chosen]
    table = astropy.table.Table({"type": truth["type"], "mag": truth["mag"]})
    for name, column in (("flux", "Extendedness"), ("size", "SizeExtendedness")):
        values = np.array(found[f"base_Classification{column}_value"])
        table[f"star_by_{name}"] = np.where(np.isfinite(values), values < 0.5, np.nan)
    for flux in _FLUXES:
        values = np.array(found[f"{flux}_instFlux"] / truth["flux"])
        table[flux] = np.where(found[f"{flux}_flag"], np.nan, values)
    return table


def tabulate(tables: list[astropy.table.Table]) -> Iterator[list[str]]:
    """Make a row of each kind and magnitude: a cell of each quantity has the
    values of all tables.
    """
    for kind, low in itertools.product(("star", "galaxy"), _MAGNITUDES):
        parts = [
            table[(table["type"] == kind) & (table["mag"] >= low) & (table["mag"] < low + 1)]
            for table in tables
        ]
        if min(map(len, parts)) < _LEAST:
            continue
        cells = ["; ".join(str(len(part)) for part in parts)]
        for name in ("flux", "size"):
            cells.append("; ".join(f"{np.nanmean(part[f'star_by_{name}']):.2f}" for part in parts))
        for flux in _FLUXES:
            cells.append("; ".join(f"{100 * (np.nanmedian(part[flux]) - 1):+.1f} %" for part in parts))
        yield [kind, f"{low}-{low + 1}", *cells]


def count_pairs(
    catalog: astropy.table.Table, truth: astropy.table.Table, *, pixel_scale: float
) -> dict[tuple[str, float], tuple[int, int]]:
    """Count close pairs of true sources, and those of which each has a source
    of its own in the catalogue, nearer than .4 of their distance.

    Parameters
    ----------
    catalog
        What was measured.
    truth
        True sources to make pairs of.
    pixel_scale
        Side of a pixel, in arcsec.

    Returns
    -------
    `dict`
        By kind and least distance in arcsec: pairs that are resolved, all.
    """
    places = np.stack([truth["x"], truth["y"]], axis=1)
    one, two = KDTree(places).query_pairs(_DISTANCES[-1] / pixel_scale, output_type="ndarray").T
    distance = np.hypot(*(places[one] - places[two]).T)
    alike = np.abs(truth["mag"][one] - truth["mag"][two]) < _UNLIKE
    stars = (truth["type"][one] == "star") & (truth["type"][two] == "star")
    measured = KDTree(place_single(catalog)[1])
    (off_one, row_one), (off_two, row_two) = (measured.query(places[index]) for index in (one, two))
    resolved = (np.maximum(off_one, off_two) < 0.4 * distance) & (row_one != row_two)
    counts = {}
    for (low, high), (kind, chosen) in itertools.product(
        itertools.pairwise(_DISTANCES), {"stars": stars, "others": ~stars}.items()
    ):
        inside = chosen & alike & (distance * pixel_scale >= low) & (distance * pixel_scale < high)
        counts[kind, low] = int(resolved[inside].sum()), int(inside.sum())
    return counts


def make_lines(butlers: dict[str, Butler]) -> Iterator[str]:
    """Make the lines of the table, and what it is."""
    tables, counts = [], []
    for name, butler in butlers.items():
        (ref,) = butler.query_datasets("acn_truth_catalog")
        truth = butler.get(ref)
        ending = "" if name == "acn_coadd" else "_uncorrected"
        catalog = butler.get(f"acnCoadd_meas{ending}", ref.dataId).asAstropy()
        tables.append(match(catalog, truth))
        view = view_from_cell_coadd(butler.get("acn_coadd", ref.dataId), name="acn_coadd")
        seen = (
            look_up(butler.get("acn_coadd_n_image", ref.dataId), truth["x"], truth["y"]) >= _LEAST_EXPOSURES
        )
        bright = (truth["mag"] >= _PAIRS[0]) & (truth["mag"] < _PAIRS[1]) & ~truth["saturated"]
        counts.append(count_pairs(catalog, truth[seen & bright], pixel_scale=view.pixel_scale))
    yield from ("# Catalogues of the stack", "")
    text = (
        "A patch of acn demo measured by the tasks of acn-measure.yaml; of each pair, "
        f"{' and '.join(butlers)}. Isolated sources that were found: how many; share that is called a star "
        "by the ratio of PSF and CModel flux (base_ClassificationExtendedness) and by size "
        "(base_ClassificationSizeExtendedness); "
        "median of the fluxes above the true ones, which are total fluxes: galaxies have more than the PSF "
        "and Kron's aperture hold."
    )
    yield from (*textwrap.wrap(text, 100), "")
    titles = ["sources", "mag", "number", "star by flux", "star by size", "PSF flux", "CModel", "Kron"]
    yield from format_table(titles, tabulate(tables))
    yield from _describe_pairs(counts, " and ".join(butlers))


def _describe_pairs(counts: list[dict[tuple[str, float], tuple[int, int]]], names: str) -> Iterator[str]:
    """Make the lines of the table of pairs."""
    text = (
        f"Pairs of true sources of {_PAIRS[0]:g} to {_PAIRS[1]:g} mag that differ by less than {_UNLIKE:g} "
        f"mag, where {_LEAST_EXPOSURES} exposures or more reach, and how many of them are two sources in the "
        f"catalogues of {names}."
    )
    yield from ("", *textwrap.wrap(text, 100), "")
    rows = [
        [
            f"{low:.1f}-{high:.1f} arcsec",
            kind,
            "; ".join(f"{count[kind, low][0]} of {count[kind, low][1]}" for count in counts),
        ]
        for (low, high), kind in itertools.product(itertools.pairwise(_DISTANCES), ("stars", "others"))
    ]
    yield from format_table(["distance", "pairs of", "resolved"], rows)


def main() -> None:
    """Print the table."""
    title = __doc__.splitlines()[0]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.catalog_truth", description=title)
    parser.add_argument("repo", help="repository of acn demo")
    parser.add_argument("--collections", required=True, help="a run of pipelines/acn.yaml")
    parser.add_argument("--out", type=Path, help="write the table to this file")
    options = parser.parse_args()
    # The full stack is needed from here on.
    from .stack_catalogs import make_catalog

    butlers = {
        name: make_catalog(options.repo, options.collections, name, f"u/benchmark/{name}")
        for name in ("acn_coadd", "deepCoadd")
    }
    print_lines(make_lines(butlers), options.out)


if __name__ == "__main__":
    main()
