# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Skies that the guide says not to use the coadds for are what they say."""

import sys

import numpy as np
import pytest

from benchmarks.simulated_patch import HALO
from benchmarks.when_not import __main__ as command
from benchmarks.when_not import crowded, psfs, smooth, variables
from lsst.coadd.astroclearnet._coadds import sample_gaussian


@pytest.fixture
def small(monkeypatch):
    """Small skies with little on them."""
    monkeypatch.setattr(variables, "_SNR", (60.0,))
    monkeypatch.setattr(variables, "_COUNT", 3)
    for section in (crowded, smooth):
        monkeypatch.setattr(section, "_SIDE", 100)
    monkeypatch.setattr(crowded, "_BINS", ((10.0, 1000.0),))
    monkeypatch.setattr(crowded, "_DENSITY", 150)
    monkeypatch.setattr(smooth, "_PEAKS", (3.0,))
    monkeypatch.setattr(smooth, "_WIDTHS", (20,))
    monkeypatch.setattr(psfs, "_COUNT", 2)
    monkeypatch.setattr(psfs, "_CELLS", (80, 40))
    monkeypatch.setattr(psfs, "_CHANGES", (0.3,))


def cut(image, star, half):
    """Cut a star out of an image with halo."""
    x, y = round(star["x"]) + HALO, round(star["y"]) + HALO
    return image[y - half : y + half + 1, x - half : x + half + 1]


def test_variable_stars_have_the_light_that_is_asked_for(small):
    """In the mean of all exposures; of a flare there is more."""
    kinds = [(name, 60.0) for name in variables._LIGHT_CURVES]
    patch, wanted = variables._make_patch(3, kinds)
    light = [cut(patch.truth.signal.mean(0), star, 15).sum() for star in patch.sources]
    flared = 1 + (variables._FLARE - 1) / len(patch.truth.signal)
    more = [flared if curve is variables._flare else 1.0 for curve in variables._LIGHT_CURVES.values()]
    np.testing.assert_allclose(light, wanted * more, rtol=0.03)
    peaks = np.array([[cut(one, star, 1).max() for one in patch.truth.signal] for star in patch.sources])
    shown = peaks > 0.1 * peaks.max(1, keepdims=True)
    assert shown.sum(1).tolist() == [16, 16, 16, 3, 1]


def test_fluxes_fitted_together_in_the_truth_are_the_true_ones(small):
    patch = crowded._make_patch(3)
    truth = patch.truth.image[patch.inner]
    snr, flux, _ = crowded._fit_together(patch, truth, sample_gaussian(2.5, 41)).T
    assert len(flux) > 10 and snr.min() > 2.9
    np.testing.assert_allclose(flux[snr > 10], 1.0, atol=0.003)


def test_smooth_light_has_the_peak_that_is_asked_for(small):
    patch = smooth._make_patch(3.0, 20, 3)
    sigma = np.sqrt(1 / np.sum(1 / patch.truth.sky_sigma**2))
    assert patch.truth.image.max() == pytest.approx(3.0 * sigma, rel=0.03)


@pytest.mark.parametrize("together", [True, False])
def test_psfs_change_as_much_as_is_asked_for(small, together):
    """And the exposures show the stars through them."""
    patch = psfs._make_patch(0.3, together, 3)
    middle = np.array(patch.truth.psfs[0].centre)
    directions = []
    for psf, signal in zip(patch.truth.psfs, patch.truth.signal, strict=True):
        direction = psf.gradient[0] / np.hypot(*psf.gradient[0])
        directions.append(direction)
        far = middle + 100 * direction
        wide, narrow = (psf(x=x, y=y).calculateFWHM() for x, y in (far, middle))
        assert wide / narrow == pytest.approx(1.3, rel=0.01)
        for star in patch.sources:
            kernel = psf.kernel(x=star["x"] + HALO, y=star["y"] + HALO, size=61)[20:41, 20:41]
            seen = cut(signal, star, 10)
            # A shift of less than a pixel does not change this, a width does.
            sharpness = [(stamp**2).sum() / stamp.sum() ** 2 for stamp in (seen, kernel)]
            assert sharpness[0] == pytest.approx(sharpness[1], rel=0.02)
    assert (np.std(directions, axis=0).max() < 1e-6) == together


def test_command(small, tmp_path, monkeypatch, capsys):
    """A table for each section, two for the last, whose rows have a figure in
    each column.
    """
    out = tmp_path / "table.md"
    monkeypatch.setattr(sys, "argv", ["when_not", "--quick", "--out", str(out)])
    command.main()
    text = out.read_text()
    assert text == capsys.readouterr().out and "nan" not in text
    sections = text.split("\n## ")[1:]
    rows = [[line for line in one.splitlines() if line.startswith("|")][2:] for one in sections]
    assert [len(one) for one in rows] == [len(variables._LIGHT_CURVES), len(crowded._PLANES), 3, 4 + 2 + 1]
