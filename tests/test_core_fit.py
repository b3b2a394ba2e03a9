# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""The fits: flux, sharpness, uncertainty, order and seeds."""

import dataclasses
import functools

import galsim.hsm
import numpy as np
import pytest
import torch
from astropy.stats import gaussian_sigma_to_fwhm

from benchmarks.engine.skies import tabulate
from lsst.coadd.astroclearnet.core import CellStack, FitError, FitOptions, fit_patch, make_tiles
from lsst.coadd.astroclearnet.core._errors import InvalidStackError
from lsst.coadd.astroclearnet.core.encoder._encoder import load_encoder
from lsst.coadd.astroclearnet.core.encoder._inputs import EncoderInputs
from lsst.coadd.astroclearnet.core.methods._paper import PaperNetwork
from lsst.coadd.astroclearnet.core.statistic._statistic import compute_statistic
from lsst.coadd.astroclearnet.simulate import simulate_stack

_HALO = 32
_SIZE = 96
_INNER = np.s_[_HALO:-_HALO, _HALO:-_HALO]


@functools.cache
def _scene(n: int = 8, unmasked_cosmic_rays: int = 1):
    """One isolated star near the middle of exposures with artifacts."""
    return simulate_stack(
        n_exposures=n,
        size=_SIZE + 2 * _HALO,
        seed=3,
        catalog=tabulate([{"x": 80.3, "y": 79.6, "flux": 4e4}]),
        streak=n > 1,
        unmasked_cosmic_rays=unmasked_cosmic_rays,
    )


def _fit(stack: CellStack, **options):
    chosen = FitOptions(cell_size=_SIZE, halo=_HALO, n_threads=1, **options)
    return fit_patch(lambda tile, halo: stack, height=_SIZE, width=_SIZE, options=chosen)


@functools.cache
def _fitted(method: str):
    return _fit(_scene()[0], method=method)


def _fwhm(image: np.ndarray) -> float:
    cut = galsim.Image(image[32:65, 32:65].astype(float))
    return gaussian_sigma_to_fwhm * galsim.hsm.FindAdaptiveMom(cut).moments_sigma


def _disc(image: np.ndarray, radius: float = 9.0) -> float:
    y, x = np.indices(image.shape)
    return float(image[np.hypot(x - 48.3, y - 47.6) < radius].sum())


@pytest.mark.parametrize("method", ["acn", "mm"])
@pytest.mark.parametrize("plane", ["latent", "coadd"])
def test_star_keeps_flux_and_gets_the_target_psf(method, plane):
    """A bright star has its true flux, and the width the PSF says."""
    _, truth = _scene()
    image = getattr(_fitted(method), plane)
    assert _disc(image) == pytest.approx(_disc(truth.image[_INNER]), rel=0.01)
    # Multiplicative updates sharpen on and on; 100 leave a star a bit wide.
    assert _fwhm(image) == pytest.approx(2.5, rel=0.03 if method == "acn" else 0.06)


def test_mean_keeps_flux_and_its_own_psf():
    """The mean has the flux, and the width of the kernel written with it."""
    fit = _fitted("mean")
    # The kernel stops at its stamp: wings outside of it are not in its sum.
    assert _disc(fit.coadd, 20.0) == pytest.approx(_scene()[1].catalog["flux"][0], rel=0.015)
    kernel = np.pad(fit.coadd_psf[0, 0], 28)
    # A trail crosses the star in one of the exposures, and is clipped.
    assert _fwhm(fit.coadd) == pytest.approx(_fwhm(kernel), rel=0.03)
    assert _fwhm(_fitted("acn").latent) < 0.65 * _fwhm(fit.coadd)


def test_latent_is_quiet_and_not_negative():
    """Away from the star the latent has far less noise than the mean."""
    sky = np.s_[:25, :]
    latent, mean = _fitted("acn").latent, _fitted("mean").coadd
    assert latent.min() >= 0.0
    assert latent[sky].std() < 0.1 * mean[sky].std()
    assert abs(latent[sky].mean()) < 0.05 * mean[sky].std()


def test_artifacts_do_not_reach_the_results():
    """Neither streak nor cosmic rays: residuals from the truth are noise."""
    stack, truth = _scene()
    # Around the star the comparison would be one of PSFs, not of artifacts.
    y, x = np.indices((_SIZE, _SIZE))
    away = np.hypot(x - 48.3, y - 47.6) > 24
    error = np.sqrt(np.sum(1 / truth.sky_sigma**2) ** -1)
    for method in ("acn", "mm", "mean"):
        residual = (_fitted(method).coadd - truth.image[_INNER])[away]
        assert np.abs(residual).max() < 7.5 * error, method
    hit = truth.artifacts[:, *_INNER] & (stack.image[:, *_INNER] > 8 * np.sqrt(stack.variance[:, *_INNER]))
    assert hit.sum() > 10
    assert (_fitted("acn").n_rejected > 0)[hit.any(0)].mean() > 0.9


@pytest.mark.parametrize("method", ["acn", "mean"])
def test_variance_predicts_the_noise(method):
    """Sky pixels of the coadd scatter as its variance says."""
    fit = _fitted(method)
    sky = np.s_[:25, :]
    assert fit.coadd[sky].std() == pytest.approx(np.sqrt(fit.coadd_variance[sky].mean()), rel=0.15)
    assert fit.noise[sky].std() == pytest.approx(np.sqrt(fit.coadd_variance[sky].mean()), rel=0.15)
    assert (fit.latent_variance > 0).all()


@pytest.mark.parametrize("method", ["acn", "mm"])
def test_latent_is_not_noisier_than_its_variance_says(method):
    """Where the fit cannot be repeated the variance errs to the safe side."""
    fit = _fitted(method)
    sky = np.s_[:25, :]
    assert fit.latent[sky].std() < 1.1 * np.sqrt(fit.latent_variance[sky].mean())


@pytest.mark.parametrize("method", ["acn", "mm", "mean"])
def test_order_of_exposures_does_not_matter(method):
    """Exposures in another order give the same bits."""
    stack, _ = _scene(n=4)
    order = [2, 0, 3, 1]
    shuffled = CellStack(
        image=stack.image[order],
        variance=stack.variance[order],
        good=stack.good[order],
        psf=stack.psf[order],
        labels=tuple(stack.labels[k] for k in order),
    )
    fits = [_fit(s, method=method, mm_iterations=5) for s in (stack, shuffled)]
    np.testing.assert_array_equal(fits[0].latent, fits[1].latent)
    np.testing.assert_array_equal(fits[0].coadd_variance, fits[1].coadd_variance)
    # As text: NaN, of a scale that cannot be measured, is not equal to itself.
    assert repr(fits[0].exposures) == repr(fits[1].exposures)


def test_paper_recipe_leaves_the_random_numbers_of_others_alone():
    """Its seed is its own: who draws from torch beside it sees nothing."""
    state = torch.get_rng_state()
    PaperNetwork(["a", "b"], FitOptions(recipe="paper", method="acn"), torch.device("cpu"))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("recipe", ["trained", "paper"])
def test_seed_decides(recipe):
    """The same seed gives the same bits; another one other noise."""
    stack, _ = _scene(n=4)
    fits = [_fit(stack, recipe=recipe, paper_steps=3, seed=seed) for seed in (5, 5, 6)]
    np.testing.assert_array_equal(fits[0].latent, fits[1].latent)
    np.testing.assert_array_equal(fits[0].noise, fits[1].noise)
    assert not np.array_equal(fits[0].noise, fits[2].noise)


def test_unit_of_flux_does_not_matter():
    """Counts or nJy: the result scales with the input."""
    stack, _ = _scene(n=4)
    scaled = dataclasses.replace(
        stack,
        image=(stack.image * 1e-3).astype(np.float32),
        variance=(stack.variance * 1e-6).astype(np.float32),
    )
    fits = [_fit(s) for s in (stack, scaled)]
    peak = fits[0].latent.max()
    np.testing.assert_allclose(fits[1].latent * 1e3, fits[0].latent, atol=1e-4 * peak)


def test_paper_recipe_learns():
    """From scratch, the loss falls and the star gets sharper than the mean."""
    stack, _ = _scene()
    fit = _fit(stack, recipe="paper", paper_steps=60)
    losses = [row["loss"] for row in fit.history if row["stage"] == "paper"]
    assert losses[-1] < 0.9 * losses[0]
    assert _fwhm(fit.latent) < 0.8 * _fwhm(_fitted("mean").coadd)
    assert fit.latent.min() >= 0.0


def test_partial_coverage_leaves_no_step():
    """Where only half of the exposures see the sky nothing is made up, and
    a star close to the edge keeps flux and shape.
    """
    stack, truth = _scene()
    good = stack.good.copy()
    good[::2, :, 86:] = False
    half = dataclasses.replace(stack, good=good, image=np.where(good, stack.image, 0).astype(np.float32))
    fit = _fit(half)
    unit = np.sum(1 / truth.sky_sigma**2) ** -0.5
    y, x = np.indices((_SIZE, _SIZE))
    blank = np.hypot(x - 48.3, y - 47.6) > 12
    assert fit.latent[blank].max() < 3 * unit
    assert _fwhm(fit.latent) == pytest.approx(2.5, rel=0.03)
    assert _disc(fit.latent) == pytest.approx(_disc(truth.image[_INNER]), rel=0.02)
    assert fit.n_image[10, 10] - fit.n_image[10, 90] >= 3


def test_one_exposure_is_enough():
    """A single exposure is restored, not refused."""
    stack, truth = _scene(n=1, unmasked_cosmic_rays=0)
    fit = _fit(stack)
    assert _disc(fit.latent) == pytest.approx(_disc(truth.image[_INNER]), rel=0.05)


def test_hole_in_all_exposures_is_empty():
    """What nobody saw is 0 and counted as no input, if it is not small."""
    stack, _ = _scene(n=4)
    good = stack.good.copy()
    good[:, 40:54, 40:54] = False
    fit = _fit(dataclasses.replace(stack, good=good, image=np.where(good, stack.image, 0).astype(np.float32)))
    hole = np.s_[8:22, 8:22]
    assert (fit.n_image[hole] == 0).all() and not fit.filled[hole].any()
    assert (fit.coadd[hole] == 0).all() and (fit.latent[hole] == 0).all()
    assert (fit.coadd_variance[hole] > 0).all()


def test_cells_meet_without_a_seam():
    """Two by two cells give what one large cell gives, to a tenth of the
    noise of the mean, and keep the numbers of each exposure.
    """
    stack, truth = simulate_stack(n_exposures=6, size=160, seed=9)

    def get_stack(tile, halo):
        cut = np.s_[:, tile.y0 : tile.y0 + tile.height + 64, tile.x0 : tile.x0 + tile.width + 64]
        return dataclasses.replace(
            stack, image=stack.image[cut], variance=stack.variance[cut], good=stack.good[cut]
        )

    fits = [
        fit_patch(
            get_stack,
            height=96,
            width=96,
            options=FitOptions(cell_size=size, halo=32, n_threads=1),
        )
        for size in (48, 96)
    ]
    unit = np.sum(1 / truth.sky_sigma**2) ** -0.5
    rms = np.std(fits[0].latent - fits[1].latent)
    assert rms < 0.1 * unit
    assert [e.n_pixels for e in fits[0].exposures] == [e.n_pixels for e in fits[1].exposures]


def test_cell_without_data_is_missing():
    """Cells that no exposure covers have NaN kernels and are listed."""
    stack, _ = _scene(n=2)
    lines = []
    fit = fit_patch(
        lambda tile, halo: stack if tile.j == 0 else None,
        height=_SIZE,
        width=2 * _SIZE,
        options=FitOptions(method="mean", cell_size=_SIZE, halo=_HALO),
        report=lines.append,
    )
    assert fit.missing == {(0, 1)}
    assert np.isnan(fit.coadd_psf[0, 1]).all() and np.isfinite(fit.coadd_psf[0, 0]).all()
    assert any("no data" in line for line in lines) and any("left" in line for line in lines)


def test_no_data_at_all_is_an_error():
    """A patch without any data cannot be fitted."""
    with pytest.raises(FitError, match="No cell"):
        fit_patch(lambda tile, halo: None, height=_SIZE, width=_SIZE, options=FitOptions(cell_size=_SIZE))


def test_cells_must_divide_the_patch():
    """The message gives both sizes."""
    with pytest.raises(ValueError, match="50 px do not divide a patch of 120 x 100"):
        make_tiles(height=100, width=120, size=50)


def test_weights_commute_with_shifts():
    """The encoder is a convolution: a shifted sky gives a shifted latent."""
    stack, _ = _scene(n=4)
    statistic = compute_statistic(stack)
    encoder = load_encoder()

    def latent(image):
        data = statistic.grid.transform(image)
        inputs = EncoderInputs.from_statistic(data[None], statistic.den[None], statistic.grid)
        return encoder(inputs).latent[0]

    image = statistic.grid.inverse(statistic.data)
    moved = latent(image.roll((8, 12), (0, 1))).roll((-8, -12), (0, 1))
    inner = np.s_[50:110, 50:110]
    assert float((moved - latent(image))[inner].abs().max()) < 1e-3 * float(latent(image).max())


def test_paper_history_is_of_all_cells():
    """Not of each in turn: what its loss changes at the end tells whether it
    has come to rest.
    """
    bright, _ = _scene()
    dark = dataclasses.replace(bright, image=np.random.default_rng(2).normal(size=bright.image.shape))
    network = PaperNetwork(bright.labels, FitOptions(recipe="paper", paper_steps=40), torch.device("cpu"))
    cells = [(compute_statistic(one), one.labels) for one in (bright, dark, dark, dark)]
    losses = np.array([row["loss"] for row in network.train(cells, lambda line: None)])
    late = losses[-8:]
    assert np.abs(late / np.median(late) - 1).max() < 0.2


@pytest.mark.parametrize("total", [0.992, 1.008])
@pytest.mark.parametrize("method", ["acn", "mean"])
def test_what_a_stamp_lacks_of_its_light_is_no_flux(total, method):
    stack, _ = _scene()
    cut = dataclasses.replace(stack, psf=stack.psf * np.float32(total))
    np.testing.assert_allclose(cut.psf.sum((1, 2)), 1.0, atol=1e-5)
    peak = _fitted(method).coadd.max()
    np.testing.assert_allclose(_fit(cut, method=method).coadd, _fitted(method).coadd, atol=1e-3 * peak)


def test_exposure_without_a_good_pixel_is_refused():
    stack, _ = _scene()
    good = stack.good.copy()
    good[1] = False
    with pytest.raises(InvalidStackError, match=f"{stack.labels[1]} has no good pixel"):
        dataclasses.replace(stack, good=good)
