# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the encoder sees of a stack: linear images of its statistic."""

from __future__ import annotations

__all__ = ("LATENT_FWHM", "MATCHED_FWHM", "N_FEATURES", "STRENGTHS", "EncoderInputs")

import dataclasses

import torch

from ..fourier._filters import filtered_sigma, wiener_filters
from ..fourier._grid import FourierGrid

LATENT_FWHM = 1.5
"""FWHM in pixels of the Gaussian PSF of the encoder's latent: sharper than
any target, so that one set of weights serves all of them."""

STRENGTHS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
"""Wiener strengths of the encoder's inputs, smooth to sharp."""

_REFERENCE = 1
"""Index of the Wiener image whose noise is the unit of additive terms."""

MATCHED_FWHM = (0.0, 4.0, 9.0)
"""Widths in pixels of what the detection images look for."""

_MOST_INFLATION = 20**0.5
"""Where less than a twentieth of the weight was seen the encoder is told that
it was a twentieth: it was trained with no less."""

N_FEATURES = 3 * len(STRENGTHS) + len(MATCHED_FWHM)
"""Channels that a stage of the encoder makes of a statistic."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class EncoderInputs:
    """A batch of statistics, and the linear images that the encoder mixes.

    All channels are ratios to the noise or to each other, so that the encoder
    commutes with a change of the flux unit.
    """

    grid: FourierGrid
    data: torch.Tensor
    """D, complex ``(b, rows, columns // 2 + 1)``."""
    den: torch.Tensor
    """Its noise power, same shape."""
    inflation: torch.Tensor
    """Noise of D relative to `den`, ``(b, 1, rows, columns)``, as far as the
    training went."""
    filters: torch.Tensor
    """Wiener filters to the latent's PSF, ``(b, strength, rows, ...)``."""
    sigma: torch.Tensor
    """Noise of the Wiener images, ``(b, strength, rows, columns)``."""

    @classmethod
    def from_statistic(
        cls,
        data: torch.Tensor,
        den: torch.Tensor,
        grid: FourierGrid,
        *,
        inflation: torch.Tensor | None = None,
    ) -> EncoderInputs:
        """Make the inputs for statistics D and their transfer functions.

        Parameters
        ----------
        data
            D, complex ``(b, rows, columns // 2 + 1)``.
        den
            Its noise power, same shape.
        grid
            The grid of the transforms.
        inflation
            Noise of D relative to full coverage, ``(b, rows, columns)``;
            1 if `None`.
        """
        if inflation is None:
            inflation = torch.ones((len(den), *grid.shape), device=den.device)
        inflation = inflation[:, None].clamp(max=_MOST_INFLATION)
        filters = wiener_filters(den, grid, strengths=STRENGTHS, fwhm=LATENT_FWHM)
        sigma = filtered_sigma(filters, den[:, None], grid) * inflation
        return cls(grid=grid, data=data, den=den, inflation=inflation, filters=filters, sigma=sigma)

    @property
    def unit(self) -> torch.Tensor:
        """Noise of the reference Wiener image, ``(b, rows, columns)``."""
        return self.sigma[:, _REFERENCE]

    def residual(self, latent: torch.Tensor) -> torch.Tensor:
        """Return what a latent ``(b, rows, columns)`` leaves of D."""
        grid = self.grid
        return self.data - self.den * grid.transform(latent) / grid.gaussian(LATENT_FWHM)

    def images(self, data: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Filter a statistic, D or what is left of it.

        Returns
        -------
        wiener : `torch.Tensor`
            Wiener images at the latent's PSF, ``(b, strength, rows,
            columns)``.
        smooth : `torch.Tensor`
            Two of them smoothed, ``(b, 2, rows, columns)``.
        detection : `torch.Tensor`
            Matched-filter images in units of their noise, ``(b, scale, rows,
            columns)``.
        """
        grid, den = self.grid, self.den[:, None]
        spectra = data[:, None] * self.filters
        matched = torch.stack([grid.gaussian(fwhm) for fwhm in MATCHED_FWHM])
        noise = filtered_sigma(matched, den, grid) * self.inflation
        smooth = grid.inverse(spectra[:, 1:3] * grid.gaussian(5.0))
        return grid.inverse(spectra), smooth, grid.inverse(data[:, None] * matched) / noise

    def constants(self) -> torch.Tensor:
        """Channels that tell the kind of stack and how much of it was seen."""
        sharpness = 0.5 * torch.log10(self.sigma[:, 1:] / self.sigma[:, :1])
        return torch.cat([sharpness, 2.0 * torch.log(self.inflation)], dim=1)
