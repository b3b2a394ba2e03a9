# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Errors of fluxes in catalogues against the truth of a simulated patch.

``python -m benchmarks.flux_errors REPO --collections u/demo/acn`` takes the
repository of ``acn demo`` and a run of ``pipelines/acn.yaml`` in it, measures
every isolated source at its true place on ``acn_coadd``, as the tasks of the
stack do it, and corrects the errors as ``acn-measure.yaml`` does. ``--out
FILE`` writes the table. Seconds, at full size too.
"""

from __future__ import annotations

import argparse
import itertools
import textwrap
from collections.abc import Iterator
from pathlib import Path

import astropy.table
import numpy as np
import scipy.ndimage
import sep

from lsst.coadd.astroclearnet.comparison._photometry import Sources, select_isolated
from lsst.coadd.astroclearnet.correct_acn_flux_errors import CorrectAcnFluxErrorsTask
from lsst.daf.butler import Butler
from lsst.images import Image
from lsst.images.cells import CellCoadd

from .engine import metrics
from .print_lines import format_table, print_lines

_RADII = (3, 5, 8, 12)
"""Radii of the apertures, in pixels."""

_DISTANCE = 14
"""Pixels around a source in which none of more than 2 % of its flux may be."""

_MARGIN = 25
"""Side in pixels of the square around a source that must be good."""

_LEAST = 15
"""Sources that a bin must have."""

_ERROR = "instFluxErr"


def measure(coadd: CellCoadd, truth: Image, catalog: astropy.table.Table) -> astropy.table.Table:
    """Measure errors of fluxes, and what tasks that take pixels for
    independent say of them.

    Parameters
    ----------
    coadd
        The coadd, in nJy.
    truth
        The sky without noise at the same PSF and on the same pixels.
    catalog
        Sources with ``type``, ``x``, ``y`` (pixels of the tract) and ``flux``.

    Returns
    -------
    `astropy.table.Table`
        Isolated sources on good pixels: ``type``, ``flux``, the columns of
        places and errors of a catalogue of the stack, and ``error_PSF`` and
        ``error_R``, flux on the coadd minus that on the truth, in nJy.
    """
    box = coadd.bbox
    places = astropy.table.Table({"x": catalog["x"] - box.x.start, "y": catalog["y"] - box.y.start})
    sources = Sources(x=np.array(places["x"]), y=np.array(places["y"]), sky=np.zeros((1, 1), bool))
    bad = np.any([coadd.mask.get(name) for name in ("NO_DATA", "SATURATED", "ACN_UNTRUSTED")], axis=0)
    bad = scipy.ndimage.maximum_filter(bad, _MARGIN, mode="constant", cval=True)
    good = metrics.look_up(~bad, places) == 1
    chosen = good & select_isolated(sources, np.array(catalog["flux"]), distance=_DISTANCE)
    catalog, places = catalog[chosen], places[chosen]
    found = astropy.table.Table({"type": catalog["type"], "flux": catalog["flux"]})
    for axis in "xy":
        found[f"slot_Centroid_{axis}"] = catalog[axis]
    kernel = coadd.psf.compute_kernel_image(x=round(box.x.center), y=round(box.y.center)).array
    difference = (coadd.image.array - truth.array).astype(float)
    fluxes = metrics.measure_fluxes(difference, difference, places, psf=kernel)
    found["error_PSF"] = fluxes["psf"]
    found[f"base_PsfFlux_{_ERROR}"] = metrics.independent_sigma(coadd.variance.array, places, psf=kernel)
    variance = coadd.variance.array.astype(float)
    for radius in _RADII:
        flux, summed = (
            sep.sum_circle(plane, places["x"], places["y"], radius, subpix=0)[0]
            for plane in (difference, variance)
        )
        found[f"error_{radius}"] = flux
        found[f"base_CircularApertureFlux_{radius}_0_{_ERROR}"] = np.sqrt(summed)
    return found


def tabulate_pulls(before: astropy.table.Table, after: astropy.table.Table) -> Iterator[list[str]]:
    """Make a row of each kind and S/N: errors over the corrected ones and, in
    brackets, over those of independent pixels.
    """
    snr = np.array(after["flux"] / after[f"base_PsfFlux_{_ERROR}"])
    columns = {"PSF": f"base_PsfFlux_{_ERROR}"}
    columns |= {str(radius): f"base_CircularApertureFlux_{radius}_0_{_ERROR}" for radius in _RADII}
    for kind, (low, high) in itertools.product(np.unique(after["type"]), metrics.SNR_BINS):
        inside = (after["type"] == kind) & (snr >= low) & (snr < high)
        if np.count_nonzero(inside) < _LEAST:
            continue
        cells = []
        for name, column in columns.items():
            error = np.array(after[f"error_{name}"][inside])
            corrected, independent = (
                metrics.summarize(error / np.array(table[column][inside])) for table in (after, before)
            )
            cells.append(
                f"{corrected.scatter:.2f} +- {corrected.scatter_error:.2f} ({independent.scatter:.2f})"
            )
        yield [str(kind), f"{low:g}-{high:g}", str(np.count_nonzero(inside)), *cells]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.flux_errors", description=__doc__.splitlines()[0]
    )
    parser.add_argument("repo", help="repository of acn demo")
    parser.add_argument("--collections", required=True, help="a run of pipelines/acn.yaml")
    parser.add_argument("--out", type=Path, help="write the table to this file")
    options = parser.parse_args()
    butler = Butler.from_config(options.repo, collections=options.collections.split(","))
    (ref,) = butler.query_datasets("acn_coadd")
    coadd, truth, catalog, error = (
        butler.get(name, ref.dataId)
        for name in ("acn_coadd", "acn_truth_image", "acn_truth_catalog", "acn_coadd_psf_flux_error")
    )
    before = measure(coadd, truth, catalog)
    task = CorrectAcnFluxErrorsTask()
    after = task.run(catalog=before.copy(), coadd=coadd, psf_flux_error=error).output_catalog
    print_lines(_describe(before, after, coadd), options.out)


def _describe(before: astropy.table.Table, after: astropy.table.Table, coadd: CellCoadd) -> Iterator[str]:
    """Make the lines of the table, and what it is."""
    yield from ("# Errors of fluxes", "")
    text = (
        f"{len(after)} isolated sources of a patch of {coadd.bbox.x.size} x {coadd.bbox.y.size} px of acn "
        "demo. Half of the central 68 % of errors of fluxes in acn_coadd over what the catalogues of "
        "acn-measure.yaml say, and in brackets over what independent pixels give; apertures by their radius "
        "in pixels. S/N: true flux over the error of the PSF flux; of an extended source it is less."
    )
    yield from (*textwrap.wrap(text, 100), "")
    titles = ["sources", "S/N", "number", "PSF", *(f"{radius} px" for radius in _RADII)]
    yield from format_table(titles, tabulate_pulls(before, after))


if __name__ == "__main__":
    main()
