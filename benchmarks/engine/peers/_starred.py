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

from lsst.coadd.astroclearnet.core import CellStack
from lsst.coadd.astroclearnet.core._finish import gaussian_kernel

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
_ROUNDS = ((0.05, 0.004), (0.002, 0.05))
"""Learning rate of each round of the optimiser, and the factor by which it
falls until the end."""

_STEPS = 600
_CONVERGED = 2e-3
"""Relative change of the loss over the last 50 steps of a round below which
there is no further round."""


def has_starred() -> bool:
    """Say whether the package is installed (extra ``bench``)."""
    return importlib.util.find_spec("starred") is not None


def fit_starred(inputs: FitInputs) -> list[Delivery]:
    """Deconvolve by STARRED (Michalewicz et al. 2023, JOSS 8, 5340;
    Millon et al. 2024, AJ 168, 55).

    No subsampling; starlet regularisation of strength 1 (1000 for the finest
    scale), the defaults of its routines; shifts between exposures and sky
    levels fixed at 0. It is told the true places of stars above S/N 20. The
    optimiser is AdaBelief, as its authors recommend: 600 steps with a
    falling rate; has the loss not settled to 0.2 % over the last 50 steps
    there are 600 more, smaller ones.
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
    noise; shifts and sky levels stay at 0.
    """
    from starred.deconvolution.deconvolution import setup_model
    from starred.deconvolution.loss import Loss
    from starred.deconvolution.parameters import ParametersDeconv
    from starred.utils.noise_utils import propagate_noise

    n = len(data)
    model, start, upper, lower, fixed = setup_model(
        data, noise, narrow, x, y, 1, initial_a=np.tile(fluxes, n), convolution_method="fft"
    )
    fixed["kwargs_background"]["mean"] = np.zeros(n)
    fixed["kwargs_analytic"] |= {"dx": np.zeros(n), "dy": np.zeros(n)}
    sigma = np.broadcast_to(level[:, None, None], data.shape)
    weight = propagate_noise(
        model, sigma, start, wavelet_type_list=["starlet"], method="SLIT", likelihood_type="chi2"
    )[0]
    parameters = ParametersDeconv(start, fixed, kwargs_up=upper, kwargs_down=lower)
    loss = Loss(
        data,
        model,
        parameters,
        noise,
        regularization_terms="l1_starlet",
        regularization_strength_scales=1.0,
        regularization_strength_hf=1000.0,
        regularization_strength_positivity=100.0,
        W=weight,
    )
    return model, loss, parameters


def _optimise(loss, parameters) -> None:
    """Minimise the loss in rounds; the parameters keep the best fit."""
    from starred.optim.optimization import Optimizer

    optimiser = Optimizer(loss, parameters, method="adabelief")
    for number, (rate, decay) in enumerate(_ROUNDS):
        optimiser.minimize(
            restart_from_init=number == 0,
            max_iterations=_STEPS,
            init_learning_rate=rate,
            decay_rate=decay,
            progress_bar=False,
        )
        losses = np.array(optimiser.loss_history[-50:], dtype=float)
        if np.ptp(losses) < _CONVERGED * losses[-1]:
            break


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
