# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Cells are cut, fitted and stitched alike however many threads there are."""

import dataclasses

import numpy as np
import pytest
import scipy.spatial.distance
import torch

from lsst.coadd.astroclearnet.core import CellFit, CellStack, FitError, FitOptions, Tile, _batches, fit_patch
from lsst.coadd.astroclearnet.core._diagnosis import Diagnosis
from lsst.coadd.astroclearnet.core.methods import _fit as _fit_module
from lsst.coadd.astroclearnet.core.patch._canvas import Canvas
from lsst.coadd.astroclearnet.core.patch._tiles import _spread, make_tiles
from lsst.coadd.astroclearnet.core.statistic._statistic import compute_statistic
from lsst.coadd.astroclearnet.simulate import simulate_stack

_HALO = 24
PLANES = ("latent", "coadd", "latent_variance", "coadd_variance", "psf_flux_variance", "noise", "n_image")


@pytest.fixture(scope="module")
def exposures():
    """Four exposures of a patch of 3 x 2 cells of 64 px, with their halo."""
    stack, _ = simulate_stack(n_exposures=4, size=3 * 64 + 2 * _HALO, seed=6)
    return stack


def _cut(stack: CellStack, tile: Tile, halo: int) -> CellStack | None:
    if (tile.i, tile.j) == (2, 1):
        return None
    part = np.s_[:, tile.y0 : tile.y0 + tile.height + 2 * halo, tile.x0 : tile.x0 + tile.width + 2 * halo]
    return dataclasses.replace(
        stack, image=stack.image[part].copy(), variance=stack.variance[part], good=stack.good[part]
    )


def _fit(stack: CellStack, n_threads: int, get_stack=None, on_failed_cell=None, **options):
    options = FitOptions(**{"cell_size": 64, "halo": _HALO, "n_threads": n_threads, "seed": 3, **options})
    get_stack = get_stack or (lambda tile, halo: _cut(stack, tile, halo))
    return fit_patch(get_stack, height=192, width=128, options=options, on_failed_cell=on_failed_cell)


def test_threads_do_not_matter(exposures):
    """Bit by bit the same, also in the order of the history."""
    one, three = (_fit(exposures, n_threads) for n_threads in (1, 3))
    for field in PLANES:
        np.testing.assert_array_equal(getattr(one, field), getattr(three, field))
    assert [row["chi2"] for row in one.history] == [row["chi2"] for row in three.history]
    assert one.missing == three.missing == {(2, 1)}


@pytest.mark.parametrize(
    "options", [{"recipe": "self", "self_steps": 4}, {"recipe": "paper", "paper_steps": 4}]
)
def test_threads_do_not_matter_to_training(exposures, options):
    """Steps would make a difference in rounding grow."""
    before = torch.get_num_threads()
    try:
        one, three = (_fit(exposures, n_threads, **options) for n_threads in (1, 3))
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    for field in PLANES:
        np.testing.assert_array_equal(getattr(one, field), getattr(three, field))
    for name in ("loss", "chi2"):
        assert [row[name] for row in one.history] == [row[name] for row in three.history]


def test_fault_in_a_cell_is_told(exposures):
    """What goes wrong in a thread is raised where the patch was asked for."""

    def get_stack(tile, halo):
        stack = _cut(exposures, tile, halo)
        if (tile.i, tile.j) == (1, 1):
            stack.image[:] = np.inf  # after the checks
        return stack

    with pytest.raises(FitError, match="not finite"):
        _fit(exposures, 2, get_stack)


def test_cell_that_fails_costs_itself_alone(exposures):
    """Who asked is told; the other cells are as they were."""

    def get_stack(tile, halo):
        stack = _cut(exposures, tile, halo)
        if (tile.i, tile.j) == (0, 1):
            stack.image[:] = np.inf
        return stack

    told = []
    whole = _fit(exposures, 1)
    part = _fit(exposures, 1, get_stack, on_failed_cell=lambda tile, error: told.append((tile, error)))
    ((tile, error),) = told
    assert (tile.i, tile.j) == (0, 1) and isinstance(error, FitError)
    assert part.missing == {(0, 1), (2, 1)}
    assert not part.n_image[:64, 64:].any() and not part.coadd[:64, 64:].any()
    far = np.s_[80:, :]  # beyond the band in which neighbours are mixed
    for field in PLANES:
        np.testing.assert_array_equal(getattr(part, field)[far], getattr(whole, field)[far])


def _broken_in(exposures, place, error, asked):
    """Return what makes stacks, but for one cell, and notes its calls."""

    def get_stack(tile, halo):
        asked.append((tile.i, tile.j))
        if (tile.i, tile.j) == place:
            raise error
        return _cut(exposures, tile, halo)

    return get_stack


@pytest.mark.parametrize("n_threads", [1, 3])
def test_cell_whose_stack_cannot_be_made_costs_itself_alone(exposures, n_threads):
    """As if its fit had failed."""
    told, error = [], ValueError("no field")
    whole = _fit(exposures, n_threads, method="mean")
    part = _fit(
        exposures,
        n_threads,
        _broken_in(exposures, (0, 1), error, []),
        on_failed_cell=lambda tile, error: told.append((tile.i, tile.j, error)),
        method="mean",
    )
    assert told == [(0, 1, error)]
    assert part.missing == {(0, 1), (2, 1)}
    others = np.ones((192, 128), bool)
    others[:64, 64:] = False
    for field in ("coadd", "coadd_variance", "psf_flux_variance", "noise", "n_image"):
        np.testing.assert_array_equal(getattr(part, field)[others], getattr(whole, field)[others])
        assert not getattr(part, field)[~others].any()


def test_stack_that_cannot_be_made_is_raised_if_nobody_asked(exposures):
    with pytest.raises(ValueError, match="no field"):
        _fit(exposures, 2, _broken_in(exposures, (1, 1), ValueError("no field"), []), method="mean")


@pytest.mark.parametrize("error", [MemoryError(), KeyboardInterrupt()])
def test_what_is_no_fault_of_a_cell_stops_the_patch(exposures, error):
    told = []
    with pytest.raises(type(error)):
        _fit(
            exposures,
            1,
            _broken_in(exposures, (0, 1), error, []),
            on_failed_cell=lambda tile, error: told.append(tile),
            method="mean",
        )
    assert not told


def test_cell_that_cannot_be_learnt_from_fails_at_its_turn(exposures):
    """It is not asked for again, when only a part of it may fail."""
    told, asked, error = [], [], ValueError("no field")
    part = _fit(
        exposures,
        1,
        _broken_in(exposures, (0, 1), error, asked),
        on_failed_cell=lambda tile, error: told.append((tile.i, tile.j, error)),
        recipe="paper",
        paper_steps=2,
    )
    assert told == [(0, 1, error)] and asked.count((0, 1)) == 1 and asked.count((0, 0)) == 2
    assert part.missing == {(0, 1), (2, 1)}
    assert part.history[0]["cell_i"] == -1


@pytest.mark.parametrize(
    "options", [{"recipe": "self", "self_steps": 1}, {"recipe": "paper", "paper_steps": 1}]
)
def test_only_cells_with_data_teach(exposures, options):
    """Wherever on the patch they are."""
    covered = {(0, 1), (0, 2), (1, 3)}
    fit = _fit(
        exposures,
        1,
        lambda tile, halo: _cut(exposures, tile, halo) if (tile.i, tile.j) in covered else None,
        cell_size=32,
        **options,
    )
    assert {(i, j) for i in range(6) for j in range(4)} - fit.missing == covered
    assert fit.history[0]["cell_i"] == -1
    for i, j in covered:
        assert fit.latent[32 * i : 32 * i + 32, 32 * j : 32 * j + 32].any()


@pytest.mark.parametrize("options", [{"recipe": "self"}, {"recipe": "paper"}, {"method": "mean"}])
def test_patch_without_data_is_told_alike(exposures, options):
    with pytest.raises(FitError, match="No cell of the patch has a good pixel"):
        _fit(exposures, 1, lambda tile, halo: None, **options)


def test_no_more_cells_are_cut_to_learn_than_are_used(exposures):
    asked = []

    def get_stack(tile, halo):
        asked.append((tile.i, tile.j))
        return _cut(exposures, tile, halo)

    _fit(exposures, 1, get_stack, cell_size=32, recipe="paper", paper_steps=1)
    assert len(asked) == 24 + 6


@pytest.mark.parametrize(
    "is_covered",
    [lambda i, j: True, lambda i, j: j < 5, lambda i, j: i > 16, lambda i, j: i + j < 12],
    ids=["all", "columns", "rows", "corner"],
)
def test_training_cells_are_spread_over_what_has_data(is_covered):
    tiles = make_tiles(height=21, width=21, size=1)
    order = [(tile.i, tile.j) for tile in _spread(tiles)]
    assert sorted(order) == [(tile.i, tile.j) for tile in tiles]
    covered = [place for place in order if is_covered(*place)]
    chosen = np.array(covered[:6])
    rows, columns = chosen.T
    assert len(set(rows)) > 1 and len(set(columns)) > 1
    assert len(set(rows - columns)) > 3 and len(set(rows + columns)) > 3
    # No part of what is covered is far from all of them.
    nearest = scipy.spatial.distance.cdist(covered, chosen).min(axis=1)
    assert nearest.max() < 1.1 * np.sqrt(len(covered) / 2)


def _constant_fit(level, rng, *, size, used=None):
    """A fit whose every image is constant, but for its noise."""
    shape = (size, size)
    images = {name: np.full(shape, level, np.float32) for name in ("latent", "coadd")}
    variances = {
        name: np.full(shape, level**2, np.float32)
        for name in ("latent_variance", "coadd_variance", "psf_flux_variance")
    }
    good = np.ones((1, *shape), bool) if used is None else used[None]
    fit = CellFit(
        **images,
        **variances,
        noise=level * rng.standard_normal(shape, dtype=np.float32),
        fill=np.full(shape, level, np.float32),
        latent_psf=np.ones((1, 1), np.float32),
        coadd_psf=np.ones((1, 1), np.float32),
        rejected=np.zeros_like(good),
        weight=np.ones(1),
        seeing=(4.0, 4.0),
        noise_scale=np.array([level]),
        diagnosis=Diagnosis(chi2=np.ones(1), values=np.zeros((1, 4)), errors=np.ones((1, 4))),
        misfit=np.zeros(shape, np.float32),
        local_chi2=np.ones(shape, np.float32),
    )
    stack = CellStack(
        image=np.zeros((1, *shape), np.float32),
        variance=np.ones((1, *shape), np.float32),
        good=good,
        psf=np.ones((1, 1, 1), np.float32),
        labels=("one",),
    )
    return stack, fit


def _join(*, mixes, used=None):
    """Two cells of 200 px side by side, with levels 1 and 2."""
    size, rng = 200, np.random.default_rng(4)
    canvas = Canvas(size, 2 * size, halo=_HALO, mixes=mixes)
    for j, level in enumerate((1.0, 2.0)):
        tile = Tile(i=0, j=j, y0=0, x0=j * size, height=size, width=size)
        canvas.add(tile, *_constant_fit(level, rng, size=size + 2 * _HALO, used=used if j else None))
    return canvas.finish((), grid=(1, 2))


def test_neighbours_are_mixed_where_they_meet():
    """From one level to the other in small steps; inside nothing changes."""
    fit = _join(mixes=True)
    for plane in (fit.latent, fit.coadd, fit.coadd_variance):
        profile = plane[100]
        np.testing.assert_allclose(plane, np.broadcast_to(profile, plane.shape), rtol=1e-6)
        assert profile[190] == 1 and profile[210] in (2, 4)
        steps = np.diff(profile)
        assert (steps >= 0).all() and steps.max() < 0.1 * steps.sum()
    # The noise has the variance that is told, within the band too.
    ratio = fit.noise[:, 192:208].std(axis=0) / np.sqrt(fit.coadd_variance[100, 192:208])
    assert ratio.mean() == pytest.approx(1, abs=0.06)
    assert fit.exposures[0].noise_scale == pytest.approx(1.5)


def test_coadds_whose_psf_differs_are_not_mixed():
    fit = _join(mixes=False)
    assert (fit.coadd[:, :200] == 1).all() and (fit.coadd[:, 200:] == 2).all()


def test_cell_that_used_nothing_somewhere_has_no_say_there():
    used = np.ones((200 + 2 * _HALO, 200 + 2 * _HALO), bool)
    used[:100] = False
    fit = _join(mixes=True, used=used)
    assert (fit.coadd[:70, :200] == 1).all() and (fit.coadd[:70, 200:] == 0).all()
    assert fit.coadd[100, 199] > 1.4 and fit.coadd[100, 201] < 1.7


def test_cells_of_a_linear_coadd_are_those_of_their_own(exposures):
    """Each has a PSF of its own."""
    whole = _fit(exposures, 1, method="mean")
    for i, j in ((0, 0), (1, 1)):
        tile = Tile(i=0, j=0, y0=64 * i, x0=64 * j, height=64, width=64)
        options = FitOptions(cell_size=64, halo=_HALO, n_threads=1, seed=3, method="mean")
        alone = fit_patch(
            lambda _, halo, tile=tile: _cut(exposures, tile, halo), height=64, width=64, options=options
        )
        place = np.s_[64 * i : 64 * i + 64, 64 * j : 64 * j + 64]
        np.testing.assert_array_equal(whole.coadd[place], alone.coadd)


def test_exposure_without_weight_is_no_input(exposures):
    """Where the others end nothing is seen, whatever it says."""
    copies = {name: getattr(exposures, name).copy() for name in ("image", "variance", "good")}
    stack = dataclasses.replace(exposures, **copies)
    stack.good[1:, :, _HALO + 90 :] = False
    stack.image[~stack.good] = 0.0
    stack.variance[0] *= 1e7
    fit = _fit(stack, 1, method="mean")
    assert fit.n_image[:128].max() == 3 and not fit.n_image[:, 90:].any() and not fit.coadd[:, 100:].any()
    assert [one.label for one in fit.exposures] == list(stack.labels[1:])


@pytest.mark.parametrize("recipe", ["self", "paper"])
def test_cell_of_which_nothing_is_left_costs_nothing_else(exposures, recipe):
    """Two exposures that disagree on a few pixels of it."""
    stack = dataclasses.replace(exposures, good=exposures.good.copy(), image=exposures.image.copy())
    stack.good[:, _HALO + 64 :] = False
    stack.good[:2, _HALO + 150, _HALO + 30 : _HALO + 35] = True
    stack.image[1, _HALO + 150] += 1e4
    stack.image[~stack.good] = 0.0
    told: list[Tile] = []
    options = {"recipe": recipe, f"{recipe}_steps": 2}

    def cut(tile: Tile, halo: int) -> CellStack | None:
        cell = _cut(stack, tile, halo)
        seen = [] if cell is None else np.flatnonzero(cell.good.any((1, 2)))
        return cell.take(seen) if len(seen) else None

    fit = _fit(stack, 1, cut, on_failed_cell=lambda tile, error: told.append(tile), **options)
    assert fit.n_image[:64].any() and np.isfinite(fit.coadd).all()
    assert (0, 0) not in fit.missing


@pytest.mark.parametrize("recipe", ["self", "paper"])
def test_training_that_is_out_of_memory_tries_again(exposures, recipe, monkeypatch):
    calls = []

    def fail_once(*args, **kwargs):
        calls.append(args)
        if len(calls) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return compute_statistic(*args, **kwargs)

    monkeypatch.setattr(_fit_module, "compute_statistic", fail_once)
    monkeypatch.setattr(_batches._Limit, "images", _batches._Limit.images)
    assert _fit(exposures, 1, recipe=recipe, **{f"{recipe}_steps": 1}).coadd.any()


def test_threads_of_torch_are_set_back_after_a_fault(exposures):
    before = torch.get_num_threads()
    try:
        with pytest.raises(ValueError, match="no field") as caught:
            _fit(exposures, 2, _broken_in(exposures, (0, 1), ValueError("no field"), []))
        assert torch.get_num_threads() == 2 and caught
    finally:
        torch.set_num_threads(before)
