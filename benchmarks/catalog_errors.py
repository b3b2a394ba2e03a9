# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Errors of fluxes in catalogues of the stack, by two halves of the exposures.

``python -m benchmarks.catalog_errors REPO`` takes a repository of ``acn
demo``, runs ``assembleAcnCoadd`` on every other visit and ``acn-measure.yaml``
on what came out, twice, and compares the fluxes: their difference is noise,
whatever the profile of the source is. ``--out FILE`` writes the table. Needs
the full stack; twenty minutes at full size.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import textwrap
from collections.abc import Iterator
from pathlib import Path

import astropy.table
import numpy as np

from lsst.daf.butler import Butler

from .catalog_match import find_isolated, find_rows
from .engine import metrics
from .print_lines import format_table, print_lines

_FLUXES = {
    "PSF": "base_PsfFlux",
    "aperture, 3 px": "base_CircularApertureFlux_3_0",
    "aperture, 6 px": "base_CircularApertureFlux_6_0",
    "aperture, 12 px": "base_CircularApertureFlux_12_0",
    "Kron": "ext_photometryKron_KronFlux",
    "Gaussian": "base_GaussianFlux",
    "CModel": "modelfit_CModel",
}

_SMALL = 0.35
"""Half-light radius in arcsec below which a galaxy is small."""

_BINS = metrics.SNR_BINS[1:]
"""Of S/N; below the first, few are found in both halves."""

_LEAST_EXPOSURES, _LEAST_SOURCES = 10, 15


@dataclasses.dataclass
class Half:
    """What was measured on a half of the exposures: a row for each true
    source.
    """

    after: astropy.table.Table
    before: astropy.table.Table
    """The same before its errors were corrected."""

    good: np.ndarray
    """Whether a row is that source: found, measured alone, on pixels that are
    trusted; bool ``(n,)``."""


def read_half(butler: Butler, truth: astropy.table.Table) -> Half:
    """Read the catalogue of a half."""
    (ref,) = butler.query_datasets("acnCoadd_meas")
    tables = [butler.get(f"acnCoadd_meas{end}", ref.dataId).asAstropy() for end in ("", "_uncorrected")]
    coadd, n_image = (butler.get(f"acn_coadd{end}", ref.dataId) for end in ("", "_n_image"))
    rows, found = find_rows(tables[0], truth)
    bad = coadd.mask.get("ACN_UNTRUSTED") | coadd.mask.get("SATURATED")
    trusted = ~bad & (n_image.array >= _LEAST_EXPOSURES)
    inside = astropy.table.Table({axis: truth[axis] - getattr(coadd.bbox, axis).start for axis in "xy"})
    good = found & (metrics.look_up(trusted, inside) == 1)
    return Half(after=tables[0][rows], before=tables[1][rows], good=good)


def tabulate_pulls(halves: list[Half], truth: astropy.table.Table) -> Iterator[list[str]]:
    """Make a row of each flux and kind of source: differences over their
    errors and, in brackets, over what these were, in bins of S/N.
    """
    one, two = (half.after for half in halves)
    alone = find_isolated(truth) & halves[0].good & halves[1].good
    snr = np.array(truth["flux"] / one["base_PsfFlux_instFluxErr"])
    star, small = truth["type"] == "star", truth["half_light_radius"] < _SMALL
    kinds = {"stars": star, "small galaxies": ~star & small, "large galaxies": ~star & ~small}
    for (title, flux), kind in itertools.product(_FLUXES.items(), kinds):
        difference = np.array(one[f"{flux}_instFlux"] - two[f"{flux}_instFlux"])
        pulls = [
            difference / np.hypot(*(np.array(table[f"{flux}_instFluxErr"]) for table in tables))
            for tables in ((one, two), (halves[0].before, halves[1].before))
        ]
        good = alone & kinds[kind] & ~one[f"{flux}_flag"] & ~two[f"{flux}_flag"]
        cells = []
        for low, high in _BINS:
            inside = good & (snr >= low) & (snr < high)
            if np.count_nonzero(inside) < _LEAST_SOURCES:
                cells.append("-")
                continue
            after, before = (metrics.summarize(pull[inside]) for pull in pulls)
            cells.append(f"{after.scatter:.2f} +- {after.scatter_error:.2f} ({before.scatter:.2f})")
        yield [title, kind, *cells]


def make_lines(butlers: list[Butler]) -> Iterator[str]:
    """Make the lines of the table, and what it is."""
    (ref,) = butlers[0].query_datasets("acn_truth_catalog")
    truth = butlers[0].get(ref)
    halves = [read_half(butler, truth) for butler in butlers]
    yield from ("# Errors of fluxes in catalogues of the stack", "")
    text = (
        "Differences of fluxes between two halves of the exposures of a patch of acn demo, each measured by "
        "the tasks of acn-measure.yaml: half of their central 68 % over the errors in the catalogues and, in "
        f"brackets, over those before the correction. Isolated sources with {_LEAST_EXPOSURES} exposures or "
        f"more in each half; small: half-light radius below {_SMALL} arcsec. S/N: true flux over the error "
        "of the PSF flux; of an extended source it is less."
    )
    yield from (*textwrap.wrap(text, 100), "")
    titles = ["flux", "sources", *(f"S/N {low:g}-{high:g}" for low, high in _BINS)]
    yield from format_table(titles, tabulate_pulls(halves, truth))


def main() -> None:
    """Print the table."""
    title = __doc__.splitlines()[0]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.catalog_errors", description=title)
    parser.add_argument("repo", help="repository of acn demo")
    parser.add_argument("--out", type=Path, help="write the table to this file")
    options = parser.parse_args()
    # The full stack is needed from here on.
    from .stack_catalogs import make_halves

    print_lines(make_lines(make_halves(options.repo)), options.out)


if __name__ == "__main__":
    main()
