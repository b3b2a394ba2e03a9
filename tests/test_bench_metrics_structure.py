# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Figures about single objects of any shape, where the answer is known."""

import numpy as np
import pytest
from astropy.stats import gaussian_fwhm_to_sigma

from benchmarks.engine import metrics


def draw_bar(*, length=20.0, width=5.0):
    rows, columns = np.indices((60, 60)) - 29.5
    along = 1 / (1 + np.exp((np.abs(columns) - length / 2) * 2))
    return 100 * along * np.exp(-4 * np.log(2) * (rows / width) ** 2)


def test_bar_with_a_false_dip():
    bar = draw_bar()
    rows, columns = np.indices(bar.shape) - 29.5
    image = bar * (1 - 0.3 * np.exp(-4 * np.log(2) * (columns / 5) ** 2))
    false = metrics.false_structure(image, bar)
    # The saddle leaves two peaks where the truth has one.
    assert (false.n_peaks, false.n_dips) == (1, 0)
    assert false.largest == pytest.approx(0.3, abs=0.02)
    assert metrics.false_structure(image, bar, sigma=11.0).n_peaks == 0
    assert metrics.false_structure(1.2 * bar, bar).n_peaks == 0


def test_hole_that_is_false_or_true():
    rows, columns = np.indices((60, 60)) - 29.5
    radius = np.hypot(rows, columns)
    disc = 100 / (1 + np.exp((radius - 12) * 2))
    ring = disc * (1 - 0.4 * np.exp(-4 * np.log(2) * (radius / 8) ** 2))
    false = metrics.false_structure(ring, disc)
    assert false.n_dips == 1 and false.largest == pytest.approx(0.4, abs=0.03)
    # The flux that is missing below the rim, and the rim itself.
    missing = (disc - ring)[radius < 9].sum() / disc[disc > 10].sum()
    assert false.flux_share == pytest.approx(missing, rel=0.3)
    true = metrics.false_structure(ring, ring)
    assert (true.n_peaks, true.n_dips, true.flux_share) == (0, 0, 0)
    assert metrics.false_structure(1.1 * ring, ring).n_dips == 0


def test_false_knots_and_their_flux():
    rows, columns = np.indices((70, 70)) - 34.5
    radius = np.hypot(rows, columns)
    disc = 100 / (1 + np.exp((radius - 20) * 2)) + 50 * np.exp(-0.5 * (radius / 2) ** 2)
    image = disc.copy()
    for x, y in ((11, 0), (-9, 8), (0, -12)):
        image += 40 * np.exp(-4 * np.log(2) * ((columns - x) ** 2 + (rows - y) ** 2) / 3.0**2)
    false = metrics.false_structure(image, disc)
    assert (false.n_peaks, false.n_dips) == (3, 0)
    flux = 3 * 40 * 2 * np.pi * (3.0 * gaussian_fwhm_to_sigma) ** 2
    assert false.flux_share == pytest.approx(flux / disc[disc > 15].sum(), rel=0.05)


def test_false_knot_that_outshines_the_galaxy():
    rows, columns = np.indices((70, 70)) - 34.5
    galaxy = 100 * np.exp(-np.hypot(rows, columns) / 6)
    image = galaxy + 200 * np.exp(-((columns - 9) ** 2 + rows**2) / 2)
    false = metrics.false_structure(image, galaxy)
    assert (false.n_peaks, false.n_dips) == (1, 0)
    # Islands above the isophote have peaks of their own.
    islands = galaxy + np.roll(0.5 * galaxy, 30, axis=1)
    assert metrics.false_structure(islands, islands, level=0.3).n_peaks == 0
    one, other = galaxy, np.roll(0.5 * galaxy, 30, axis=1)
    truth = np.where(one > 30, one, 0) + np.where(other > 30, other, 0)
    image = truth * (1 - 0.9 * (np.abs(columns - 31) < 0.6))
    assert metrics.false_structure(image, truth, level=0.3).n_peaks == 1


@pytest.mark.parametrize("seed", range(5))
def test_noise_on_a_flat_ridge_is_no_structure(seed):
    # Two equal ends, each a flat ridge: noise decides which is the higher,
    # and where.
    rows, columns = np.indices((60, 60)) - 29.5
    radius = np.hypot(rows, columns)
    ring = np.exp(-4 * np.log(2) * ((radius - 12) / 5) ** 2) * (
        1 + 0.3 * np.cos(np.arctan2(rows, columns)) ** 2
    )
    image = 1e4 * ring + np.random.default_rng(seed).normal(0, 10, ring.shape)
    false = metrics.false_structure(image, 1e4 * ring, sigma=10)
    assert (false.n_peaks, false.n_dips) == (0, 0)


def test_shape_errors():
    bar = draw_bar()
    errors = metrics.shape_errors(0.98 * bar, bar)
    assert errors.relative_rms == pytest.approx(0.02)
    assert errors.flux_error == pytest.approx(-0.02)
    assert (errors.false_share, errors.has_false) == (0.0, False)
