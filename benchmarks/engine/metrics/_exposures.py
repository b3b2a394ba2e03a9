# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Goodness of fit of a latent in the exposures."""

from __future__ import annotations

__all__ = ("ExposureChi2", "exposure_chi2")

import dataclasses

import numpy as np
import torch

from lsst.coadd.astroclearnet.core import CellStack
from lsst.coadd.astroclearnet.core.fourier._decoder import Decoder
from lsst.coadd.astroclearnet.core.fourier._grid import FourierGrid

_FLOOR = 5.0
"""Prediction above which a pixel has a source, in units of its error."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ExposureChi2:
    """Reduced chi2 of exposures against a decoded latent."""

    chi2: np.ndarray
    """Mean of ``(y - f * x)^2 / variance`` over the good pixels of each
    exposure, ``(n,)``."""

    chi2_sources: np.ndarray
    """The same over pixels with a source, ``(n,)``; NaN without one."""

    n_pixels: np.ndarray
    """Good pixels of each, ``(n,)``."""

    @property
    def mean(self) -> float:
        """Mean of `chi2` over all pixels of all exposures."""
        return float(np.average(self.chi2, weights=self.n_pixels))


def exposure_chi2(
    latent: np.ndarray,
    stack: CellStack,
    *,
    latent_fwhm: float,
    halo: int,
    rejected: np.ndarray | None = None,
) -> ExposureChi2:
    """Compare exposures with what the decoder makes of a latent.

    The latent has no free parameters here, so no degrees of freedom are
    subtracted: for exposures that it was fitted to chi2 is a little below 1,
    for held-out exposures, given as ``stack``, a latent equal to the true
    sky has 1 and its errors add to this.

    Parameters
    ----------
    latent
        Latent at the target PSF, without halo, ``(y, x)``.
    stack
        Exposures with halo; not necessarily those fitted.
    latent_fwhm
        FWHM of the Gaussian PSF of the latent, in pixels.
    halo
        Border of the exposures that the latent lacks, in pixels.
    rejected
        Pixels clipped as artifacts, with halo, bool ``(n, y, x)``.

    Returns
    -------
    `ExposureChi2`
        A border as wide as the PSF stamp's radius is left out, for there the
        light of sources beyond the latent's edges is missing.
    """
    height, width = latent.shape
    margin = stack.psf.shape[1] // 2
    grid = FourierGrid.for_images(height=height, width=width, pad=margin + 6)
    inner = np.s_[margin : height - margin, margin : width - margin]
    sky = torch.as_tensor(np.ascontiguousarray(latent, dtype=np.float32))
    figures = []
    for t in range(len(stack.labels)):
        transfer = grid.transfer(torch.as_tensor(stack.psf[t : t + 1]))
        model = Decoder(transfer, grid, latent_fwhm=latent_fwhm).forward(sky)[0].numpy()[inner]
        image, variance, good = (
            plane[t, halo : halo + height, halo : halo + width][inner]
            for plane in (stack.image, stack.variance, stack.good)
        )
        if rejected is not None:
            good = good & ~rejected[t, halo : halo + height, halo : halo + width][inner]
        terms = (image - model)[good].astype(float) ** 2 / variance[good]
        bright = terms[model[good] > _FLOOR * np.sqrt(variance[good])]
        figures.append((_mean(terms), _mean(bright), terms.size))
    chi2, chi2_sources, n_pixels = np.array(figures).T
    return ExposureChi2(chi2=chi2, chi2_sources=chi2_sources, n_pixels=n_pixels.astype(int))


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else np.nan
