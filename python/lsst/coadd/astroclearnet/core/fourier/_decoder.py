# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""The fixed decoder: what a latent image looks like in each exposure."""

from __future__ import annotations

__all__ = ("Decoder", "sharpening")

from collections.abc import Callable, Sequence

import torch

from .._batches import parts
from ._grid import FourierGrid


def sharpening(grid: FourierGrid, fwhm: float) -> torch.Tensor:
    """Inverse 1/g of a Gaussian g of a FWHM in pixels, bounded where neither
    it nor the PSFs of exposures have any power left.
    """
    gaussian = grid.gaussian(fwhm)
    return gaussian / (gaussian**2 + 1e-6)


class Decoder:
    """Convolution with each exposure's PSF, by FFT.

    The latent has a Gaussian PSF g of its own, so that the decoder of
    exposure t is ``k(t) = f(t) / g`` for the PSF f(t) of the exposure
    (Magain, Courbin & Sohy 1998; section 3 of Sukurdeep, Navarro & Budavari
    2025 has g = delta).

    Exposures are worked one after the other where that keeps them in the
    cache of the processor: two times faster than all at once.

    Parameters
    ----------
    psf_transfer
        Transfer functions of the PSFs, ``(n, rows, columns // 2 + 1)``.
    grid
        The grid of the transforms.
    latent_fwhm
        FWHM of g in pixels; 0 for a point.
    """

    def __init__(self, psf_transfer: torch.Tensor, grid: FourierGrid, *, latent_fwhm: float):
        self.grid = grid
        self._transfer = psf_transfer
        self._sharpen = sharpening(grid, latent_fwhm) if latent_fwhm else None

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        """Predict the exposures, ``(n, h, w)``, from a latent ``(h, w)`` or
        one on the padded grid.
        """
        spectrum = self._sharpened(self.grid.transform(latent))
        if spectrum.requires_grad:
            return self.grid.crop(self.grid.inverse(self._transfer * spectrum))
        return self.predict(spectrum)

    def adjoint(self, exposures: torch.Tensor) -> torch.Tensor:
        """Transpose of `forward`: sum of the exposures ``(n, h, w)``, each
        correlated with its kernel, on the padded grid.
        """
        return self.grid.inverse(self._sharpened(self.collect(exposures.__getitem__)))

    def predict(self, spectrum: torch.Tensor, *, out: torch.Tensor | None = None) -> torch.Tensor:
        """Predict the exposures, ``(n, h, w)``, from the transform of a sky
        of points.
        """
        if out is None:
            shape = (len(self._transfer), self.grid.height, self.grid.width)
            out = torch.empty(shape, device=spectrum.device)
        for part in parts(out):
            spectra = self._transfer[part] * spectrum
            out[part] = self.grid.crop(self.grid.inverse(spectra))
        return out

    def collect(
        self, exposures: Callable[[slice], torch.Tensor], *, weight: Sequence[float] | None = None
    ) -> torch.Tensor:
        """Transpose of `predict`, with weights of the exposures; those of a
        slice are asked for when their turn comes.
        """
        # The sum of the conjugate is one pass less for each exposure.
        total = torch.zeros_like(self._transfer[0])
        weight = [1.0] * len(self._transfer) if weight is None else weight
        for part in parts(self._transfer):
            spectra = self.grid.transform(exposures(part)).conj_physical_().mul_(self._transfer[part])
            for one, factor in zip(spectra, weight[part], strict=True):
                total.add_(one, alpha=factor)
        return total.conj_physical_()

    def _sharpened(self, spectrum: torch.Tensor) -> torch.Tensor:
        return spectrum if self._sharpen is None else spectrum * self._sharpen
