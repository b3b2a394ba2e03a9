# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""From a latent on the padded grid to the products of a cell."""

from __future__ import annotations

__all__ = (
    "finish_latent",
    "finish_linear",
    "finish_mean",
    "gaussian_kernel",
)

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from .._options import FitOptions
from .._stack import CellFit, CellStack, HistoryRow
from ..encoder._scatter import Scatter
from ..fourier._decoder import Decoder
from ..fourier._deliver import Delivered, deliver, residual_response
from ..fourier._filters import filtered_variance, psf_flux_response
from ..fourier._grid import FWHM_TO_SIGMA, FourierGrid
from ..statistic._statistic import Statistic, fit_quality
from ..warp._warped_psf import kernel_fwhm
from ._data_noise import DataNoise, draw_noise
from ._diagnose import diagnose
from ._misfit import measure_misfit

_SOURCE_REACH, _FAINT, _EVEN_FWHM = 6.0, 0.3, 16.0
"""FWHM in pixels to which light of a source is spread; S/N of it from which
on a place belongs to a source; and FWHM of the mean over other places."""

_SEEING_REACH = 20
"""Pixels from the centre of a PSF within which its width is measured."""

_DETAIL_FWHM, _DETAIL_STRENGTH, _BROADEST = 2.5, 0.1, 20.0
"""FWHM in pixels of what is to be seen, noise of the Wiener filter that tells
how much of it is, relative to the largest power, and width that stands for all
that are broader. So measured, PSFs beyond the limit of `TrustLimits` are those
that stars lose 1 % of their light with or more, alike or not."""

_SEEN = 0.5
"""Share of the change of the noise over a cell, by its PSFs, that the network
which tells the scatter sees in D."""

_LEAST_PASSED = 1e-3
"""Least part of the variance of a latent that is told: nowhere is it sure."""


def gaussian_kernel(fwhm: float) -> np.ndarray:
    """Gaussian PSF kernel, float32 ``(p, p)``, sampled, sum 1."""
    radius = int(np.ceil(3.5 * fwhm))
    axis = np.arange(-radius, radius + 1)
    profile = np.exp(-0.5 * (axis / (fwhm * FWHM_TO_SIGMA)) ** 2)
    kernel = np.outer(profile, profile)
    return (kernel / kernel.sum()).astype(np.float32)


def _compare(statistic: Statistic, model: torch.Tensor) -> dict[str, Any]:
    """Make what a `CellFit` says of exposures and model."""
    misfit, local_chi2 = measure_misfit(statistic, model)
    return {"diagnosis": diagnose(statistic, model), "misfit": misfit, "local_chi2": local_chi2}


def _even_out(ratio: torch.Tensor, signal: torch.Tensor, grid: FourierGrid) -> torch.Tensor:
    """Smooth a ratio of variances where there is no source.

    There it would follow the peaks of the noise, and a variance that knows
    of the noise biases what is weighted with it.

    Parameters
    ----------
    ratio
        Of variances, ``(rows, columns)``.
    signal
        S/N of the latent, same shape.
    grid
        Their grid.
    """
    around = grid.inverse(grid.transform(signal) * grid.gaussian(_SOURCE_REACH)).clamp_min(0.0)
    empty = 1.0 / (1.0 + (around / _FAINT) ** 2)
    wide = grid.gaussian(_EVEN_FWHM)
    mean, share = (grid.inverse(grid.transform(values) * wide) for values in (empty * ratio, empty))
    # Amid large sources there is no empty place to take a mean from.
    mean = torch.where(share > 0.02, mean / share.clamp_min(0.02), ratio).clamp_min(1e-6)
    return empty * mean + (1.0 - empty) * ratio


def _passed(share: torch.Tensor | float) -> torch.Tensor:
    """Part of the variance of a latent that passes `quieten`.

    The derivative of ``l s^4 / (s^4 + c^4)``, s in proportion to l, is
    ``share (1 + 4 (1 - share))``. Noise reaches beyond the steep part, where
    the curve is flat: half of that slope gives the scatter that is seen.
    """
    share = torch.as_tensor(share)
    return (share * (1.0 + 2.0 * (1.0 - share))).square().clamp_min(_LEAST_PASSED)


def finish_latent(
    statistic: Statistic,
    latent: torch.Tensor,
    *,
    latent_fwhm: float,
    options: FitOptions,
    generator: np.random.Generator,
    scatter_of: Callable[[torch.Tensor, torch.Tensor], Scatter] | None = None,
    share: torch.Tensor | float = 1.0,
    restore: Callable[[torch.Tensor], torch.Tensor] | None = None,
    history: tuple[HistoryRow, ...] = (),
) -> CellFit:
    """Deliver a latent at the target PSF, with residual and uncertainty.

    Parameters
    ----------
    statistic
        The stack.
    latent
        Non-negative image on the padded grid.
    latent_fwhm
        FWHM of its Gaussian PSF, in pixels.
    options
        ``target_fwhm``.
    generator
        Source of the noise realization.
    scatter_of
        Gives, for the delivered latent and the standard deviation of its
        linearly filtered noise, both ``(1, rows, columns)``, how the
        products scatter relative to the latter, and their PSF fluxes to those
        of that noise. `None` if the fit does not know: all variances are then
        those of the filtered noise.
    share
        Part of the latent that `quieten` has left, ``(rows, columns)``: where
        there is little, the latent scatters little.
    restore
        Gives the latent for another D: the noise realization is then what
        noise added to D changes in the coadd, so that it hangs together on
        sources as their own noise does. `None` if that would cost too much:
        it is then filtered noise.
    history
        Rows for the fit history.
    """
    grid, fwhm = statistic.grid, options.target_fwhm

    def deliver_from(data: torch.Tensor, latent: torch.Tensor) -> Delivered:
        return deliver(latent, data=data, den=statistic.den, grid=grid, latent_fwhm=latent_fwhm, fwhm=fwhm)

    delivered = deliver_from(statistic.data, latent)
    response = residual_response(statistic.den, grid, fwhm=fwhm)
    data_noise = DataNoise(statistic, response)
    # The kernel that is written, which a narrow Gaussian is sampled to.
    kernel = gaussian_kernel(fwhm)
    to_flux = psf_flux_response(grid.transfer(torch.as_tensor(kernel, device=response.device)), grid)
    flux_noise = DataNoise(statistic, response * to_flux.real)
    seen = _SEEN if scatter_of else 0.0
    latent_variance = coadd_variance = variance = data_noise.find_variance(seen=seen)
    psf_flux_variance = flux_noise.find_variance(seen=seen)
    if scatter_of:
        scatter = scatter_of(delivered.latent[None], variance.sqrt()[None])
        signal = delivered.latent / variance.sqrt()
        for_latent, for_coadd, for_flux = (
            _even_out(ratio[0] ** 2, signal, grid)
            for ratio in (scatter.latent, scatter.coadd, scatter.psf_flux)
        )
        latent_variance, coadd_variance = variance * for_latent * _passed(share), variance * for_coadd
        psf_flux_variance = psf_flux_variance * for_flux
    added = data_noise.draw(generator)
    if restore:
        noisier = statistic.data + added
        noise = deliver_from(noisier, restore(noisier)).coadd - delivered.coadd
    else:
        noise = grid.inverse(added * response)
    model = Decoder(statistic.psf_transfer, grid, latent_fwhm=latent_fwhm).forward(latent)
    last = fit_quality("latent", 0, statistic.image, model, statistic.variance, statistic.used)
    return _make_fit(
        statistic,
        latent=grid.crop(delivered.latent),
        coadd=grid.crop(delivered.coadd),
        latent_variance=grid.crop(latent_variance),
        coadd_variance=grid.crop(coadd_variance),
        psf_flux_variance=grid.crop(psf_flux_variance),
        noise=grid.crop(noise),
        latent_psf=kernel,
        coadd_psf=kernel,
        history=(*statistic.history, *history, last),
        **_compare(statistic, model),
    )


def finish_mean(stack: CellStack, statistic: Statistic, *, generator: np.random.Generator) -> CellFit:
    """Weighted mean of the exposures without the clipped pixels.

    The mean has no latent: both products are the mean, at its own PSF, the
    weighted mean of the kernels. Its pixels are those of the exposures, not
    brought to one PSF each.
    """
    image = torch.as_tensor(stack.image, device=statistic.image.device)
    weight = statistic.used / statistic.sky_variance[:, None, None]
    total = weight.sum(0)
    safe = total.clamp_min(1e-12 * float(total.max()))
    mean = (weight * image).sum(0) / safe
    variance = (weight**2 * statistic.variance).sum(0) / safe**2
    covered = total > 0
    variance = torch.where(covered, variance, 1.0 / statistic.den0)
    noise = (weight * draw_noise(statistic, generator)).sum(0) / safe
    share = weight.sum((1, 2)).cpu().numpy()
    psf = np.tensordot(share / share.sum(), stack.psf, axes=1)
    psf = (psf / psf.sum()).astype(np.float32)
    return finish_linear(statistic, image=mean, variance=variance, noise=noise, psf=psf)


def finish_linear(
    statistic: Statistic,
    *,
    image: torch.Tensor,
    variance: torch.Tensor,
    noise: torch.Tensor,
    psf: np.ndarray,
) -> CellFit:
    """Make the result of a linear coadd: it has no latent, so that both
    products are the coadd, at its own PSF.

    Parameters
    ----------
    statistic
        The stack; exposures are compared with its Wiener model.
    image, variance, noise
        The coadd, its variance and a realization of its noise, ``(h, w)``.
    psf
        Its PSF kernel, ``(p, p)``, sum 1.
    """
    grid = statistic.grid
    decoder = Decoder(statistic.psf_transfer, grid, latent_fwhm=0.0)
    model = decoder.predict(statistic.data / (statistic.den + 1e-3 * statistic.den0))
    return _make_fit(
        statistic,
        latent=image,
        coadd=image,
        latent_variance=variance,
        coadd_variance=variance,
        psf_flux_variance=_add_up(variance, psf, grid),
        noise=noise,
        latent_psf=psf,
        coadd_psf=psf,
        history=statistic.history,
        **_compare(statistic, model),
    )


def _add_up(variance: torch.Tensor, psf: np.ndarray, grid: FourierGrid) -> torch.Tensor:
    """Variance of PSF fluxes, ``(h, w)``, where pixels err independently."""
    response = psf_flux_response(grid.transfer(torch.as_tensor(psf, device=variance.device)), grid)
    planes = torch.stack([variance, torch.ones_like(variance)])
    summed, share = grid.crop(filtered_variance(planes, response, grid))
    # Beyond the edge it goes on as at the edge. Beside a very bright star,
    # rounding may leave a trace below 0.
    summed = summed * (grid.mean_power(response.abs() ** 2) / share)
    return summed.clamp_min(1e-3 * float(summed.median()))


def _measure_seeing(den: torch.Tensor, grid: FourierGrid) -> tuple[float, float]:
    """Return `CellFit.seeing` of a transfer function of D."""
    kernel = torch.fft.fftshift(grid.inverse(den.sqrt())).cpu().numpy()
    y, x = (side // 2 for side in kernel.shape)
    reach = min(_SEEING_REACH, y - 1, x - 1)
    wanted = grid.gaussian(_DETAIL_FWHM) ** 2

    def shown(power: torch.Tensor) -> float:
        return float(grid.mean_power(wanted * power / (power + _DETAIL_STRENGTH * power[0, 0])))

    low, high, here = 0.0, _BROADEST, shown(den)
    while high - low > 0.01:
        middle = 0.5 * (low + high)
        low, high = (middle, high) if shown(grid.kolmogorov(middle) ** 2) > here else (low, middle)
    return kernel_fwhm(kernel[y - reach : y + reach + 1, x - reach : x + reach + 1]), high


def _make_fit(statistic: Statistic, **values) -> CellFit:
    """Bring tensors home; pixels that no exposure has seen become 0."""
    values["fill"] = values["latent"]
    seen = statistic.used.sum(0) > 0
    for name in ("latent", "coadd", "noise"):
        values[name] = torch.where(seen, values[name], 0.0)
    arrays = {
        name: value.cpu().numpy().astype(np.float32) if isinstance(value, torch.Tensor) else value
        for name, value in values.items()
    }
    return CellFit(
        seeing=_measure_seeing(statistic.den, statistic.grid),
        rejected=statistic.rejected.cpu().numpy(),
        weight=(1.0 / statistic.sky_variance).cpu().numpy().astype(float),
        noise_scale=statistic.noise_scale.cpu().numpy().astype(float),
        **arrays,
    )
