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
``acn_coadd`` and ``deepCoadd`` with ``acn-measure.yaml``, and compares fluxes
and the separation of stars and galaxies. ``--out FILE`` writes the table.
Needs the full stack; ten minutes at full size.
"""

from __future__ import annotations

import argparse
import itertools
import textwrap
from collections.abc import Iterator
from pathlib import Path

import astropy.table
import numpy as np

from lsst.daf.butler import Butler

from .catalog_match import find_isolated, find_rows
from .print_lines import print_lines

_MAGNITUDES = range(20, 26)

_LEAST = 15
"""Sources that a row must have."""

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


def make_lines(butlers: dict[str, Butler]) -> Iterator[str]:
    """Make the lines of the table, and what it is."""
    tables = []
    for name, butler in butlers.items():
        (ref,) = butler.query_datasets("acn_truth_catalog")
        catalog = "acnCoadd_meas" if name == "acn_coadd" else "acnCoadd_meas_uncorrected"
        tables.append(match(butler.get(catalog, ref.dataId).asAstropy(), butler.get(ref)))
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
    yield f"| {' | '.join(titles)} |"
    yield "|---" * len(titles) + "|"
    for cells in tabulate(tables):
        yield f"| {' | '.join(cells)} |"


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
