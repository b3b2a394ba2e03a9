# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""A Wiener model of the sky behind exposures with holes."""

from __future__ import annotations

__all__ = ("WienerSolver",)

import torch

from .._batches import parts
from ..fourier._decoder import Decoder
from ..fourier._grid import FourierGrid


class WienerSolver:
    """Conjugate gradients for the Wiener model of a stack with holes.

    The normal equations of full coverage are diagonal in Fourier space: they
    are the preconditioner, and without holes one step is exact. The model is
    kept as its transform; the exposures are gone through twice for each step.

    Parameters
    ----------
    image
        Exposures ``(n, h, w)``.
    transfer
        Transfer functions of their PSFs, ``(n, rows, columns // 2 + 1)``.
    sky_variance
        Their noise power, ``(n,)``.
    grid
        The grid of the transforms.
    """

    def __init__(
        self, image: torch.Tensor, transfer: torch.Tensor, sky_variance: torch.Tensor, grid: FourierGrid
    ):
        self._decoder = Decoder(transfer, grid, latent_fwhm=0.0)
        self._grid = grid
        self.power = torch.empty(transfer.shape, device=transfer.device)
        """Square of the transfer functions."""
        for part in parts(transfer):
            torch.add(transfer[part].real ** 2, transfer[part].imag ** 2, out=self.power[part])
        self.spectrum = torch.zeros_like(transfer[0])
        """Transform of the model."""
        self.residual = image.clone()
        """Exposures minus model, ``(n, h, w)``."""
        self.spare = torch.empty_like(image)
        """Room for another stack, free between the calls."""
        self.reweigh(sky_variance)

    def reweigh(self, sky_variance: torch.Tensor) -> None:
        """Give the exposures other weights."""
        weight = 1.0 / sky_variance
        self._weight = weight.tolist()
        self.den = torch.tensordot(weight, self.power, 1)
        """Noise power of the statistic of all exposures without holes."""

    @property
    def den0(self) -> float:
        """Sum of the weights."""
        return float(self.den[0, 0])

    def solve(
        self, used: torch.Tensor, *, strength: float, steps: int, tolerance: float
    ) -> torch.Tensor | None:
        """Fit the model to the pixels in use, from where it is.

        Parameters
        ----------
        used
            1 where a pixel is used, ``(n, h, w)``.
        strength
            Power of the noise relative to the sky's that the prior assumes,
            in units of `den0`.
        steps
            Most steps.
        tolerance
            Error of the model, relative to its noise, at which to stop.

        Returns
        -------
        `torch.Tensor` or `None`
            The statistic of the residuals in use, if it is known.
        """
        prior = strength * self.den0
        response = 1.0 / (self.den + prior)
        # Each mode that the data determine has a noise of 1 in this norm.
        enough = tolerance**2 * float(self._grid.mean_power(self.den * response)) * self._grid.size
        direction, size = None, 0.0
        for _ in range(steps):
            left = self.collect(used)
            gradient = left.sub(self.spectrum, alpha=prior)
            better = gradient * response
            size, last = self._dot(gradient, better), size
            if size <= enough:
                return left
            direction = better if direction is None else better.add_(direction, alpha=size / last)
            self._decoder.predict(direction, out=self.spare)
            length = size / (self._curvature(used) + prior * self._dot(direction, direction))
            self.spectrum.add_(direction, alpha=length)
            self.residual.sub_(self.spare, alpha=length)
        return None

    def collect(self, used: torch.Tensor) -> torch.Tensor:
        """Return the statistic of the residuals in use."""
        return self._decoder.collect(lambda part: self.residual[part] * used[part], weight=self._weight)

    def complete(self, used: torch.Tensor, left: torch.Tensor | None) -> torch.Tensor:
        """Return D of the exposures with every hole, and the padding that no
        exposure has seen, filled with the prediction; `left` as `solve`
        returned it.
        """
        return (self.collect(used) if left is None else left) + self.den * self.spectrum

    def _curvature(self, used: torch.Tensor) -> float:
        """Sum of the weighted squares of the last step's prediction."""
        total = 0.0
        for weight, step, one in zip(self._weight, self.spare, used, strict=True):
            total += weight * float(torch.dot((step * one).flatten(), step.flatten()))
        return total

    def _dot(self, a: torch.Tensor, b: torch.Tensor) -> float:
        """Sum of the products of two images over the pixels of the grid."""
        return float(self._grid.mean_power((a * b.conj()).real))
