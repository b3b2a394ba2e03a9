# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""The forward operator, the statistic and its repairs."""

import dataclasses

import numpy as np
import pytest
import torch
from astropy.stats import gaussian_fwhm_to_sigma
from scipy.ndimage import binary_dilation

from lsst.coadd.astroclearnet.core import CellStack, FitOptions, InvalidStackError
from lsst.coadd.astroclearnet.core._device import select_device
from lsst.coadd.astroclearnet.core._errors import CoreError
from lsst.coadd.astroclearnet.core.fourier._decoder import Decoder
from lsst.coadd.astroclearnet.core.fourier._grid import FourierGrid
from lsst.coadd.astroclearnet.core.statistic._statistic import compute_statistic
from lsst.coadd.astroclearnet.simulate import simulate_stack

_DISC = np.hypot(*np.mgrid[-4:5, -4:5])[None] <= 4
"""Pixels around an artifact that may share its fate."""


@pytest.fixture(scope="module")
def simulated():
    """Eight exposures of 128 px with masked and unmasked artifacts."""
    return simulate_stack(n_exposures=8, size=128, seed=5)


def _kernels(n: int = 3, size: int = 21, seed: int = 1) -> torch.Tensor:
    """Lopsided kernels: a wrong flip or shift cannot hide."""
    kernels = np.random.default_rng(seed).uniform(0, 1, (n, size, size)) ** 4
    return torch.as_tensor(kernels / kernels.sum((1, 2), keepdims=True), dtype=torch.float32)


@pytest.mark.parametrize("latent_fwhm", [0.0, 1.5, 2.0])
def test_adjoint(latent_fwhm):
    """<A x, y> equals <x, A^T y> for any x and y."""
    grid = FourierGrid.for_images(height=40, width=52)
    decoder = Decoder(grid.transfer(_kernels()), grid, latent_fwhm=latent_fwhm)
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(*grid.shape, generator=generator)
    y = torch.randn(3, 40, 52, generator=generator)
    left = (decoder.forward(x).double() * y.double()).sum()
    right = (x.double() * decoder.adjoint(y).double()).sum()
    assert float(left) == pytest.approx(float(right), rel=1e-4)


def test_decoder_is_a_convolution():
    """By FFT as by hand, to rounding, with the latent a point."""
    grid = FourierGrid.for_images(height=40, width=40)
    kernels = _kernels()
    sky = torch.zeros(40, 40)
    sky[17, 22] = 3.0
    predicted = Decoder(grid.transfer(kernels), grid, latent_fwhm=0.0).forward(sky)
    expected = torch.zeros(3, 40, 40)
    expected[:, 7:28, 12:33] = 3.0 * kernels
    torch.testing.assert_close(predicted, expected, atol=1e-5, rtol=1e-4)


def test_decoder_conserves_flux_and_width():
    """A latent Gaussian star becomes the PSF of each exposure."""
    stack, _ = simulate_stack(n_exposures=3, size=96, seed=2)
    grid = FourierGrid.for_images(height=96, width=96)
    y, x = np.mgrid[:96, :96]
    sigma = 2.0 * gaussian_fwhm_to_sigma
    star = 500.0 * np.exp(-0.5 * ((x - 48) ** 2 + (y - 48) ** 2) / sigma**2) / (2 * np.pi * sigma**2)
    decoder = Decoder(grid.transfer(torch.as_tensor(stack.psf)), grid, latent_fwhm=2.0)
    predicted = decoder.forward(torch.as_tensor(star, dtype=torch.float32)).numpy()
    np.testing.assert_allclose(predicted.sum((1, 2)), 500.0, rtol=1e-3)
    half = stack.psf.shape[1] // 2
    cut = predicted[:, 48 - half : 49 + half, 48 - half : 49 + half]
    peak = 500.0 * stack.psf.max((1, 2))
    assert (np.abs(cut - 500.0 * stack.psf).max((1, 2)) < 0.01 * peak).all()


def test_kernel_larger_than_grid_is_cropped():
    """Large PSF stamps on a small image keep their centre."""
    grid = FourierGrid.for_images(height=20, width=20, pad=0)
    kernel = torch.zeros(1, 61, 61)
    kernel[0, 30, 30] = 1.0
    torch.testing.assert_close(grid.transfer(kernel).abs(), torch.ones(1, *grid.frequency_squared.shape))


def test_statistic_is_exact_without_holes():
    """With every pixel good and no artifacts, D is the weighted sum of
    correlations that its definition says.
    """
    stack, _ = simulate_stack(
        n_exposures=4,
        size=64,
        seed=3,
        streak=False,
        masked_trail=False,
        bad_columns=0,
        cosmic_rays=0,
        unmasked_cosmic_rays=0,
    )
    statistic = compute_statistic(stack, clip_sigma=50.0)
    grid = statistic.grid
    filled = statistic.psf_transfer.conj() / statistic.sky_variance[:, None, None]
    weight = 1 / statistic.sky_variance
    torch.testing.assert_close(
        statistic.den, (statistic.psf_transfer.abs() ** 2 * weight[:, None, None]).sum(0)
    )
    direct = grid.inverse((filled * grid.transform(torch.as_tensor(stack.image))).sum(0))
    inner = np.s_[24:40, 24:40]
    difference = (grid.inverse(statistic.data) - direct)[inner].abs().max()
    assert difference < 0.05 * direct[inner].std()


def test_holes_do_not_change_the_statistic(simulated):
    """Filling a masked square costs what its data were worth: the change is
    that of the noise of one exposure among eight.
    """
    stack, _ = simulated
    hole = np.zeros(stack.good.shape, dtype=bool)
    hole[3, 40:60, 50:70] = True
    holed = dataclasses.replace(
        stack, good=stack.good & ~hole, image=np.where(hole, 0, stack.image).astype(np.float32)
    )
    whole, repaired = compute_statistic(stack), compute_statistic(holed)
    images = [s.wiener(s.data, strength=0.1, fwhm=2.5) for s in (whole, repaired)]
    filters = whole.grid.gaussian(2.5) * 1.1 / (whole.den + 0.1 * whole.den0)
    noise = float(whole.grid.mean_power(filters**2 * whole.den).sqrt())
    change = (images[1] - images[0])[42:58, 52:68]
    assert float(change.std()) < 0.6 * noise
    assert abs(float(change.mean())) < 0.2 * noise


def test_artifacts_are_clipped(simulated):
    """Unmasked streak and cosmic rays go; true sky stays."""
    stack, truth = simulated
    statistic = compute_statistic(stack)
    rejected = statistic.rejected.numpy()
    bright = truth.artifacts & (stack.image > 8 * np.sqrt(stack.variance))
    assert bright.sum() > 20
    assert rejected[bright].mean() > 0.95
    # With a border of three pixels, where they are below 0.2 sigma: a trail
    # is as wide as the PSF tells.
    assert rejected[stack.good & ~truth.artifacts].mean() < 0.016
    assert rejected[stack.good & ~binary_dilation(truth.artifacts, _DISC)].mean() < 0.003


def test_star_survives_its_best_seeing():
    """A star is not taken for an artifact where the seeing is sharp."""
    rng = np.random.default_rng(4)
    n, size = 8, 96
    fwhm = np.array([2.9, 4.5, 4.6, 4.7, 4.8, 4.9, 5.0, 5.1])
    axis = np.arange(-20, 21)
    profile = np.exp(-0.5 * (axis[None, :] / (fwhm[:, None] / 2.3548)) ** 2)
    psf = profile[:, :, None] * profile[:, None, :]
    psf /= psf.sum((1, 2), keepdims=True)
    image = rng.normal(0, 1, (n, size, size))
    image[:, 28:69, 28:69] += 2e4 * psf
    stack = CellStack(
        image=image.astype(np.float32),
        variance=np.ones_like(image, dtype=np.float32),
        good=np.ones(image.shape, dtype=bool),
        psf=psf.astype(np.float32),
        labels=tuple("abcdefgh"),
    )
    rejected = compute_statistic(stack).rejected.numpy()
    assert rejected[:, 40:57, 40:57].sum() == 0


def test_inflation_follows_coverage():
    """Noise of D is 1 at full coverage and sqrt(2) where half was seen."""
    stack, _ = simulate_stack(
        n_exposures=8, size=128, seed=7, streak=False, masked_trail=False, bad_columns=0, cosmic_rays=0
    )
    good = stack.good.copy()
    good[:4, :, :64] = False
    image = np.where(good, stack.image, 0).astype(np.float32)
    psf = np.repeat(stack.psf[:1], 8, axis=0)
    statistic = compute_statistic(dataclasses.replace(stack, good=good, image=image, psf=psf))
    share = float((1 / statistic.sky_variance[4:]).sum() / (1 / statistic.sky_variance).sum())
    assert float(statistic.inflation[64, 20]) == pytest.approx(share**-0.5, rel=0.03)
    assert float(statistic.inflation[64, 105]) == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"psf": np.full((2, 5, 5), 0.05, np.float32)}, "sums to 1.25"),
        ({"psf": np.full((2, 4, 4), 1 / 16, np.float32)}, "odd"),
        ({"psf": np.full((2, 5, 5), np.nan, np.float32)}, "sums to nan"),
        ({"variance": np.zeros((2, 8, 8), np.float32)}, "positive"),
        ({"variance": np.ones((2, 8, 9), np.float32)}, "one shape"),
        ({"image": np.full((2, 8, 8), np.inf, np.float32)}, "finite"),
        ({"labels": ("a", "a")}, "unique"),
    ],
)
def test_bad_stack_is_refused(change, text):
    """Each way a stack can be wrong has its own message."""
    values = {
        "image": np.zeros((2, 8, 8), np.float32),
        "variance": np.ones((2, 8, 8), np.float32),
        "good": np.ones((2, 8, 8), bool),
        "psf": np.full((2, 5, 5), 1 / 25, np.float32),
        "labels": ("a", "b"),
    }
    with pytest.raises(InvalidStackError, match=text):
        CellStack(**(values | change))


@pytest.mark.parametrize(
    ("field", "value"),
    [("method", "median"), ("recipe", "magic"), ("device", "tpu"), ("target_fwhm", 1.0), ("cell_size", 0)],
)
def test_bad_option_is_refused(field, value):
    """The message names the field and the value."""
    with pytest.raises(ValueError, match=f"{field} must be .*{value}"):
        FitOptions(**{field: value})


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_missing_cuda_is_refused():
    """Asking for CUDA where there is none says so."""
    with pytest.raises(CoreError, match="no CUDA device"):
        select_device(FitOptions(device="cuda"))
