# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""The fixed decoder: what a latent image looks like in each exposure."""

from __future__ import annotations

__all__ = ("Decoder",)

import torch

from ._fourier import FourierGrid


class Decoder:
    """Convolution with each exposure's PSF, by FFT.

    The latent has a Gaussian PSF g of its own, so that the decoder of
    exposure t is ``k(t) = f(t) / g`` for the PSF f(t) of the exposure
    (Magain, Courbin & Sohy 1998; section 3 of Sukurdeep, Navarro & Budavari
    2025 has g = delta).

    Parameters
    ----------
    psf_transfer
        Transfer functions of the PSFs, ``(n, rows, columns // 2 + 1)``.
    grid
        The grid of the transforms.
    latent_fwhm
        FWHM of g in pixels; 0 for a point.
    """

    # Keeps 1/g bounded where both g and the PSFs have no power left.
    _FLOOR = 1e-6

    def __init__(self, psf_transfer: torch.Tensor, grid: FourierGrid, *, latent_fwhm: float):
        gaussian = grid.gaussian(latent_fwhm)
        self.grid = grid
        self.transfer = psf_transfer * (gaussian / (gaussian**2 + self._FLOOR))

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        """Predict the exposures, ``(n, h, w)``, from a latent ``(h, w)`` or
        one on the padded grid.
        """
        return self.grid.crop(self.grid.inverse(self.transfer * self.grid.transform(latent)))

    def adjoint(self, exposures: torch.Tensor) -> torch.Tensor:
        """Transpose of `forward`: sum of the exposures ``(n, h, w)``, each
        correlated with its kernel, on the padded grid.
        """
        return self.grid.inverse((self.transfer.conj() * self.grid.transform(exposures)).sum(0))
