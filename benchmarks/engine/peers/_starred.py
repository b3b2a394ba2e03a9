# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""STARRED: joint deconvolution with starlets and point sources."""

from __future__ import annotations

__all__ = ("fit_starred", "has_starred")

import contextlib
import importlib.util
import io
import os
import warnings

import astropy.table
import numpy as np
import scipy.fft
import scipy.ndimage

from lsst.coadd.astroclearnet.core import CellStack
from lsst.coadd.astroclearnet.core.cell._finish import gaussian_kernel

from ..metrics import measure_fluxes
from ._linear import average
from ._types import Delivery, FitInputs, stitch

_FWHM = 2.0
"""FWHM in pixels of the PSF of the result: that of the package."""

_STAR_SNR = 20.0
"""S/N above which a star is given as a point source."""

_LEFT_OUT = 20
"""Border in pixels of the halo that is not fitted, to save time."""

_KERNEL = 63
_NARROWING = 1e-4

_STRENGTH_SCALES = 1.0
_STRENGTH_FINEST = 1.0
_STRENGTH_POSITIVITY = 0.0
"""Regularisation, as in the script of its authors for a deconvolution.

On the tuning scene ``medium`` the PSNR is 32.3 dB and SSIM 0.80, and with
strength 3, which smooths the sky, 35.3 dB and 0.75. But on a grid of that set
with 8 exposures galaxies lose 5, 9 and 26 % of their light (23.2 dB), and with
strength 3 18, 36 and 70 % (23.1 dB). With the defaults of its routines, 1000
for the finest scale and 100 for positivity, or with 1 and 100, the loss does
not settle below its start in as many steps.
"""

_START = (400, 4.0, 3e-4)
_ROUND = (200, 0.1, 0.01)
"""Steps of the first and of each further round of the optimiser, the learning
rate that it starts with, and the factor by which this falls until the end.

A pixel moves by no more than about the sum of the rates, in units of the sky's
noise: from 0.05, as in the authors' script, cores of bright sources are not
reached.
"""

_MOST_ROUNDS = 4
_SETTLED = 0.02
"""The fit has converged when a further round, with the learning rate set back,
changes the loss by less than this fraction of all that it has fallen by."""

_BEGIN_BLUR = 1.5
_BEGIN_SNR = 3.0
"""Sigma in pixels of the Gaussian on what the background starts from, and the
S/N below which it starts from 0."""


def has_starred() -> bool:
    """Say whether the package is installed (extra ``bench``)."""
    return importlib.util.find_spec("starred") is not None


def fit_starred(inputs: FitInputs) -> list[Delivery]:
    """Deconvolve by STARRED (Michalewicz et al. 2023, JOSS 8, 5340;
    Millon et al. 2024, AJ 168, 55).

    No subsampling; shifts between exposures and sky levels fixed at 0. It is
    told the true places of stars above S/N 20, which are fixed, too. Starlet
    regularisation of strength 1 for all scales and no penalty for what is
    negative, as in its authors' script. The optimiser is AdaBelief, as they
    recommend, in rounds with a falling rate until a further one gains
    nothing.

    Raises
    ------
    RuntimeError
        If the loss has not settled below its start.
    """
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        return [stitch(inputs, lambda stack: _deconvolve(stack, *_stars(inputs)))]


def _stars(inputs: FitInputs) -> tuple[np.ndarray, np.ndarray]:
    """Return x and y of the bright stars."""
    stack, catalog = inputs.stack, inputs.truth.catalog
    power = np.sum((stack.psf.astype(float) ** 2).sum((1, 2)) / inputs.truth.sky_sigma**2)
    bright = (catalog["type"] == "star") & (catalog["flux"] * power**0.5 > _STAR_SNR)
    size = stack.image.shape[-1]
    x, y = np.array(catalog["x"][bright]), np.array(catalog["y"][bright])
    inside = (np.minimum(x, y) > 2) & (np.maximum(x, y) < size - 3)
    return x[inside], y[inside]


def _deconvolve(stack: CellStack, x: np.ndarray, y: np.ndarray) -> Delivery:
    whole = stack.image.shape[-1]
    # With an even number of pixels its kernels are off by half a pixel.
    size = whole - 2 * _LEFT_OUT - 1 + whole % 2
    cut = np.s_[_LEFT_OUT : _LEFT_OUT + size, _LEFT_OUT : _LEFT_OUT + size]
    inside = (np.minimum(x, y) > _LEFT_OUT + 2) & (np.maximum(x, y) < _LEFT_OUT + size - 3)
    x, y = x[inside], y[inside]
    sky = np.array([np.quantile(v[g], 0.1) for v, g in zip(stack.variance, stack.good, strict=True)])
    unit = float(np.median(sky)) ** 0.5
    noise = np.where(stack.good, stack.variance, 1e6 * sky[:, None, None])
    middle = _LEFT_OUT + (size - 1) / 2
    model, loss, parameters = _set_up(
        data=stack.image[:, *cut] / unit,
        noise=noise[:, *cut] / unit**2,
        level=np.sqrt(sky) / unit,
        narrow=_narrow(stack.psf),
        x=x - middle,
        y=y - middle,
        fluxes=_first_fluxes(stack, x, y) / unit,
    )
    _optimise(loss, parameters)
    best = parameters.best_fit_values(as_kwargs=True)
    image = np.zeros((whole, whole), dtype=np.float32)
    image[cut] = np.asarray(model.getDeconvolved(best, None)[0]) * unit
    return Delivery(plane="latent", image=image, psf=gaussian_kernel(_FWHM)[None, None], target_fwhm=_FWHM)


def _set_up(*, data, noise, level, narrow, x, y, fluxes):
    """Return model, loss and parameters, everything in units of the sky's
    noise; places of stars, shifts and sky levels stay as they are.
    """
    from starred.deconvolution.deconvolution import setup_model
    from starred.deconvolution.loss import Loss
    from starred.deconvolution.parameters import ParametersDeconv
    from starred.utils.noise_utils import propagate_noise

    n = len(data)
    # Its "fft" turns the kernels by 180 degrees and wraps light around.
    model, start, upper, lower, fixed = setup_model(
        data, noise, narrow, x, y, 1, initial_a=np.tile(fluxes, n), convolution_method="scipy"
    )
    start["kwargs_background"]["h"] = _begin(data, noise, np.asarray(model.model(start)))
    fixed["kwargs_background"]["mean"] = np.zeros(n)
    fixed["kwargs_analytic"] |= {"dx": np.zeros(n), "dy": np.zeros(n), "c_x": x, "c_y": y}
    sigma = np.broadcast_to(level[:, None, None], data.shape)
    weight = propagate_noise(
        model, sigma, start, wavelet_type_list=["starlet"], method="SLIT", likelihood_type="chi2"
    )[0]
    model._model = _fast_model(model, narrow, x, y)
    parameters = ParametersDeconv(start, fixed, kwargs_up=upper, kwargs_down=lower)
    loss = Loss(
        data,
        model,
        parameters,
        noise,
        regularization_terms="l1_starlet",
        regularization_strength_scales=_STRENGTH_SCALES,
        regularization_strength_hf=_STRENGTH_FINEST,
        regularization_strength_positivity=_STRENGTH_POSITIVITY,
        W=weight,
    )
    return model, loss, parameters


def _fast_model(model, narrow: np.ndarray, x: np.ndarray, y: np.ndarray):
    """Return what predicts the exposures as the package does, but faster.

    Nothing is turned or shifted by 0, stars are drawn once, and transforms
    are real: a step takes a fraction of the time.
    """
    import jax.numpy as jnp

    size, count, kernel = model.image_size, model.M, narrow.shape[-1]
    shape = (scipy.fft.next_fast_len(size + kernel // 2),) * 2
    padded = np.zeros((len(narrow), *shape))
    padded[:, :kernel, :kernel] = narrow
    padded = np.roll(padded, (-(kernel // 2), -(kernel // 2)), (1, 2))
    transfer = jnp.asarray(scipy.fft.rfft2(padded).astype(np.complex64))
    drawn = [model.shifted_gaussians(x, y, np.ones(count), source_ID=[k]) for k in range(count)]
    stars = jnp.asarray(np.array(drawn, dtype=np.float32).reshape(count, size, size))

    def predict(parameters, background):
        amplitudes = parameters[:, 2 * count : 3 * count]
        sky = background.reshape(size, size) + model.scale * jnp.tensordot(amplitudes, stars, 1)
        blurred = jnp.fft.irfft2(jnp.fft.rfft2(sky, shape) * transfer, shape)
        return blurred[:, :size, :size]

    return predict


def _begin(data: np.ndarray, noise: np.ndarray, stars: np.ndarray) -> np.ndarray:
    """Return a background to start from, flat: what the mean of the exposures
    shows beside the stars, too broad but of about the right fluxes.
    """
    mean = ((data - stars) / noise).sum(0) / (1 / noise).sum(0)
    smooth = scipy.ndimage.gaussian_filter(mean, _BEGIN_BLUR)
    sigma = 1.4826 * np.median(np.abs(smooth - np.median(smooth)))
    return np.where(smooth > _BEGIN_SNR * sigma, smooth, 0.0).ravel()


def _optimise(loss, parameters) -> list[float]:
    """Minimise the loss; the parameters keep the best fit.

    Returns
    -------
    losses
        At the start, and after each round (`list`).

    Raises
    ------
    RuntimeError
        If the loss has not settled below its start.
    """
    from starred.optim.optimization import Optimizer

    optimiser = Optimizer(loss, parameters, method="adabelief")
    losses = [float(loss(parameters.initial_values()))]
    for number in range(_MOST_ROUNDS):
        steps, rate, decay = _ROUND if number else _START
        _, last, *_ = optimiser.minimize(
            restart_from_init=number == 0,
            max_iterations=steps,
            init_learning_rate=rate,
            decay_rate=decay,
            progress_bar=False,
        )
        losses.append(float(last))
        # Neither a loss above its start passes this nor one that is nan.
        if number and abs(losses[-2] - losses[-1]) < _SETTLED * (losses[0] - losses[-1]):
            return losses
    steps = ", ".join(f"{value:.0f}" for value in losses)
    raise RuntimeError(f"STARRED has not converged: its loss was {steps}, from the start to the last round.")


def _narrow(psf: np.ndarray) -> np.ndarray:
    """Take the Gaussian of the result out of the PSFs, ``(n, 63, 63)``."""
    margin = (_KERNEL - psf.shape[-1]) // 2
    padded = np.pad(psf.astype(float), [(0, 0), (margin, margin), (margin, margin)])
    rows, columns = scipy.fft.fftfreq(_KERNEL)[:, None], scipy.fft.rfftfreq(_KERNEL)
    sigma = _FWHM / 2.3548
    gaussian = np.exp(-2 * np.pi**2 * sigma**2 * (rows**2 + columns**2))
    spectrum = scipy.fft.rfft2(padded) * gaussian / (gaussian**2 + _NARROWING)
    narrow = scipy.fft.irfft2(spectrum, s=(_KERNEL, _KERNEL))
    return narrow / narrow.sum((1, 2), keepdims=True)


def _first_fluxes(stack: CellStack, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """PSF fluxes in the mean, to start from."""
    mean = average(stack)
    places = astropy.table.Table({"x": x, "y": y})
    image = np.asarray(mean.image, dtype=float)
    return np.array(measure_fluxes(image, image, places, psf=mean.psf[0, 0])["psf"])
