# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""The loss of the training: pixels at several scales, and unbiased fluxes."""

from __future__ import annotations

__all__ = ("FLUX_BINS", "TrainingLoss")

import dataclasses

import numpy as np
import torch

from ..core._errors import FitError
from ..core.encoder._flux import match_and_quieten
from ..core.encoder._inputs import LATENT_FWHM
from ..core.fourier._grid import FWHM_TO_SIGMA, FourierGrid
from ._skies import Source, TrainingBatch

FLUX_BINS = ((5, 8, 0.03), (8, 14, 0.025), (14, 30, 0.015), (30, 100, 0.01), (100, 1e5, 0.005))
"""Lowest and highest S/N of a bin, and the relative bias that matters."""

_N_KINDS = 4
_FLUX_WEIGHT = 0.01
"""Weight of the flux term. Larger values make it oscillate."""
_APERTURE = 5.95
"""Radius in pixels of the aperture of the flux term."""
_SHARP_WEIGHT = 1.2
"""Of the errors at the latent's own PSF, which tell close pairs apart."""
_PSF_FLUX_FWHM = 3.0
"""FWHM in pixels of a latent whose values are fluxes weighted with its PSF,
when the target PSF is about 2.1 pixels wide."""


def read_loss(loss: torch.Tensor, phase: str, step: int) -> float:
    """Return the value of a loss.

    Raises
    ------
    FitError
        If it is not a number: all weights would be lost with the next step,
        and all the time that follows.
    """
    value = float(loss.detach())
    if not np.isfinite(value):
        raise FitError(f"The loss of step {step + 1} of {phase!r} is {value}: try another seed.", step=step)
    return value


def _huber(residual: torch.Tensor) -> torch.Tensor:
    size = residual.abs()
    return torch.where(size < 4.0, 0.5 * size**2, 4.0 * (size - 2.0))


_APART = ((0,), (1,), (2,), (3,))
_PSF_GROUPS = ((), ((0, 1), (2,), (3,)), _APART, _APART, _APART)
"""Kinds of sources whose mean PSF flux is to be right, for each bin: faint
stars and small galaxies look alike, and the faintest are like noise."""
_ALONE = 9.0
"""Distance in pixels from the next source from which on a flux is that of one
source. Errors of the others are small, for the light of brighter neighbours is
in their apertures, and would hide those of sources that stand alone."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class _Measure:
    """One way to measure a flux, and what is to be right on average."""

    transfer: torch.Tensor
    groups: tuple[tuple[tuple[int, ...], ...], ...]


class TrainingLoss:
    """Huber loss at several scales plus a penalty on the mean flux error.

    A pixel loss alone shrinks faint sources and makes them too broad. The
    penalty follows the running means of the relative errors of two fluxes,
    in an aperture and weighted with a PSF, of sources that stand alone, for
    each bin of S/N and each kind of source, and pushes against their signs.
    These are fluxes of what is delivered (`match_and_quieten`).

    Parameters
    ----------
    grid
        The grid of the skies.
    """

    _TRUTH_ERROR = 0.015
    _EDGE = 14

    def __init__(self, grid: FourierGrid):
        self._grid = grid
        self._disc = grid.disc(_APERTURE)
        psf = self._widen(_PSF_FLUX_FWHM)
        self._measures = (
            _Measure(transfer=self._disc, groups=(_APART,) * len(FLUX_BINS)),
            _Measure(transfer=psf, groups=_PSF_GROUPS),
        )
        self.bias = np.zeros((2, len(FLUX_BINS), _N_KINDS))

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return the means that it has followed so far."""
        return {"bias": torch.as_tensor(self.bias)}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Go on with the means of another."""
        self.bias[:] = state["bias"].numpy()

    def describe_bias(self) -> str:
        """Tell the means of the errors of both fluxes, for a line of
        progress.
        """
        bias, of_psf = (
            " ".join("/".join(f"{100 * b:+.1f}" for b in row) for row in measure) for measure in self.bias
        )
        return f"flux bias % (star/small/large/odd) {bias}, of PSF fluxes {of_psf}"

    def __call__(
        self, latent: torch.Tensor, batch: TrainingBatch, unit: torch.Tensor, *, with_flux: bool
    ) -> torch.Tensor:
        """Return the loss of latents ``(b, rows, columns)``, for a noise unit
        of the same shape.
        """
        grid = self._grid
        error, truth = grid.transform(latent - batch.truth), grid.transform(batch.truth)
        terms = [(_SHARP_WEIGHT, 1.5, 1.5 * unit), (0.5, 2.0, 0.9 * unit), (1.0, 2.5, 0.7 * unit)]
        for fwhm in (4.5, 8.0):
            area = 2.0 * np.sqrt(np.pi) * fwhm * FWHM_TO_SIGMA
            noise = batch.den[:, :1, :1].rsqrt() * batch.inflation / area
            terms.append((0.5, fwhm, noise))
        loss = sum(
            weight * self._pixel_term(error, truth, self._widen(fwhm), noise) for weight, fwhm, noise in terms
        )
        if with_flux:
            loss = loss + self._flux_term(self._delivered_error(latent, batch), truth, batch)
        return loss

    def _delivered_error(self, latent: torch.Tensor, batch: TrainingBatch) -> torch.Tensor:
        grid = self._grid
        delivered, _ = match_and_quieten(
            latent, data=batch.data, den=batch.den, inflation=batch.inflation, grid=grid
        )
        return grid.transform(delivered - batch.truth)

    @property
    def _inner(self):
        return np.s_[:, self._EDGE : -self._EDGE, self._EDGE : -self._EDGE]

    def _widen(self, fwhm: float) -> torch.Tensor:
        """Transfer from the latent's PSF to a wider one."""
        return self._grid.gaussian((fwhm**2 - LATENT_FWHM**2) ** 0.5)

    def _pixel_term(self, error, truth, transfer, noise) -> torch.Tensor:
        grid, inner = self._grid, self._inner
        error, truth = error * transfer, truth * transfer
        scale = torch.sqrt(noise**2 + (self._TRUTH_ERROR * grid.inverse(truth)) ** 2)
        return _huber(grid.inverse(error) / scale)[inner].mean()

    def _flux_term(self, error, truth, batch: TrainingBatch) -> torch.Tensor:
        grid = self._grid
        low, high = self._EDGE + 4, grid.shape[0] - self._EDGE - 5
        inner = [s for s in batch.sources if low <= s.y < high and low <= s.x < high]
        inner = [s for s, d in zip(inner, _distance_to_next(inner, batch.sources), strict=True) if d > _ALONE]
        if not inner:
            return torch.zeros(())
        index = _index(inner)
        apertures = grid.inverse(truth * self._disc)[index]
        aperture_sn = apertures * batch.den[index[0], 0, 0].sqrt() / (np.sqrt(np.pi) * _APERTURE)
        # A source in the wings of a brighter one is judged by its own light.
        sn = np.minimum([s.signal_to_noise for s in inner], 2.2 * aperture_sn.numpy())
        sn = sn / batch.inflation[index].numpy()
        kinds = np.array([s.kind for s in inner])
        total = torch.zeros(())
        for bias, measure in zip(self.bias, self._measures, strict=True):
            true = grid.inverse(truth * measure.transfer)[index].clamp_min(1e-6)
            relative = (grid.inverse(error * measure.transfer)[index] / true).clamp(-1.0, 1.0)
            for row, (lowest, highest, tolerance) in enumerate(FLUX_BINS):
                for group, members in enumerate(measure.groups[row]):
                    mine = (sn > lowest) & (sn <= highest) & np.isin(kinds, members)
                    if mine.any():
                        chosen = relative[torch.as_tensor(mine)]
                        total = total + _push(bias[row], group, chosen, tolerance)
        return _FLUX_WEIGHT * total


def _distance_to_next(sources: list[Source], all_sources: list[Source]) -> np.ndarray:
    """Distance from each source to the nearest other of its sky, in
    pixels.
    """
    places, others = (
        np.array([(1e4 * s.scene, s.y, s.x) for s in group]).reshape(-1, 3)
        for group in (sources, all_sources)
    )
    distance = np.linalg.norm(places[:, None] - others[None], axis=-1)
    distance[distance == 0.0] = np.inf
    return distance.min(axis=1, initial=np.inf)


def _push(bias: np.ndarray, group: int, relative: torch.Tensor, tolerance: float) -> torch.Tensor:
    """Follow the mean of the errors of a group, and push against its sign."""
    mean = relative.mean()
    bias[group] += 0.05 * (float(mean.detach()) - bias[group])
    strength = float(np.clip(bias[group] / tolerance, -2.0, 2.0))
    return strength * mean / tolerance * min(1.0, len(relative) / 3)


def _index(sources: list[Source]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rows = torch.as_tensor([(s.scene, round(s.y), round(s.x)) for s in sources])
    return rows[:, 0], rows[:, 1], rows[:, 2]
