# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the latent must not be used, and why."""

from __future__ import annotations

__all__ = ("TrustLimits", "describe_psfs", "find_loss_change", "find_untrusted")

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import scipy.ndimage

from .._stack import HistoryRow
from ._holes import find_small_holes

_HALF, _END = (0.4, 0.6), (0.9, 1.0)
"""Parts of the steps whose losses are compared: a fit that goes on to improve
does so in proportion to the logarithm of its steps."""

_ONE_STEP = ("statistic", "latent")
"""Stages of the history that are no iterations of a fit."""

_LEAST_STEPS = 5
"""Steps in the history below which nobody knows whether a fit has come to
rest."""

_GAP_HALO = 5
"""Pixels beside a place without inputs that are not trusted: about one FWHM
of the exposures, whose light from beyond is made up."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrustLimits:
    """Limits beyond which a pixel of the latent is not trusted."""

    halo: int = 10
    """Pixels around saturation that share its fate: in a seeing of 4 pixels
    the latent is off by more than its noise as far as that."""

    min_inputs: int = 2
    """Least number of inputs of a pixel."""

    misfit: float = 5.0
    """Most flux that the latent may lack or have too much, as a point source
    in units of its error (noise, and 2 % of the flux there)."""

    chi2: float = 3.0
    """Most local reduced chi2 of the exposures about the latent."""

    cell_chi2: float = 1.5
    """Most reduced chi2 of a whole cell, its bright sources left aside."""

    loss_change: float = 0.01
    """Most relative change of the loss over the second half of the steps."""

    min_seeing: float = 2.0
    max_seeing: float = 5.5
    """Limits of the FWHM in pixels of the PSF of all exposures of a cell
    together. Sampled with less, stars lose light in the latent (at 1.8 pixels
    7 per cent); from more, sharp images cannot be made of bright stars (with
    the target of 2.5 pixels they are 1 to 2 % faint at 5.5 and 3 to 4 % at
    6, or where one sharp exposure stands among fifteen of 8 pixels)."""

    psf_change: float = 0.3
    """Most change of that PSF from the middle of a cell to its corner,
    relative to it. PSFs are taken to change linearly: fluxes of single stars
    are right to 1 % up to here, and off by up to 6 at 0.4."""


def find_loss_change(history: Sequence[HistoryRow]) -> dict[tuple[int, int], float]:
    """Measure how much the loss of iterative fits still changed at the end.

    Parameters
    ----------
    history
        Rows of all cells, as `~.fit_patch` returns them.

    Returns
    -------
    `dict`
        For each cell ``(i, j)`` with rows the relative change of the loss over
        the second half of the steps of its last stage; infinite if there are
        too few to tell. Training that cells have in common stands under
        ``(-1, -1)``.
    """
    losses: dict[tuple[int, int], dict[str, list[tuple[float, float]]]] = {}
    for row in history:
        if row["stage"] not in _ONE_STEP:
            stages = losses.setdefault((row["cell_i"], row["cell_j"]), {})
            stages.setdefault(row["stage"], []).append((row["step"], row["loss"]))
    return {
        cell: _late_change(np.array(list(stages.values())[-1], dtype=float))
        for cell, stages in losses.items()
    }


def _late_change(rows: np.ndarray) -> float:
    """Change of the loss over the second half of ``(step, loss)`` rows."""
    steps, losses = rows.T
    if len(np.unique(steps)) < _LEAST_STEPS:
        return float("inf")
    progress = (steps - steps[0]) / max(steps[-1] - steps[0], 1.0)

    def typical(limits: tuple[float, float]) -> float:
        chosen = losses[(progress >= limits[0]) & (progress <= limits[1])]
        return float(np.median(chosen)) if len(chosen) else float(np.interp(limits[0], progress, losses))

    end = typical(_END)  # 0 where next to nothing was fitted
    return abs(typical(_HALF) / end - 1.0) if end > 0 else float("inf")


def find_untrusted(
    *,
    saturated: np.ndarray,
    n_image: np.ndarray,
    misfit: np.ndarray,
    chi2: np.ndarray,
    history: Sequence[HistoryRow],
    seeing: np.ndarray,
    psf_change: np.ndarray,
    cell_size: int,
    limits: TrustLimits,
) -> dict[str, np.ndarray]:
    """Find the pixels of a patch whose latent must not be used.

    Parameters
    ----------
    saturated
        Pixels of the plane SATURATED, ``(y, x)``.
    n_image
        Inputs used for each pixel.
    misfit, chi2
        Maps of ``measure_misfit``, ``(y, x)``.
    history
        Rows of the fit history of all cells.
    seeing
        FWHM in pixels of the PSF of each cell's exposures together,
        ``(cell_y, cell_x, 2)``, as in `PatchFit`.
    psf_change
        How much it changes within each cell, ``(cell_y, cell_x)``, likewise.
    cell_size
        Side of a cell, in pixels.
    limits
        What is too much.

    Returns
    -------
    `dict`
        For each reason (``saturated``, ``few_inputs``, ``not_converged``,
        ``misfit``, ``seeing``, ``psf_change``) a bool array ``(y, x)``. Few
        inputs are also those beside a place that has none, unless that is a
        small hole.
    """
    halo, whole = saturated, np.ones((cell_size, cell_size), bool)
    if saturated.any():
        halo = scipy.ndimage.distance_transform_edt(~saturated) <= limits.halo
    return {
        "saturated": halo,
        "few_inputs": (n_image < limits.min_inputs) | _find_beside_gaps(n_image == 0),
        "not_converged": _find_not_converged(chi2, history, cell_size, limits),
        "misfit": (np.abs(misfit) > limits.misfit) | (chi2 > limits.chi2),
        "seeing": np.kron(_is_beyond_seeing(seeing, limits), whole),
        "psf_change": np.kron(psf_change > limits.psf_change, whole),
    }


def _is_beyond_seeing(seeing: np.ndarray, limits: TrustLimits) -> np.ndarray:
    """Tell whose PSF is too narrow or too broad for the latent, bool; not
    what is missing, NaN.
    """
    return (seeing[..., 0] < limits.min_seeing) | (seeing > limits.max_seeing).any(axis=-1)


def describe_psfs(seeing: np.ndarray, psf_change: np.ndarray, limits: TrustLimits) -> Iterator[str]:
    """Yield what is wrong with the PSFs of the exposures, and what to do about
    it.

    Parameters
    ----------
    seeing, psf_change, limits
        As of `find_untrusted`.
    """
    known = seeing[np.isfinite(seeing).all(axis=-1)]
    if count := int(_is_beyond_seeing(known, limits).sum()):
        yield (
            f"The PSF of the exposures together is too narrow or too broad in {count} of {len(known)} cells "
            f"(FWHM {known.min():.1f} to {known.max():.1f} pixels, limits {limits.min_seeing:g} and "
            f"{limits.max_seeing:g}): bright stars there do not have the PSF of the results. Leave out the "
            "broadest exposures, choose a grid with other pixels, or take method 'kaiser' or 'mean'."
        )
    if count := int((psf_change > limits.psf_change).sum()):
        yield (
            f"The PSF of the exposures together changes too much within {count} of {len(known)} cells (by up "
            f"to {np.nanmax(psf_change):.2f} of it from the middle to a corner, limit "
            f"{limits.psf_change:g}): fluxes depend on the place in the cell. Make cells smaller."
        )


def _find_beside_gaps(unseen: np.ndarray) -> np.ndarray:
    """Mark what is not seen, small holes left aside, and what is near it."""
    gap = unseen & ~find_small_holes(unseen)
    return scipy.ndimage.distance_transform_edt(~gap) <= _GAP_HALO if gap.any() else gap


def _find_not_converged(
    chi2: np.ndarray, history: Sequence[HistoryRow], cell_size: int, limits: TrustLimits
) -> np.ndarray:
    """Mark cells whose loss still changed, or whose typical chi2 is high."""
    change = find_loss_change(history)
    in_common = change.get((-1, -1), 0.0)
    marked = np.zeros(chi2.shape, bool)
    for i, j in np.ndindex(chi2.shape[0] // cell_size, chi2.shape[1] // cell_size):
        cell = np.s_[i * cell_size : (i + 1) * cell_size, j * cell_size : (j + 1) * cell_size]
        values = chi2[cell][chi2[cell] > 0]
        high = len(values) > 0 and np.median(values) > limits.cell_chi2
        marked[cell] = high or max(in_common, change.get((i, j), 0.0)) > limits.loss_change
    return marked
