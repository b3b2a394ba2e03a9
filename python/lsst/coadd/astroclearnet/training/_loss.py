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

import numpy as np
import torch

from ..core._encoder import ERROR_FWHM, LATENT_FWHM, EncoderOutput
from ..core._fourier import FWHM_TO_SIGMA, FourierGrid
from ._skies import Source, TrainingBatch

FLUX_BINS = ((5, 8, 0.03), (8, 14, 0.025), (14, 30, 0.015), (30, 100, 0.01), (100, 1e5, 0.005))
"""Lowest and highest S/N of a bin, and the relative bias that matters."""

_N_KINDS = 3
_APERTURE = 5.95
"""Radius in pixels of the aperture of the flux term."""


def _huber(residual: torch.Tensor, delta: float = 4.0) -> torch.Tensor:
    size = residual.abs()
    return torch.where(size < delta, 0.5 * size**2, delta * (size - 0.5 * delta))


class TrainingLoss:
    """Huber loss at several scales plus a penalty on the mean flux error.

    A pixel loss alone shrinks faint sources. The penalty follows the running
    mean of the relative aperture error for each bin of S/N and each kind of
    source, and pushes against its sign.

    Parameters
    ----------
    grid
        The grid of the skies.
    flux_weight
        Weight of the flux term. Larger values make it oscillate.
    sharp_weight
        Weight of the errors at the latent's own PSF, which tell close pairs
        apart.
    """

    _TRUTH_ERROR = 0.015
    _EDGE = 14

    def __init__(self, grid: FourierGrid, *, flux_weight: float = 0.01, sharp_weight: float = 0.35):
        self._grid = grid
        self._flux_weight = flux_weight
        self._sharp_weight = sharp_weight
        self._disc = grid.disc(_APERTURE)
        self.bias = np.zeros((len(FLUX_BINS), _N_KINDS))

    def __call__(
        self, latent: torch.Tensor, batch: TrainingBatch, unit: torch.Tensor, *, with_flux: bool
    ) -> torch.Tensor:
        """Return the loss of latents ``(b, rows, columns)``, for a noise unit
        of the same shape.
        """
        grid = self._grid
        error, truth = grid.transform(latent - batch.truth), grid.transform(batch.truth)
        terms = [(self._sharp_weight, 1.5, 1.5 * unit), (0.5, 2.0, 0.9 * unit), (1.0, 2.5, 0.7 * unit)]
        for fwhm in (4.5, 8.0):
            area = 2.0 * np.sqrt(np.pi) * fwhm * FWHM_TO_SIGMA
            noise = batch.den[:, :1, :1].rsqrt() * batch.inflation / area
            terms.append((0.5, fwhm, noise))
        loss = sum(
            weight * self._pixel_term(error, truth, self._widen(fwhm), noise) for weight, fwhm, noise in terms
        )
        if with_flux:
            loss = loss + self._flux_term(error, truth, batch)
        return loss

    def error_term(self, output: EncoderOutput, batch: TrainingBatch, unit: torch.Tensor) -> torch.Tensor:
        """Negative log-likelihood of the errors under the predicted ones."""
        grid, inner = self._grid, self._inner
        latent = output.latent.detach()
        transfer = torch.stack([self._widen(fwhm) for fwhm in ERROR_FWHM])
        spectra = torch.stack([grid.transform(latent - batch.truth), grid.transform(latent)])
        error, delivered = grid.inverse(spectra[:, :, None] * transfer)
        sigma = output.errors(delivered, unit=unit)
        ratio = (error / sigma).square().clamp_max(400.0)
        return (0.5 * ratio + torch.log(sigma / unit[:, None]))[..., inner[1], inner[2]].mean()

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
        if not inner:
            return torch.zeros(())
        index = _index(inner)
        apertures = grid.inverse(truth * self._disc)[index]
        relative = (grid.inverse(error * self._disc)[index] / apertures.clamp_min(1e-6)).clamp(-1.0, 1.0)
        aperture_sn = apertures * batch.den[index[0], 0, 0].sqrt() / (np.sqrt(np.pi) * _APERTURE)
        # A source in the wings of a brighter one is judged by its own light.
        sn = np.minimum([s.signal_to_noise for s in inner], 2.2 * aperture_sn.numpy())
        sn = sn / batch.inflation[index].numpy()
        kinds = np.array([s.kind for s in inner])
        total = torch.zeros(())
        for row, (lowest, highest, tolerance) in enumerate(FLUX_BINS):
            for kind in range(_N_KINDS):
                mine = (sn > lowest) & (sn <= highest) & (kinds == kind)
                if mine.any():
                    total = total + self._push(row, kind, relative[torch.as_tensor(mine)], tolerance)
        return self._flux_weight * total

    def _push(self, row: int, kind: int, relative: torch.Tensor, tolerance: float) -> torch.Tensor:
        mean = relative.mean()
        self.bias[row, kind] += 0.05 * (float(mean.detach()) - self.bias[row, kind])
        strength = float(np.clip(self.bias[row, kind] / tolerance, -2.0, 2.0))
        return strength * mean / tolerance * min(1.0, len(relative) / 3)


def _index(sources: list[Source]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rows = torch.as_tensor([(s.scene, round(s.y), round(s.x)) for s in sources])
    return rows[:, 0], rows[:, 1], rows[:, 2]
