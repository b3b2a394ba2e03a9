# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the residual of each exposure says of its calibration."""

from __future__ import annotations

__all__ = ("diagnose", "summarize")

from collections.abc import Sequence

import numpy as np
import torch

from .._diagnosis import PARAMETERS, Diagnosis
from ..clip._neighbours import brightest_nearby
from ..statistic._statistic import Statistic
from ._expected_variance import expect_variance

_MODEL_ERROR = 0.03
"""Error of the model relative to the brightest pixel nearby: keeps one bright
star from deciding for all sources, and the wings of its PSF from deciding
for it."""

_NEAR, _AROUND = 3, 15
"""Pixels on each side that are nearby, and that are left aside around bright
pixels that were not used: what is left of a saturated star tells little."""

_BRIGHT = 20.0
"""Brightness of such a pixel, in sigma."""

_MIN_SIGNAL_TO_NOISE = 20.0
"""Signal below which flux scale and shift of an exposure say nothing."""


def diagnose(statistic: Statistic, model: torch.Tensor) -> Diagnosis:
    """Fit scale, sky and shift of each exposure to its residual.

    The residual is, to first order, ``(s - 1) m + b - dx m_x - dy m_y`` with
    the model m and its gradients: one linear fit of four numbers for each
    exposure, by the pixels in use.

    Parameters
    ----------
    statistic
        The stack.
    model
        The prediction of every exposure, ``(n, h, w)``, in nJy per pixel.
    """
    chi2, normal, target = [], [], []
    for image, variance, used, sky, one in zip(
        statistic.image, statistic.variance, statistic.used, statistic.sky_variance, model, strict=True
    ):
        residual = image - one
        variance = expect_variance(variance, residual=residual, model=one, used=used, sky_variance=sky)
        chi2.append(float((used * residual**2 / variance).sum() / used.sum().clamp_min(1.0)))
        weight = _robust_weight(variance, used, one)
        gradients = [-_gradient(one, axis=axis) for axis in (-1, -2)]
        templates = torch.stack([one, torch.ones_like(one), *gradients]).flatten(1)
        weighted = templates * weight.flatten()
        normal.append((weighted @ templates.T).cpu().double().numpy())
        target.append((weighted @ residual.flatten()).cpu().double().numpy())
    fits = [_solve(matrix, vector) for matrix, vector in zip(normal, target, strict=True)]
    return Diagnosis(
        chi2=np.array(chi2),
        values=np.array([values for values, _ in fits]) + [1.0, 0.0, 0.0, 0.0],
        errors=np.array([errors for _, errors in fits]),
    )


def summarize(diagnoses: Sequence[tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    """Combine what the cells found for one exposure, by inverse variance.

    Parameters
    ----------
    diagnoses
        A row of `Diagnosis.values` and one of `Diagnosis.errors` a cell.

    Returns
    -------
    `dict`
        Each of `PARAMETERS` and, with ``_error`` added to its name, its
        standard error; NaN if no cell knows it.
    """
    values, errors = (np.array(rows, dtype=float) for rows in zip(*diagnoses, strict=True))
    found = {}
    for k, name in enumerate(PARAMETERS):
        known = np.isfinite(values[:, k]) & (errors[:, k] > 0)
        weight = errors[known, k] ** -2.0
        found[name] = float(np.average(values[known, k], weights=weight)) if known.any() else float("nan")
        found[f"{name}_error"] = float(weight.sum() ** -0.5) if known.any() else float("nan")
    return found


def _robust_weight(variance: torch.Tensor, used: torch.Tensor, model: torch.Tensor) -> torch.Tensor:
    near = brightest_nearby(model.abs(), _NEAR)
    weight = used / (variance + (_MODEL_ERROR * near) ** 2)
    lost = (1.0 - used) * (model > _BRIGHT * variance.sqrt())
    return weight * (1.0 - brightest_nearby(lost, _AROUND)) if lost.amax() else weight


def _gradient(images: torch.Tensor, *, axis: int) -> torch.Tensor:
    """Return the derivative per pixel; 0 in the two outermost pixels.

    To fourth order: second would read the shift of a star of 3 pixels FWHM a
    tenth too small.
    """
    inner = images.shape[axis] - 4

    def ahead(step: int) -> torch.Tensor:
        return images.narrow(axis, 2 + step, inner)

    gradient = torch.zeros_like(images)
    middle = gradient.narrow(axis, 2, inner)
    torch.sub(ahead(1), ahead(-1), out=middle).mul_(8.0).sub_(ahead(2)).add_(ahead(-2)).div_(12.0)
    return gradient


def _solve(normal: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Solve the equations of one exposure; only for the sky without signal."""
    values, errors = np.full((2, len(PARAMETERS)), np.nan)
    fitted = range(len(PARAMETERS)) if normal[0, 0] > _MIN_SIGNAL_TO_NOISE**2 else [1]
    if not normal[1, 1] > 0:
        return values, errors
    part = np.ix_(fitted, fitted)
    # Parameters of different units: scaled, the matrix is well conditioned.
    size = np.sqrt(np.diag(normal)[fitted])
    size[size == 0] = 1.0
    inverse = np.linalg.pinv(normal[part] / np.outer(size, size), rcond=1e-6, hermitian=True)
    values[fitted] = inverse @ (target[fitted] / size) / size
    errors[fitted] = np.sqrt(np.diag(inverse)) / size
    return values, errors
