# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""PSFs that change within a cell, and what the fit makes of them."""

from __future__ import annotations

import dataclasses
import functools
import itertools

import galsim
import numpy as np
import pytest
import shapely
import torch
from _register_data import PATCH, SIZE, draw, make_exposure, patch_wcs, warp

from benchmarks.engine.skies import empty_catalog
from benchmarks.simulated_patch import simulate_patch
from benchmarks.when_not.psfs import _make_patch, _measure
from benchmarks.when_not.skies import PLAIN
from lsst.coadd.astroclearnet.core import (
    CellStack,
    FitOptions,
    InvalidExposureError,
    InvalidStackError,
    Plane,
    PsfGradient,
    fit_patch,
)
from lsst.coadd.astroclearnet.core.fourier._grid import FourierGrid
from lsst.coadd.astroclearnet.core.statistic._level_psfs import PsfLeveller
from lsst.coadd.astroclearnet.core.warp._cut_stack import cut_stack
from lsst.coadd.astroclearnet.core.warp._premade_warp import place_exposure
from lsst.coadd.astroclearnet.core.warp._psf_trend import PsfTrend, nearest_on_frame
from lsst.coadd.astroclearnet.simulate import StackTruth

SLOPE = np.array([1.5e-4, -0.8e-4])
"""Relative change of the width of a PSF per pixel along x and y."""

CENTRE = np.array([PATCH["x0"] + 210, PATCH["y0"] + 200])


def gaussian(*, x, y, size=31):
    """A Gaussian whose width changes over the patch."""
    sigma = 1.6 * np.exp(SLOPE @ (np.array([x, y]) - CENTRE))
    radius = np.hypot(*np.indices((size, size)) - size // 2)
    kernel = np.exp(-0.5 * (radius / sigma) ** 2)
    return kernel / kernel.sum()


def box(*, x0, y0, height, width):
    """Outline of a frame that is a box."""
    x, y = x0 - 0.5 + np.array([0, width, width, 0]), y0 - 0.5 + np.array([0, 0, height, height])
    return np.stack([x, y], axis=1)


def change(psf, *, x, y, step=1.0):
    """The change of a PSF per pixel along x and y, by differences."""
    along_x = psf(x=x + step, y=y) - psf(x=x - step, y=y)
    return np.stack([along_x, psf(x=x, y=y + step) - psf(x=x, y=y - step)]) / (2 * step)


@pytest.mark.parametrize(("u", "v"), [(0.5, 0.5), (0.1, 0.2), (0.9, 0.6), (1.0, 0.0)])
def test_trend_tells_the_gradient(u, v):
    trend = PsfTrend.fit(gaussian, outline=box(**PATCH), **PATCH)
    place = {"x": PATCH["x0"] + u * PATCH["width"], "y": PATCH["y0"] + v * PATCH["height"]}
    found, true = trend(**place), change(gaussian, **place)
    assert found.shape == (2, 31, 31) and found.dtype == np.float32
    assert np.linalg.norm(found - true) < 0.01 * np.linalg.norm(true)
    assert np.abs(found.sum((1, 2))).max() < 1e-8


def test_trend_asks_on_the_frame_alone():
    """A model may have any value off its frame, or none."""
    outline = CENTRE + np.array([[-200, -50], [60, -190], [190, 30], [-80, 180]])
    frame, asked = shapely.Polygon(outline), []

    def psf(*, x, y):
        asked.append((x, y))
        return gaussian(x=x, y=y)

    trend = PsfTrend.fit(psf, outline=outline, **PATCH)
    assert len(asked) > 8 and all(frame.contains(shapely.Point(place)) for place in asked)
    place = dict(zip("xy", CENTRE.tolist(), strict=True))
    true = change(gaussian, **place)
    assert np.linalg.norm(trend(**place) - true) < 0.05 * np.linalg.norm(true)


def test_trend_does_without_places_that_have_no_psf():
    def holed(*, x, y):
        if x < CENTRE[0]:
            raise InvalidExposureError("no value there")
        return gaussian(x=x, y=y)

    def empty(*, x, y):
        raise InvalidExposureError("no value there")

    place = {"x": CENTRE[0] + 100, "y": float(CENTRE[1])}
    true = change(gaussian, **place)
    found = PsfTrend.fit(holed, outline=box(**PATCH), **PATCH)(**place)
    assert np.linalg.norm(found - true) < 0.05 * np.linalg.norm(true)
    assert PsfTrend.fit(empty, outline=box(**PATCH), **PATCH) is None
    # A single column has no change across it.
    column = PATCH | {"width": 1}
    found = PsfTrend.fit(gaussian, outline=box(**column), **column)(**place)
    assert np.abs(found[0]).max() < 3 * np.abs(true).max()


def test_nearest_on_frame():
    outline = box(x0=10, y0=20, height=100, width=50)
    assert nearest_on_frame(outline, x=30.0, y=70.0) == (30.0, 70.0)
    assert nearest_on_frame(outline, x=-5.0, y=70.0) == (9.5, 70.0)
    assert nearest_on_frame(outline, x=100.0, y=500.0) == (59.5, 119.5)


def profile_at(*, x, y):
    """Profile of a star on native pixels that widens along x and y."""
    return galsim.Gaussian(fwhm=3.5 * np.exp(3e-4 * (x + 37 - SIZE / 2) + 2e-4 * (y - 1211 - SIZE / 2)))


def widening(*, x, y):
    """The same as a PSF."""
    stamp = profile_at(x=x, y=y).drawImage(nx=41, ny=41, scale=1, dtype=float).array
    return stamp / stamp.sum()


@pytest.mark.parametrize("grid", ["same", "rotated", "coarser"])
def test_cell_knows_how_its_psfs_change(grid):
    image = np.ones((SIZE, SIZE), np.float32)
    varying, constant = warp(make_exposure(grid, psf=widening, image=image)), warp(make_exposure(image=image))
    constant = dataclasses.replace(constant, visit=2, label="visit=2 detector=2")
    cell = {"x0": PATCH["x0"] + 100, "y0": PATCH["y0"] + 120, "height": 120, "width": 140}
    stack = cut_stack([constant, varying], bad=Plane.BAD, **cell)
    gradient = stack.psf_gradient
    np.testing.assert_allclose(gradient.x, 69.5)
    np.testing.assert_allclose(gradient.y, 59.5)
    assert gradient.per_pixel.shape == (2, 2, *stack.psf.shape[1:])
    step = np.array([30.0, -20.0])
    moved = varying.psf(x=cell["x0"] + 69.5 + step[0], y=cell["y0"] + 59.5 + step[1])
    middle = varying.psf(x=cell["x0"] + 69.5, y=cell["y0"] + 59.5)
    told = np.tensordot(step, gradient.per_pixel[0], axes=1)
    moved, middle = (np.pad(one, (len(told) - len(one)) // 2) for one in (moved, middle))
    assert np.linalg.norm(middle + told - moved) < 0.1 * np.linalg.norm(moved - middle)
    assert np.abs(gradient.per_pixel[1]).max() < 1e-6
    assert cut_stack([constant], bad=Plane.BAD, **cell).psf_gradient is None


def test_detector_of_a_warp_knows_how_its_psf_changes():
    """The model of a warp has no value off its detectors."""
    corner = {"x0": PATCH["x0"] + 100, "y0": PATCH["y0"] + 50, "height": 200, "width": 240}
    outline = box(**corner)
    frame = shapely.Polygon(outline)

    def psf(*, x, y):
        if not frame.contains(shapely.Point(x, y)):
            raise InvalidExposureError("no value off the detectors")
        return gaussian(x=x, y=y)

    y, x = np.indices((PATCH["height"], PATCH["width"]))
    inside = shapely.contains_xy(frame, x + PATCH["x0"], y + PATCH["y0"])
    one = place_exposure(
        visit=1,
        detector=2,
        physical_filter="HSC-I",
        label="visit=1 detector=2",
        image=np.ones(inside.shape, np.float32),
        variance=np.ones(inside.shape, np.float32),
        flags=np.zeros(inside.shape, np.uint32),
        inside=inside,
        x0=PATCH["x0"],
        y0=PATCH["y0"],
        psf=psf,
        outline=outline,
        bad=Plane.BAD,
        aperture_corrections={},
    )
    place = {"x": corner["x0"] + 50.0, "y": corner["y0"] + 70.0}
    true = change(gaussian, **place)
    assert np.linalg.norm(one.psf_trend(**place) - true) < 0.03 * np.linalg.norm(true)


def test_psf_of_a_corner_of_a_frame_is_that_of_the_corner():
    """The middle of the cell lies off the frame: nothing is extrapolated."""
    image = np.ones((SIZE, SIZE), np.float32)
    one = warp(make_exposure("same", psf=widening, image=image), x0=PATCH["x0"] - 200)
    left = one.outline[:, 0].min()
    cell = {"x0": round(left) - 80, "y0": PATCH["y0"] + 100, "height": 100, "width": 100}
    stack = cut_stack([one], bad=Plane.BAD, **cell)
    x, y = cell["x0"] + stack.psf_gradient.x[0], cell["y0"] + stack.psf_gradient.y[0]
    assert (x, y) == pytest.approx((left, cell["y0"] + 49.5), abs=0.01)
    kernel = one.psf(x=x, y=y)
    np.testing.assert_allclose(
        stack.psf[0], np.pad(kernel, (stack.psf.shape[-1] - len(kernel)) // 2), atol=1e-7
    )


def test_stack_refuses_a_gradient_of_another_shape():
    values = {
        "image": np.zeros((1, 32, 32), np.float32),
        "variance": np.ones((1, 32, 32), np.float32),
        "good": np.ones((1, 32, 32), bool),
        "psf": np.ones((1, 1, 1), np.float32),
        "labels": ("one",),
    }
    gradient = PsfGradient(per_pixel=np.zeros((1, 2, 3, 3), np.float32), x=np.zeros(1), y=np.zeros(1))
    with pytest.raises(InvalidStackError, match="psf_gradient must have shape"):
        CellStack(**values, psf_gradient=gradient)


def test_exposures_are_levelled_as_the_model_says():
    """Stars seen through PSFs that change linearly become those of one PSF,
    at the edge of the cell and in the padding, too.
    """
    rng = np.random.default_rng(3)
    height, width, n = 90, 110, 3
    grid = FourierGrid.for_images(height=height, width=width, pad=30)
    kernels = np.stack([gaussian(x=CENTRE[0] + 800 * k, y=CENTRE[1]) for k in range(n)])
    gradient = PsfGradient(
        per_pixel=np.stack([change(gaussian, x=CENTRE[0] + 800 * k, y=CENTRE[1]) for k in range(n)]).astype(
            np.float32
        ),
        x=np.array([54.5, 54.5, -20.0]),
        y=np.array([44.5, 44.5, 10.0]),
    )
    sky = torch.zeros(grid.shape)
    stars = [(rng.integers(110), rng.integers(90), rng.uniform(1, 100)) for _ in range(12)]
    for x, y, flux in [*stars, (-5, 40, 300.0), (60, 95, 300.0)]:
        sky[y, x] += flux
    seen, level = np.zeros((2, n, height + 60, width + 60))
    for t in range(n):
        for x, y, flux in [*stars, (-5, 40, 300.0), (60, 95, 300.0)]:
            stamp = np.s_[t, y + 15 : y + 46, x + 15 : x + 46]
            by_x, by_y = gradient.per_pixel[t]
            level[stamp] += flux * kernels[t]
            seen[stamp] += flux * (kernels[t] + (x - gradient.x[t]) * by_x + (y - gradient.y[t]) * by_y)
    inner = np.s_[:, 30 : 30 + height, 30 : 30 + width]
    image, wanted = (torch.as_tensor(one[inner], dtype=torch.float32) for one in (seen, level))
    assert (image - wanted).abs().max() > 0.02 * wanted.max()
    good = torch.ones_like(image)
    good[1, :30] = 0.0
    image, wanted = image * good, wanted * good
    residual = image.clone()
    leveller = PsfLeveller(image.clone(), good, gradient, grid)
    spectrum, den = grid.transform(sky), torch.full((grid.shape[0], grid.shape[1] // 2 + 1), 1e3)
    den[0, 0] = 1.0
    for _ in range(2):
        leveller.level(image, residual, spectrum=spectrum, den=den)
        assert (image - wanted).abs().max() < 1e-4 * wanted.max()
        np.testing.assert_allclose(residual, image, atol=1e-4 * float(wanted.max()))


def measure_stars(warped, places):
    """Fit a cell of 200 pixels in the middle of the patch; return PSF fluxes
    of stars at places of the patch grid.
    """
    x0, y0 = (int(middle) - 100 for middle in CENTRE)

    def get_stack(tile, halo):
        side = 200 + 2 * halo
        return cut_stack(warped, x0=x0 - halo, y0=y0 - halo, height=side, width=side, bad=Plane.BAD)

    options = FitOptions(cell_size=200, n_threads=1)
    fit = fit_patch(get_stack, height=200, width=200, options=options)
    fluxes = []
    for x, y in places - (x0, y0):
        column, row = round(x), round(y)
        profile = galsim.Gaussian(fwhm=options.target_fwhm).shift(x - column, y - row)
        psf = profile.drawImage(nx=15, ny=15, scale=1, method="no_pixel", dtype=float).array
        stamp = fit.coadd[row - 7 : row + 8, column - 7 : column + 8]
        fluxes.append((stamp * psf).sum() / (psf**2).sum())
    return np.array(fluxes)


def test_stars_from_frames_to_cell():
    """Frames of another scale and orientation, with PSFs that widen in their
    own pixels: each star of the cell has its flux.
    """
    places = CENTRE + 36.0 * np.array(list(itertools.product(range(-2, 3), repeat=2))) + 0.3
    rng = np.random.default_rng(5)
    warped = []
    for visit, grid in enumerate(("same", "rotated", "flipped")):
        exposure = make_exposure(grid, psf=widening, visit=visit)
        ra, dec = patch_wcs().pixel_to_sky(x=places[:, 0], y=places[:, 1])
        image = rng.normal(size=(SIZE, SIZE)).astype(np.float32)
        for x, y in zip(*exposure.wcs.sky_to_pixel(ra=ra, dec=dec), strict=True):
            draw(image, profile_at(x=x, y=y), x=x - exposure.x0, y=y - exposure.y0, flux=4000)
        warped.append(warp(dataclasses.replace(exposure, image=image)))
    told = measure_stars(warped, places) / 4000
    ignored = measure_stars([dataclasses.replace(one, psf_trend=None) for one in warped], places) / 4000
    assert np.std(ignored) > 0.015
    assert np.std(told) < 0.002 and abs(np.mean(told) - 1) < 0.005


@functools.cache
def patch():
    """Stars of S/N 300 seen by 16 exposures whose PSFs widen together by 2 per
    cent in 100 pixels.
    """
    return _make_patch(0.02, True, 640)


def fit_unknowing(monkeypatch, **options):
    """Fit it without what it knows of the change."""
    with monkeypatch.context() as patched:
        patched.setattr(StackTruth, "find_gradient", lambda self, **place: None)
        return patch().fit(cell_size=200, **options)


def test_fluxes_are_right_all_over_a_cell(monkeypatch):
    told, *_ = _measure(patch(), patch().fit(cell_size=200))
    ignored, *_ = _measure(patch(), fit_unknowing(monkeypatch))
    assert np.std(ignored) > 0.013
    assert np.std(told) < 0.007 and abs(np.mean(told)) < 0.004


def test_fit_tells_how_much_the_psf_changes(monkeypatch):
    """By more than the width; cells of half the size by half as much each."""
    whole, cells = patch().fit(cell_size=200), patch().fit(cell_size=100)
    to_corner = np.log(1.02)
    assert whole.psf_change.shape == (1, 1) and cells.psf_change.shape == (2, 2)
    assert to_corner < whole.psf_change[0, 0] < 2 * to_corner
    np.testing.assert_allclose(cells.psf_change, whole.psf_change[0, 0] / 2, rtol=0.15)
    assert not fit_unknowing(monkeypatch).psf_change.any()


def test_noise_changes_with_the_psfs():
    """The sky of an empty cell scatters as variance and noise plane say, where
    PSFs are the sharpest and where they are the broadest.
    """
    psfs = _make_patch(0.1, True, 640).truth.psfs[:4]
    towards = psfs[0].gradient[0] / np.hypot(*psfs[0].gradient[0])
    place = np.tensordot(towards, np.indices((200, 200))[::-1] - 99.5, axes=1)
    fits = []
    for k in range(8):
        blank = simulate_patch(
            size=200, n_exposures=4, seed=640, noise_seed=k, catalog=empty_catalog(), **PLAIN
        )
        blank = dataclasses.replace(blank, truth=dataclasses.replace(blank.truth, psfs=psfs))
        fits.append(blank.fit(cell_size=200))
    scatter = []
    for side in (place < -80, np.abs(place) < 20, place > 80):
        found = np.std([fit.coadd[side] for fit in fits])
        assert found / np.mean([fit.coadd_variance[side] for fit in fits]) ** 0.5 == pytest.approx(
            1, abs=0.06
        )
        assert found / np.std([fit.noise[side] for fit in fits]) == pytest.approx(1, abs=0.12)
        scatter.append(found)
    assert scatter[0] < 0.9 * scatter[1] < 0.8 * scatter[2]


def test_mean_keeps_its_pixels(monkeypatch):
    """It has no model of the sky: the PSF is that of the middle of a cell."""
    told = patch().fit(cell_size=200, method="mean")
    ignored = fit_unknowing(monkeypatch, method="mean")
    same = told.n_rejected == ignored.n_rejected
    assert same.mean() > 0.999
    np.testing.assert_allclose(told.coadd[same], ignored.coadd[same], rtol=1e-3, atol=0.05)
