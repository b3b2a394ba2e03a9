# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tables that compare catalogues of the stack with the truth."""

import numpy as np
import pytest
from astropy.table import Table

from benchmarks import catalog_errors, catalog_truth
from benchmarks.catalog_match import find_isolated, find_rows

N = 60


@pytest.fixture
def truth():
    """Stars of S/N 50 in a row, 40 px apart; the last has a neighbour."""
    x = 5000.0 + 40 * np.arange(N)
    x[-1] = x[-2] + 10
    columns = {"x": x, "y": np.full(N, 200.0), "flux": np.full(N, 500.0), "mag": np.full(N, 22.5)}
    columns |= {"type": np.full(N, "star"), "half_light_radius": np.zeros(N), "saturated": np.zeros(N, bool)}
    return Table(columns)


def make_catalog(truth, *, fluxes, error, seed):
    """Return a catalogue in another order, with a parent at each place, and
    errors of 5 nJy in the fluxes.
    """
    rng = np.random.default_rng(seed)
    table = Table({"slot_Centroid_x": truth["x"] + 0.3, "slot_Centroid_y": truth["y"] - 0.2})
    table["deblend_nChild"], table["merge_peak_sky"] = 0, False
    for flux in fluxes:
        table[f"{flux}_instFlux"] = truth["flux"] + rng.normal(0, 5, N)
        table[f"{flux}_instFluxErr"] = np.full(N, error)
        table[f"{flux}_flag"] = np.zeros(N, bool)
    for name in ("", "Size"):
        table[f"base_Classification{name}Extendedness_value"] = np.where(np.arange(N) < 12, 1.0, 0.0)
    parents = table.copy()
    parents["deblend_nChild"] = 2
    rows = [row for pair in zip(parents, table, strict=True) for row in pair]
    return Table(rows=rows[::-1], names=table.colnames)


def test_sources_are_found_where_they_were_measured_alone(truth):
    catalog = make_catalog(truth, fluxes=[], error=1.0, seed=1)
    catalog = catalog[np.abs(catalog["slot_Centroid_x"] - 5040.3) > 1]
    rows, found = find_rows(catalog, truth)
    np.testing.assert_array_equal(np.flatnonzero(~found), [1])
    np.testing.assert_allclose(catalog["slot_Centroid_x"][rows[found]], truth["x"][found] + 0.3)
    assert (catalog["deblend_nChild"][rows] == 0).all()
    assert find_isolated(truth).sum() == N - 2


def test_differences_of_halves_are_in_units_of_their_errors(truth):
    halves = []
    for seed in (1, 2):
        tables = [
            make_catalog(truth, fluxes=catalog_errors._FLUXES.values(), error=error, seed=seed)
            for error in (10.0, 2.5)
        ]
        rows, found = find_rows(tables[0], truth)
        found[5:10] = False
        halves.append(catalog_errors.Half(tables[0][rows], tables[1][rows], found))
    rows = list(catalog_errors.tabulate_pulls(halves, truth))
    assert len(rows) == 3 * len(catalog_errors._FLUXES)
    flux, kind, faint, medium, bright = rows[0]
    assert (flux, kind, faint, bright) == ("PSF", "stars", "-", "-")
    after, before = float(medium.split()[0]), float(medium.split("(")[1].rstrip(")"))
    assert after == pytest.approx(0.5, abs=0.12) and before == pytest.approx(4 * after, abs=0.03)
    assert all(cell == "-" for row in rows[1:3] for cell in row[2:])


def test_separation_and_fluxes_are_those_of_isolated_sources(truth):
    catalog = make_catalog(truth, fluxes=catalog_truth._FLUXES, error=1.0, seed=3)
    catalog["base_PsfFlux_instFlux"] *= 1.1
    truth["saturated"][20] = True
    table = catalog_truth.match(catalog, truth)
    assert len(table) == N - 3
    ((kind, mag, number, by_flux, by_size, psf, *_),) = catalog_truth.tabulate([table, table])
    assert (kind, mag, number) == ("star", "22-23", "57; 57")
    # All but the first twelve; the last two and one more are not counted.
    assert by_flux == by_size == f"{45 / 57:.2f}; {45 / 57:.2f}"
    assert float(psf.split()[0]) == pytest.approx(10.0, abs=0.6)


def test_pairs_are_resolved_if_each_has_a_source_of_its_own():
    """At .7, .7, .9 and .5 arcsec: both found; one source for both; found,
    but one of them far off; another brightness.
    """
    x = np.array([0.0, 7.0, 100.0, 107.0, 200.0, 209.0, 300.0, 305.0])
    truth = Table({"x": x, "y": np.zeros(8), "mag": np.array([20.0, 20.5] * 3 + [20.0, 22.0])})
    truth["type"] = ["star", "star", "star", "galaxy", "star", "star", "star", "star"]
    found = np.array([0.5, 6.5, 103.0, 200.0, 213.0, 300.0, 305.0])
    catalog = Table({"slot_Centroid_x": found, "slot_Centroid_y": np.zeros(7)})
    catalog["deblend_nChild"], catalog["merge_peak_sky"] = 0, False
    counts = catalog_truth.count_pairs(catalog, truth, pixel_scale=0.1)
    assert counts["stars", 0.6] == (1, 1) and counts["others", 0.6] == (0, 1)
    assert counts["stars", 0.8] == (0, 1) and counts["stars", 0.4] == (0, 0)
