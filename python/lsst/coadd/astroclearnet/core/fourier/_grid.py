# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fourier transforms of kernels and images on one padded grid."""

from __future__ import annotations

__all__ = ("FWHM_TO_SIGMA", "FourierGrid")

import dataclasses
from functools import cached_property

import numpy as np
import scipy.fft
import torch

from .._batches import parts

FWHM_TO_SIGMA = 1.0 / np.sqrt(8.0 * np.log(2.0))


@dataclasses.dataclass(frozen=True, kw_only=True)
class FourierGrid:
    """A padded pixel grid with periodic boundaries for images ``(h, w)``.

    Images sit in the low corner; all transforms are real FFTs over the last
    two axes and keep the axes before them.
    """

    height: int
    """Rows of the images."""

    width: int
    """Columns of the images."""

    shape: tuple[int, int]
    """Rows and columns of the padded grid: multiples of 4 with no prime factor
    above 5, for the speed of the FFT."""

    device: torch.device = torch.device("cpu")

    @classmethod
    def for_images(
        cls, *, height: int, width: int, pad: int = 26, device: torch.device | str = "cpu"
    ) -> FourierGrid:
        """Choose the padded shape for images of a size.

        Parameters
        ----------
        height, width
            Size of the images.
        pad
            Least number of rows and columns added, so that what wraps around
            does not reach the opposite edge.
        device
            Where the transforms run.
        """
        rows, columns = (4 * scipy.fft.next_fast_len((n + pad + 3) // 4, real=True) for n in (height, width))
        return cls(height=height, width=width, shape=(rows, columns), device=torch.device(device))

    @property
    def size(self) -> int:
        """Number of pixels of the padded grid."""
        return self.shape[0] * self.shape[1]

    @cached_property
    def frequency_squared(self) -> torch.Tensor:
        """Squared spatial frequency in cycles^2 per pixel^2, shape
        ``(rows, columns // 2 + 1)``.
        """
        fy = torch.fft.fftfreq(self.shape[0], device=self.device)
        fx = torch.fft.rfftfreq(self.shape[1], device=self.device)
        return fy[:, None] ** 2 + fx[None, :] ** 2

    @cached_property
    def columns(self) -> torch.Tensor:
        """Columns of the pixels, ``(columns,)``: the second half of the
        padding lies before the first.
        """
        return self._count(self.width, self.shape[1])

    @cached_property
    def rows(self) -> torch.Tensor:
        """Rows of the pixels, ``(rows, 1)``, alike."""
        return self._count(self.height, self.shape[0])[:, None]

    def _count(self, inner: int, whole: int) -> torch.Tensor:
        pixels = torch.arange(whole, dtype=torch.float32, device=self.device)
        return torch.where(pixels < (inner + whole) / 2, pixels, pixels - whole)

    @cached_property
    def mode_weight(self) -> torch.Tensor:
        """Share of each mode in the mean over the full plane, shape
        ``(columns // 2 + 1,)``: a real FFT stores one of two conjugates.
        """
        weight = torch.full((self.shape[1] // 2 + 1,), 2.0, device=self.device)
        weight[0] = 1.0
        weight[-1] = 1.0
        return weight / self.size

    def mean_power(self, power: torch.Tensor) -> torch.Tensor:
        """Mean of a power spectrum ``(..., rows, columns // 2 + 1)`` over all
        modes of the full plane: the pixel variance of its noise.
        """
        return (power * self.mode_weight).sum((-2, -1))

    def gaussian(self, fwhm: float) -> torch.Tensor:
        """Transfer function of a Gaussian of a FWHM in pixels."""
        sigma = fwhm * FWHM_TO_SIGMA
        return torch.exp(-2.0 * np.pi**2 * sigma**2 * self.frequency_squared)

    def kolmogorov(self, fwhm: float) -> torch.Tensor:
        """Transfer function of a long exposure through the atmosphere, of a
        FWHM in pixels (Fried 1966; constants as in galsim.Kolmogorov).
        """
        return torch.exp(-3.44195 * (self.frequency_squared.sqrt() * fwhm / 0.975863) ** (5 / 3))

    def disc(self, radius: float) -> torch.Tensor:
        """Transfer function of a sum over a disc of a radius in pixels."""
        y = torch.fft.fftfreq(self.shape[0], device=self.device) * self.shape[0]
        x = torch.fft.fftfreq(self.shape[1], device=self.device) * self.shape[1]
        distance = torch.sqrt(y[:, None] ** 2 + x[None, :] ** 2)
        return torch.fft.rfft2((radius + 0.5 - distance).clamp(0.0, 1.0)).real

    def transform(self, images: torch.Tensor) -> torch.Tensor:
        """Transform images ``(..., h, w)``, padded with 0, or full grids."""
        return torch.fft.rfft2(images, s=self.shape)

    def inverse(self, spectrum: torch.Tensor) -> torch.Tensor:
        """Inverse FFT to the full padded grid ``(..., rows, columns)``."""
        return torch.fft.irfft2(spectrum, s=self.shape)

    def crop(self, images: torch.Tensor) -> torch.Tensor:
        """Cut ``(..., h, w)`` out of the padded grid."""
        return images[..., : self.height, : self.width]

    def transfer(self, kernels: torch.Tensor) -> torch.Tensor:
        """Transfer functions of kernels ``(..., p, p)`` centred on their
        central pixel; a kernel larger than the grid is cropped to it.
        """
        size = kernels.shape[-1]
        limit = min(self.shape) - 1 if min(self.shape) % 2 == 0 else min(self.shape)
        if size > limit:
            cut = (size - limit + 1) // 2
            kernels = kernels[..., cut : size - cut, cut : size - cut]
            size = kernels.shape[-1]
        rows, columns = (
            torch.exp(2j * np.pi * (size // 2) * frequency)
            for frequency in (
                torch.fft.fftfreq(self.shape[0], device=self.device),
                torch.fft.rfftfreq(self.shape[1], device=self.device),
            )
        )
        # Most rows are empty, so that their transforms can be left out.
        filled = torch.fft.rfft(kernels, n=self.shape[1]) * columns
        result = torch.empty(
            *kernels.shape[:-2], self.shape[0], len(columns), dtype=torch.complex64, device=self.device
        )
        whole, cut = result.view(-1, *result.shape[-2:]), filled.view(-1, *filled.shape[-2:])
        for part in parts(whole):
            whole[part] = torch.fft.fft(cut[part], n=self.shape[0], dim=-2).mul_(rows[:, None])
        return result
