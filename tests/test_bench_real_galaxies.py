# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Real galaxies as the sky of the benchmark."""

import dataclasses
import sys

import astropy.table
import numpy as np
import pytest
from astropy.io import fits

from benchmarks import real_galaxies
from lsst.coadd.astroclearnet._coadds import sample_gaussian

_PIXEL = 0.03


@pytest.fixture
def catalog(tmp_path):
    """Two galaxies of 0.6 and 0.9 arcsec in GalSim's format, and one that is
    larger than its place on the grid.
    """
    y, x = np.mgrid[-40:41, -40:41]
    images = [np.exp(-0.5 * (x**2 + (y / 0.6) ** 2) / s**2).astype(np.float32) for s in (8.0, 12.0)]
    images.append(np.ones((400, 400), np.float32))
    fits.HDUList([fits.PrimaryHDU(images[0]), *map(fits.ImageHDU, images[1:])]).writeto(
        tmp_path / "images.fits"
    )
    fits.PrimaryHDU(images[0][30:51, 30:51]).writeto(tmp_path / "psfs.fits")
    n = len(images)
    columns = {
        "IDENT": np.arange(n),
        "MAG": np.full(n, 22.0),
        "BAND": ["F814W"] * n,
        "WEIGHT": np.ones(n),
        "GAL_FILENAME": ["images.fits"] * n,
        "PSF_FILENAME": ["psfs.fits"] * n,
        "GAL_HDU": np.arange(n),
        "PSF_HDU": np.zeros(n, int),
        "PIXEL_SCALE": np.full(n, _PIXEL),
        "NOISE_MEAN": np.zeros(n),
        "NOISE_VARIANCE": np.full(n, 1e-6),
    }
    astropy.table.Table(columns).write(tmp_path / "catalog.fits")
    return tmp_path / "catalog.fits"


def test_galaxies_of_a_catalog(catalog):
    """All that fit on the grid, with their own pixels."""
    galaxies = real_galaxies.read_catalog(catalog, 5, np.random.default_rng(1))
    assert [image.shape for image, _ in galaxies] == [(81, 81)] * 2
    assert all(scale == _PIXEL for _, scale in galaxies)
    assert len(real_galaxies.read_catalog(catalog, 1, np.random.default_rng(1))) == 1


def test_galaxies_of_the_deep_field():
    """Single ones, dark around them, of more than the least area."""
    pytest.importorskip("skimage", reason="scikit-image, of the extra 'bench', has the picture")
    galaxies = real_galaxies.read_deep_field()
    assert len(galaxies) > 20
    for image, scale in galaxies:
        assert np.count_nonzero(image) >= 300 and scale == pytest.approx(0.056)
        assert image[0].max() == 0 and image[:, 0].max() == 0
        assert max(image.shape) * scale < real_galaxies._SPACING * real_galaxies.PIXEL_SCALE


def test_the_truth_has_no_errors(catalog):
    """And one that is a tenth too bright has just these."""
    galaxies = real_galaxies.read_catalog(catalog, 2, np.random.default_rng(1))
    patch = real_galaxies._make_patch(galaxies, 3, noise_seed=0)
    assert len(list(real_galaxies._stamps(patch))) == 2 * len(real_galaxies.SHAPE_SNR)
    sky = patch.truth.image[patch.inner]
    fit = patch.fit(cell_size=patch.size, method="mean")
    kernel = np.zeros((1, 1, 41, 41))
    kernel[0, 0] = sample_gaussian(2.5, 41)
    for factor in (1.0, 1.1):
        perfect = dataclasses.replace(fit, coadd=factor * sky, coadd_psf=kernel)
        for _, errors in real_galaxies._measure(patch, perfect, "coadd"):
            assert errors.relative_rms == pytest.approx(factor - 1.0, abs=0.002)
            assert errors.flux_error == pytest.approx(factor - 1.0, abs=0.002)
            assert not errors.has_false


def test_command(catalog, tmp_path, monkeypatch, capsys):
    """A row for each plane and S/N, and a picture."""
    peers = {name: real_galaxies._PEERS[name] for name in ("engine, `acn_latent`", "clipped mean")}
    monkeypatch.setattr(real_galaxies, "_PEERS", peers)
    out = tmp_path / "table.md"
    arguments = ["--catalog", str(catalog), "--number", "1", "--observations", "1", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["real_galaxies", *arguments])
    real_galaxies.main()
    text = out.read_text()
    assert text in capsys.readouterr().out + "\n" and "1 galaxies of catalog.fits" in text
    rows = [line for line in text.splitlines() if line.startswith(("| engine", "| clipped"))]
    assert len(rows) == 2 * len(real_galaxies.SHAPE_SNR)
    assert out.with_suffix(".png").stat().st_size > 10_000
