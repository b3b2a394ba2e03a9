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

__all__ = (
    "Statistic",
    "compute_statistic",
    "fit_quality",
    "leave_out_weightless",
    "reduce_part",
)

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch

from .._stack import CellStack, HistoryRow
from ..clip._clip import Clipper
from ..clip._first_look import FirstLook
from ..fourier._filters import wiener_response
from ..fourier._grid import FourierGrid
from ._coverage_noise import measure_inflation, measure_noise_power, measure_share
from ._level_psfs import PsfLeveller
from ._noise_level import measure_noise_scale
from ._stages import FILL_STRENGTH, plan_stages
from ._understated_noise import find_understated_noise
from ._wiener import WienerSolver

_PART_STRENGTH, _PART_STEPS, _PART_TOLERANCE = 3e-5, 8, 0.05
"""Strength of the prior, most steps and error of the fit to a part of the
exposures, which starts from nothing."""

_LEAST_PAD, _REACH = 8, 30
"""Least padding in pixels, and how far light is taken to reach around the
edge of the grid."""

_LEAST_WEIGHT = 1e-6
"""Weight relative to the largest below which an exposure is left out: a huge
variance says that it is not to be used, and would spoil the arithmetic."""

_ENOUGH_PIXELS = 1000
"""Pixels that tell the level of the sky."""


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
    """Exposures ``(n, h, w)``, as if each had everywhere the PSF of
    `psf_transfer`; 0 where not good."""
    variance: torch.Tensor
    """Variance ``(n, h, w)`` times `noise_scale`; s_t^2 where not good."""
    used: torch.Tensor
    """1 where good and not clipped, 0 where not, less than 1 where clipped in
    part, ``(n, h, w)``."""
    rejected: torch.Tensor
    """Good pixels that were clipped for the most part, bool ``(n, h,
    w)``."""
    data: torch.Tensor
    """D, ``(rows, columns // 2 + 1)``; holes are filled with the prediction
    of a Wiener model that is fitted to the other pixels."""
    den: torch.Tensor
    """Transfer function and noise power of D."""
    coverage: torch.Tensor
    """Part of the weight that was seen, smooth, ``(rows, columns)``."""
    inflation: torch.Tensor
    """Noise of the coadd relative to full coverage, ``(rows, columns)``, >= 1:
    more than coverage tells where the sharp exposures are missing."""
    noise_power: torch.Tensor
    """The same as noise power, pixel by pixel, ``(rows, columns)``."""
    den_change: torch.Tensor | None = None
    """Change of the noise of D over the cell, as of
    `PsfLeveller.find_den_change`; `None` if it is the same everywhere."""
    history: tuple[HistoryRow, ...] = ()
    """How well the Wiener model fitted after each stage."""

    @property
    def den0(self) -> torch.Tensor:
        """Sum of the weights: `den` at frequency 0."""
        return self.den[0, 0]

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
        return self.grid.inverse(data * wiener_response(self.den, self.grid, strength=strength, fwhm=fwhm))


def _sky_variance(stack: CellStack) -> np.ndarray:
    """Low quantile of each exposure's variance: its sky, free of sources."""
    levels = []
    for variance, good in zip(stack.variance, stack.good, strict=True):
        few = good[::4, ::4]
        where = np.s_[::4, ::4] if few.sum() > _ENOUGH_PIXELS else np.s_[:]
        levels.append(np.quantile(variance[where][good[where]], 0.1))
    return np.array(levels, dtype=np.float32)


def _load(
    stack: CellStack, level: np.ndarray, understated: np.ndarray, device: torch.device | str
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return images, variances and good pixels of a stack, 0, the level of the
    sky and 0 in its holes.

    Parameters
    ----------
    stack
        The exposures.
    level
        Variance of the sky of each, ``(n,)``.
    understated
        What their variances are multiplied with, ``(n,)``.
    device
        Where the tensors live.
    """
    variance = np.where(stack.good, stack.variance * understated[:, None, None], level[:, None, None])
    good = torch.as_tensor(stack.good, device=device).float()
    image = torch.as_tensor(stack.image, dtype=torch.float32, device=device) * good
    return image, torch.as_tensor(variance, dtype=torch.float32, device=device), good


def leave_out_weightless(stack: CellStack) -> CellStack:
    """Return a stack without the exposures whose weight is next to nothing."""
    level = _sky_variance(stack)
    kept = np.flatnonzero(level < level.min() / _LEAST_WEIGHT)
    return stack if len(kept) == len(level) else stack.take(kept)


def compute_statistic(
    stack: CellStack,
    *,
    device: torch.device | str = "cpu",
    clip_sigma: float = 4.5,
    halo: int = 0,
    fill_strength: float = FILL_STRENGTH,
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
    halo
        Border in pixels that the caller crops from all results. What wraps
        around the edge of the grid may end there, so that the grid can be
        the smaller.
    fill_strength
        Strength of the Wiener prior of what holes are filled with.

    Returns
    -------
    `Statistic`
        D, den and what belongs to them.
    """
    n, height, width = stack.image.shape
    level = _sky_variance(stack)
    understated = find_understated_noise(stack, level)
    level = level * understated
    pad = max(_LEAST_PAD, _REACH - halo)
    grid = FourierGrid.for_images(height=height, width=width, pad=pad, device=device)
    image, variance, good = _load(stack, level, understated, device)
    sky = torch.as_tensor(level, device=device)
    psf = torch.as_tensor(stack.psf, dtype=torch.float32, device=device)
    transfer = grid.transfer(psf)

    leveller = None
    if stack.psf_gradient is not None:
        leveller = PsfLeveller(image.clone(), good, stack.psf_gradient, grid)
    solver = WienerSolver(image, transfer, sky, grid)
    look = FirstLook(image, good, variance, psf.amax((1, 2)))
    clipper = Clipper(clip_sigma, psf, look)
    noise_scale = torch.as_tensor(understated, device=device)
    used = look.find_used() if n > 1 else good
    history: list[HistoryRow] = []
    stages = plan_stages(stack.good, fill_strength=fill_strength)
    for number, (strength, steps, error, clips) in enumerate(stages):
        left = solver.solve(used, strength=strength, steps=steps, tolerance=error)
        if number == len(stages) - 2:
            # Its residuals are the last to be clipped.
            factor, told = measure_noise_scale(
                residual=solver.residual,
                model=solver.spectrum,
                used=used,
                variance=variance,
                transfer=transfer,
                power=solver.power,
                sky_variance=sky,
                prior=strength * solver.den0,
                grid=grid,
            )
            noise_scale = noise_scale * factor
            sky = told * factor
            variance.mul_(factor[:, None, None])
            solver.reweigh(sky)
        if leveller is not None and number < len(stages) - 1:
            leveller.level(image, solver.residual, spectrum=solver.spectrum, den=solver.den)
        history.append(_make_row("statistic", number, solver.residual, variance, used))
        if clips and n > 1:
            clipper.find_used(image, solver.residual, good, variance, score=solver.spare, used=used)
    weight = 1.0 / sky
    coverage = measure_share(used, weight, grid)
    return Statistic(
        grid=grid,
        psf_transfer=transfer,
        sky_variance=sky,
        noise_scale=noise_scale,
        image=image,
        variance=variance,
        used=used,
        rejected=used < 0.5 * good,
        data=solver.complete(used, left),
        den=solver.den,
        coverage=coverage,
        inflation=measure_inflation(coverage, used, solver.power, weight, grid, prior=stages[-1].strength),
        noise_power=measure_noise_power(used, solver.power, weight, grid, prior=stages[-1].strength),
        den_change=None if leveller is None else leveller.find_den_change(transfer, weight),
        history=tuple(history),
    )


def reduce_part(whole: Statistic, which: Sequence[int]) -> Statistic:
    """Reduce some of the exposures of a stack that is reduced already.

    The noise and the pixels in use are taken as they are; holes are filled
    with a model of the chosen exposures alone, so that nothing of the others
    comes in.

    Parameters
    ----------
    whole
        The statistic of all exposures.
    which
        Indices of those wanted.

    Returns
    -------
    `Statistic`
        The statistic of them.
    """
    index = torch.as_tensor(which, device=whole.image.device)
    names = ("psf_transfer", "sky_variance", "noise_scale", "image", "variance", "used", "rejected")
    part = {name: getattr(whole, name)[index] for name in names}
    weight = 1.0 / part["sky_variance"]
    solver = WienerSolver(part["image"], part["psf_transfer"], part["sky_variance"], whole.grid)
    left = solver.solve(part["used"], strength=_PART_STRENGTH, steps=_PART_STEPS, tolerance=_PART_TOLERANCE)
    coverage = measure_share(part["used"], weight, whole.grid)
    about = solver.power, weight, whole.grid
    return dataclasses.replace(
        whole,
        data=solver.complete(part["used"], left),
        den=solver.den,
        coverage=coverage,
        inflation=measure_inflation(coverage, part["used"], *about, prior=_PART_STRENGTH),
        noise_power=measure_noise_power(part["used"], *about, prior=_PART_STRENGTH),
        history=(),
        **part,
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
    return _make_row(stage, step, image - model, variance, used, huber_delta=huber_delta)


def _make_row(
    stage: str,
    step: int,
    residual: torch.Tensor,
    variance: torch.Tensor,
    used: torch.Tensor,
    *,
    huber_delta: float = 3.0,
) -> HistoryRow:
    loss = chi2 = n_used = 0.0
    # A quarter of the rows tells as much as the history needs.
    for one, level, kept in zip(residual[:, ::4], variance[:, ::4], used[:, ::4], strict=True):
        size = (one * level.rsqrt()).mul_(kept).abs_()
        clamped = size.clamp(max=huber_delta)
        n_used += float(kept.sum())
        chi2 += float((size * size).sum())
        loss += float((clamped * size.sub(clamped, alpha=0.5)).sum())
    return {
        "stage": stage,
        "step": step,
        "loss": loss / max(n_used, 1.0),
        "held_out_loss": float("nan"),
        "chi2": chi2 / max(n_used, 1.0),
    }
