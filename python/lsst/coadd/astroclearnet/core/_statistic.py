# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""The sufficient statistic of a stack: artifacts clipped, holes filled.

For known PSFs and stationary noise all that n exposures say about the sky is
in ``D = sum_t conj(K_t) Y_t / s_t^2`` and its transfer function
``den = sum_t |K_t|^2 / s_t^2``, which is also the power spectrum of the noise
of D (Kaiser 2004; Bosch et al., DMTN-015; Zackay & Ofek 2017).
"""

from __future__ import annotations

__all__ = ("FILL_STRENGTH", "Statistic", "compute_statistic", "fit_quality")

import dataclasses

import numpy as np
import torch
from torch.nn.functional import huber_loss, max_pool2d

from ._decoder import Decoder
from ._fourier import FourierGrid
from ._noise_level import measure_noise_scale
from ._stack import CellStack, HistoryRow

FILL_STRENGTH = 3e-5
"""Strength of the Wiener prior of what holes are filled with."""

_STAGES = ((1e-3, 4, True), (1e-4, 4, True), (FILL_STRENGTH, 4, True), (FILL_STRENGTH, 12, False))
"""Strength of the Wiener prior, most solver steps, and whether to clip after
them. A strong prior at first keeps artifacts from being fitted."""

_MEASURE_NOISE_AFTER = 2
"""Stage whose residuals tell the noise: the last that is clipped."""

_TOLERANCE = 1e-6
_MODEL_ERROR = 0.05
"""Error of the Wiener model relative to the brightest pixel nearby: its
prior and the PSF's own error leave a pattern around stars."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Statistic:
    """Everything the fits need to know of a stack, as tensors."""

    grid: FourierGrid
    psf_transfer: torch.Tensor
    """K_t, ``(n, rows, columns // 2 + 1)``."""
    sky_variance: torch.Tensor
    """s_t^2, ``(n,)``: noise power at the scale of the PSF, as measured."""
    noise_scale: torch.Tensor
    """What the variances that came with the exposures were multiplied by,
    ``(n,)``: 1 if they were right."""
    image: torch.Tensor
    """Exposures ``(n, h, w)``, 0 where not used."""
    variance: torch.Tensor
    """Variance ``(n, h, w)`` times `noise_scale`; s_t^2 where not good."""
    used: torch.Tensor
    """1 where good and not clipped, ``(n, h, w)``."""
    rejected: torch.Tensor
    """Good pixels that were clipped, bool ``(n, h, w)``."""
    data: torch.Tensor
    """D, ``(rows, columns // 2 + 1)``; holes are filled with the prediction
    of a Wiener model that is fitted to the other pixels."""
    den: torch.Tensor
    """Transfer function and noise power of D."""
    inflation: torch.Tensor
    """Noise of D relative to full coverage, ``(rows, columns)``, >= 1."""
    history: tuple[HistoryRow, ...] = ()
    """How well the Wiener model fitted after each stage."""

    @property
    def den0(self) -> torch.Tensor:
        """Sum of the weights: `den` at frequency 0."""
        return self.den[0, 0]

    def response(self, *, strength: float, fwhm: float) -> torch.Tensor:
        """Flux-preserving Wiener filter of a statistic to a Gaussian PSF; see
        `wiener`.
        """
        return self.grid.gaussian(fwhm) * (1.0 + strength) / (self.den + strength * self.den0)

    def wiener(self, data: torch.Tensor, *, strength: float, fwhm: float) -> torch.Tensor:
        """Flux-preserving Wiener image of a statistic at a Gaussian PSF.

        Parameters
        ----------
        data
            D or a residual of it.
        strength
            Noise level of the filter relative to `den0`.
        fwhm
            FWHM of the target in pixels.
        """
        return self.grid.inverse(data * self.response(strength=strength, fwhm=fwhm))


def _sky_variance(variance: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Low quantile of each exposure's variance: its sky, free of sources."""
    return np.array([np.quantile(v[g], 0.1) for v, g in zip(variance, good, strict=True)])


def _spread(mask: torch.Tensor, size: int) -> torch.Tensor:
    return max_pool2d(mask[:, None], size, 1, size // 2)[:, 0]


def _first_clip(
    image: torch.Tensor, good: torch.Tensor, sigma: torch.Tensor, psf_peak: torch.Tensor
) -> torch.Tensor:
    """Mark what stands far above the median of the exposures.

    `torch.nanmedian` takes the lower of two middle values, so that a cosmic
    ray in one of two exposures is seen too. The tolerance allows for what
    seeing does to the peak of a star.
    """
    blank = torch.full_like(image, float("nan"))
    median = torch.nan_to_num(torch.where(good > 0, image, blank).nanmedian(0).values)
    sharper = (psf_peak / psf_peak.median() - 1.0).clamp_min(0.0)[:, None, None]
    tolerance = (0.5 + 1.3 * sharper) * max_pool2d(median.abs()[None, None], 5, 1, 2)[0]
    excess = image - median
    ratio = excess / sigma
    # A lonely exposure is its own median: nothing can be said there.
    core = ((ratio > 5.5) & (excess > tolerance) & (good > 0)).float()
    wing = _spread(core, 3) * ((ratio > 2.0) & (excess > 0.5 * tolerance))
    return _spread(wing, 3) * ((ratio > 1.5) & (excess > 0.3 * tolerance))


def _clip(residual: torch.Tensor, good: torch.Tensor, clip_sigma: float) -> torch.Tensor:
    """Mark artifacts in residuals in units of sigma.

    Light is added by cosmic rays, trails and ghosts, never taken away, and an
    artifact drags the model up in all exposures. So an exposure is clipped
    only where it is among the worst, and a deficit counts half.
    """
    score = torch.where(residual > 0, residual, -0.5 * residual) * good
    core = ((score > clip_sigma) & (score > 0.6 * score.amax(0))).float()
    # Resampling spreads a sharp artifact with alternating signs.
    size = residual.abs()
    marked = torch.maximum(_spread(core, 3), _spread(core * (score > 4 * clip_sigma), 5))
    for _ in range(2):
        marked = torch.maximum(marked, _spread(marked, 5) * (size > 1.5))
    return marked


def compute_statistic(
    stack: CellStack, *, device: torch.device | str = "cpu", clip_sigma: float = 4.5
) -> Statistic:
    """Reduce a stack to its sufficient statistic.

    A Wiener model is fitted to the pixels in use; masked, clipped and
    out-of-frame pixels are filled with its prediction, so that D is that of
    a stack without holes. Clipping is decided anew after each stage against
    the model of the stage, never added up, so that a star that the first
    look took for an artifact comes back.

    Parameters
    ----------
    stack
        The exposures.
    device
        Where the tensors live.
    clip_sigma
        Residual in sigma above which a pixel can be an artifact.

    Returns
    -------
    `Statistic`
        D, den and what belongs to them.
    """
    n, height, width = stack.image.shape
    grid = FourierGrid.for_images(height=height, width=width, device=device)
    good = torch.as_tensor(stack.good, device=device).float()
    image = torch.as_tensor(stack.image, dtype=torch.float32, device=device) * good
    sky = torch.as_tensor(_sky_variance(stack.variance, stack.good), dtype=torch.float32, device=device)
    variance = torch.as_tensor(stack.variance, dtype=torch.float32, device=device)
    variance = torch.where(good > 0, variance, sky[:, None, None].expand_as(variance))
    transfer = grid.transfer(torch.as_tensor(stack.psf, dtype=torch.float32, device=device))

    solver = _WienerSolver(transfer, sky, grid)
    noise_scale = torch.ones(n, device=device)
    used = good
    if n > 1:
        psf_peak = torch.as_tensor(stack.psf.max((1, 2)), dtype=torch.float32, device=device)
        used = good * (1.0 - _first_clip(image, good, variance.sqrt(), psf_peak))
    model = torch.zeros(grid.shape, device=device)
    history: list[HistoryRow] = []
    for number, (strength, steps, clips) in enumerate(_STAGES):
        model = solver.solve(image, used, start=model, strength=strength, steps=steps)
        prediction = solver.predict(model)
        if number == _MEASURE_NOISE_AFTER:
            noise_scale = measure_noise_scale(
                residual=image - prediction,
                model=model,
                used=used,
                transfer=transfer,
                sky_variance=sky,
                prior=strength * solver.den0,
                grid=grid,
            )
            sky = sky * noise_scale
            variance = variance * noise_scale[:, None, None]
            solver = _WienerSolver(transfer, sky, grid)
        history.append(fit_quality("statistic", number, image, prediction, variance, used))
        if clips and n > 1:
            bright = max_pool2d(prediction.abs()[:, None], 5, 1, 2)[:, 0]
            residual = (image - prediction) / (variance + (_MODEL_ERROR * bright) ** 2).sqrt()
            used = good * (1.0 - _clip(residual, good, clip_sigma))
    return Statistic(
        grid=grid,
        psf_transfer=transfer,
        sky_variance=sky,
        noise_scale=noise_scale,
        image=image,
        variance=variance,
        used=used,
        rejected=(good > 0) & (used == 0),
        data=solver.complete(image, used, model),
        den=solver.den,
        inflation=_inflation(used, 1.0 / sky[:, None, None], grid),
        history=tuple(history),
    )


def fit_quality(
    stage: str,
    step: int,
    image: torch.Tensor,
    model: torch.Tensor,
    variance: torch.Tensor,
    used: torch.Tensor,
    *,
    huber_delta: float = 3.0,
) -> HistoryRow:
    """Make a row of the fit history: mean Huber loss and reduced chi2 of a
    prediction of the exposures, over the pixels in use.
    """
    residual = (image - model) * variance.rsqrt()
    loss = huber_loss(residual, torch.zeros_like(residual), reduction="none", delta=huber_delta)
    n_used = used.sum()
    return {
        "stage": stage,
        "step": step,
        "loss": float((used * loss).sum() / n_used),
        "held_out_loss": float("nan"),
        "chi2": float((used * residual**2).sum() / n_used),
    }


class _WienerSolver:
    """Conjugate gradients for the Wiener model of a stack with holes.

    The normal equations of full coverage are diagonal in Fourier space: they
    are the preconditioner, and without holes one step is exact.
    """

    def __init__(self, transfer: torch.Tensor, sky_variance: torch.Tensor, grid: FourierGrid):
        self._decoder = Decoder(transfer, grid, latent_fwhm=0.0)
        self._transfer = transfer
        self._weight = 1.0 / sky_variance[:, None, None]
        self._grid = grid
        self.den = (transfer.abs() ** 2 * self._weight).sum(0)

    @property
    def den0(self) -> float:
        """Sum of the weights."""
        return float(self.den[0, 0])

    def predict(self, model: torch.Tensor) -> torch.Tensor:
        """Predict the exposures, ``(n, h, w)``, from the model."""
        return self._decoder.forward(model)

    def solve(
        self, image: torch.Tensor, used: torch.Tensor, *, start: torch.Tensor, strength: float, steps: int
    ) -> torch.Tensor:
        """Fit the model to the pixels in use, from a start."""
        prior = strength * self.den0
        weight = self._weight * used

        def normal(sky: torch.Tensor) -> torch.Tensor:
            return self._decoder.adjoint(weight * self._decoder.forward(sky)) + prior * sky

        def precondition(sky: torch.Tensor) -> torch.Tensor:
            return self._grid.inverse(self._grid.transform(sky) / (self.den + prior))

        target = self._decoder.adjoint(weight * image)
        enough = _TOLERANCE * (target * precondition(target)).sum()
        model, residual = start, target - normal(start)
        better = precondition(residual)
        direction, size = better, (residual * better).sum()
        for _ in range(steps):
            if size <= enough:
                break
            image_of = normal(direction)
            length = size / (direction * image_of).sum()
            model = model + length * direction
            residual = residual - length * image_of
            better = precondition(residual)
            size, last = (residual * better).sum(), size
            direction = better + (size / last) * direction
        return model

    def complete(self, image: torch.Tensor, used: torch.Tensor, model: torch.Tensor) -> torch.Tensor:
        """D of the exposures with every hole, and the padding that no
        exposure has seen, filled with the prediction.
        """
        filled = self._grid.inverse(self._transfer * self._grid.transform(model))
        inner = self._grid.crop(filled)
        inner[:] = torch.where(used > 0, image, inner)
        return (self._transfer.conj() * self._grid.transform(filled) * self._weight).sum(0)


def _inflation(used: torch.Tensor, weight: torch.Tensor, grid: FourierGrid) -> torch.Tensor:
    """Noise of the filled statistic relative to full coverage.

    Where only part of the weight was seen, the rest was filled with a model
    of it, so the noise amplitude is that of the part seen. The map is smooth
    on the scale of the PSF, so that dividing by it leaves profiles alone.
    """
    share = torch.zeros(grid.shape, device=used.device)
    grid.crop(share)[:] = (used * weight).sum(0) / weight.sum()
    smooth = grid.inverse(grid.transform(share) * grid.gaussian(5.0))
    least = float(weight.min() / weight.sum())
    return smooth.clamp(min=least, max=1.0).rsqrt()
