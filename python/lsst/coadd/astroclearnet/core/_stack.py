# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Co-registered exposures of one cell, and what a fit makes of them."""

from __future__ import annotations

__all__ = ("CellFit", "CellStack", "HistoryRow", "PsfGradient")

import dataclasses
from collections.abc import Sequence

import numpy as np

from ._diagnosis import Diagnosis
from ._errors import InvalidStackError

type HistoryRow = dict[str, float | int | str]
"""A row of the fit history: ``stage``, ``step``, ``loss``, ``held_out_loss``,
``chi2``."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class PsfGradient:
    """How the PSFs of some exposures change over a cell."""

    per_pixel: np.ndarray
    """Change per pixel along x and y, float32 ``(n, 2, p, p)``, sum 0."""

    x: np.ndarray
    """Column of the arrays of the cell at which each PSF is right, float
    ``(n,)``; may lie outside."""

    y: np.ndarray
    """Row of that place, float ``(n,)``."""

    def take(self, chosen: Sequence[int]) -> PsfGradient:
        """Return those of some exposures, in the order of their indices."""
        return PsfGradient(per_pixel=self.per_pixel[chosen], x=self.x[chosen], y=self.y[chosen])


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class CellStack:
    """Exposures of one piece of sky on one pixel grid and flux scale.

    The arrays include the halo: callers crop what a fit returns.

    Raises
    ------
    InvalidStackError
        If shapes disagree, a PSF is not a normalised kernel, or an exposure
        has no good pixel.
    """

    image: np.ndarray
    """Flux per pixel, float32 ``(n, h, w)``; 0 where not good."""

    variance: np.ndarray
    """Noise variance per pixel, float32 ``(n, h, w)``. It is the low-frequency
    noise power: resampling must not have lowered it."""

    good: np.ndarray
    """Pixels to be used, bool ``(n, h, w)``."""

    psf: np.ndarray
    """PSF kernels at the middle of the cell, or where `psf_gradient` says,
    float32 ``(n, p, p)``, p odd, each centred with sum 1 (to 1 %; what is
    missing is made good)."""

    labels: tuple[str, ...]
    """Name of each exposure, for tables and messages; unique."""

    psf_gradient: PsfGradient | None = None
    """How the PSFs change over the cell; `None` if they do not, or if that is
    not known."""

    def __post_init__(self) -> None:
        shape = self.image.shape
        if len(shape) != 3 or self.variance.shape != shape or self.good.shape != shape:
            raise InvalidStackError(
                "image, variance and good must have one shape (n, h, w); got "
                f"{self.image.shape}, {self.variance.shape}, {self.good.shape}."
            )
        n = shape[0]
        if self.psf.ndim != 3 or self.psf.shape[0] != n or self.psf.shape[1] != self.psf.shape[2]:
            raise InvalidStackError(f"psf must have shape ({n}, p, p); got {self.psf.shape}.")
        if not self.psf.shape[1] % 2:
            raise InvalidStackError(f"psf stamps must have an odd size; got {self.psf.shape[1]}.")
        gradient = self.psf_gradient
        if gradient is not None and gradient.per_pixel.shape != (n, 2, *self.psf.shape[1:]):
            raise InvalidStackError(
                f"psf_gradient must have shape {(n, 2, *self.psf.shape[1:])}; got {gradient.per_pixel.shape}."
            )
        if len(self.labels) != n or len(set(self.labels)) != n:
            raise InvalidStackError(f"{n} unique labels are needed; got {self.labels}.")
        sums = self.psf.sum(axis=(1, 2), dtype=float)
        for label, total in zip(self.labels, sums, strict=True):
            if not abs(total - 1.0) < 0.01:
                raise InvalidStackError(f"The PSF of {label} sums to {total:.4f}, not to 1.")
        # What a stamp lacks of its light would be taken for flux.
        object.__setattr__(self, "psf", (self.psf / sums[:, None, None]).astype(np.float32))
        for label, seen in zip(self.labels, self.good.any(axis=(1, 2)), strict=True):
            if not seen:
                raise InvalidStackError(f"{label} has no good pixel; leave it out.")
        if np.any(self.good & ~((self.variance > 0) & (self.variance < np.inf))):
            raise InvalidStackError("variance must be finite and positive where good.")
        if not np.all(np.isfinite(self.image)):
            raise InvalidStackError("image must be finite everywhere; set it to 0 where it is not good.")

    def take(self, chosen: Sequence[int]) -> CellStack:
        """Return the stack of some of the exposures, in the order of their
        indices.
        """
        return CellStack(
            image=self.image[chosen],
            variance=self.variance[chosen],
            good=self.good[chosen],
            psf=self.psf[chosen],
            labels=tuple(self.labels[k] for k in chosen),
            psf_gradient=None if self.psf_gradient is None else self.psf_gradient.take(chosen),
        )


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class CellFit:
    """Result of a fit to a `CellStack`, on the same pixels, halo included."""

    latent: np.ndarray
    """Non-negative latent image at the target PSF, float32 ``(h, w)``."""

    coadd: np.ndarray
    """Latent plus the matched residual (of a linear method: its coadd),
    float32 ``(h, w)``."""

    latent_variance: np.ndarray
    """Variance of `latent`, float32 ``(h, w)``."""

    coadd_variance: np.ndarray
    """Variance of `coadd`, float32 ``(h, w)``."""

    psf_flux_variance: np.ndarray
    """Variance of a flux measured with `coadd_psf` about each pixel, float32
    ``(h, w)``: errors of neighbouring pixels hang together, so that those of
    the pixels do not tell it."""

    noise: np.ndarray
    """One realization of the noise of `coadd`, float32 ``(h, w)``."""

    fill: np.ndarray
    """What small holes in both can be filled with, float32 ``(h, w)``: the
    latent, as what shines around them tells it. They are 0 themselves where
    no exposure was used."""

    latent_psf: np.ndarray
    """PSF of `latent`, float32 ``(p, p)``, sum 1."""

    coadd_psf: np.ndarray
    """PSF of `coadd`, float32 ``(p, p)``, sum 1."""

    rejected: np.ndarray
    """Good pixels that the fit clipped as artifacts, bool ``(n, h, w)``."""

    weight: np.ndarray
    """Weight of each exposure, ``1 / sky variance``, float ``(n,)``."""

    diagnosis: Diagnosis
    """Chi2, flux scale, sky and shift of each exposure against the decoded
    latent (of a linear method: the Wiener model)."""

    misfit: np.ndarray
    """What the exposures together say is missing from the model, in units of
    its error, float32 ``(h, w)``."""

    local_chi2: np.ndarray
    """Reduced chi2 about the model in a small window, float32 ``(h, w)``."""

    seeing: tuple[float, float]
    """FWHM in pixels of the PSF of all exposures together: of the mean of
    their transfer functions in quadrature, by weight; and that of the
    atmosphere which, if it were the PSF of each, would show as much of what a
    target of 2.5 pixels has. The second is the larger where few sharp
    exposures stand among broad ones."""

    noise_scale: np.ndarray
    """What the variances of each exposure were multiplied by, float ``(n,)``;
    1 if it was not measured."""

    history: tuple[HistoryRow, ...] = ()
    """Rows of the fit history."""
