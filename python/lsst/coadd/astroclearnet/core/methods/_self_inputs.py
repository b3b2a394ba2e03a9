# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an encoder that learns from the stack itself is given."""

from __future__ import annotations

__all__ = ("SelfInputs", "update_by_statistic")

import dataclasses
from typing import Self

import torch

from ..encoder._inputs import LATENT_FWHM, MATCHED_FWHM, STRENGTHS
from ..fourier._decoder import sharpening
from ..fourier._filters import filtered_sigma, wiener_filters
from ..statistic._statistic import Statistic

_STRENGTHS = STRENGTHS[:4]
_UPDATES = 150
_EXPONENT = 1.9
_KAPPA = 2.0


def update_by_statistic(statistic: Statistic) -> torch.Tensor:
    """Fit a non-negative latent to a statistic by multiplicative updates.

    Without Huber weights, and with holes filled, numerator and denominator
    of the update of `fit_mm` are D and den times the latent: two FFTs an
    iteration, however many exposures there are.

    Returns
    -------
    `torch.Tensor`
        The latent at `LATENT_FWHM` on the padded grid.
    """
    grid = statistic.grid
    sharpen = sharpening(grid, LATENT_FWHM)
    top = grid.inverse(statistic.data * sharpen)
    response = statistic.den * sharpen**2
    floor = 0.01 / float(statistic.den0) ** 0.5
    latent = statistic.wiener(statistic.data, strength=0.1, fwhm=2.5).clamp_min(floor)
    for _ in range(_UPDATES):
        bottom = grid.inverse(response * grid.transform(latent))
        ratio = top / bottom.clamp_min(1e-30)
        latent = latent * ratio.clamp(1.0 / _KAPPA, _KAPPA) ** _EXPONENT
    return latent


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class SelfInputs:
    """What the encoder is given of one statistic."""

    features: torch.Tensor
    """Dimensionless channels, ``(1, channels, rows, columns)``."""
    images: torch.Tensor
    """Images at the latent's PSF to be mixed, ``(k, rows, columns)``: the
    multiplicative updates first, then Wiener images, smooth to sharp."""
    amplitude: torch.Tensor
    """Smooth local brightness, ``(rows, columns)``, >= 0."""
    unit: torch.Tensor
    """Noise of a moderate Wiener image, ``(rows, columns)``."""

    @classmethod
    def from_statistic(cls, statistic: Statistic) -> Self:
        """Make the inputs of a stack, or a part of one."""
        grid, data, den = statistic.grid, statistic.data, statistic.den
        inflation = statistic.inflation
        updated = update_by_statistic(statistic)
        filters = wiener_filters(den, grid, strengths=_STRENGTHS, fwhm=LATENT_FWHM)
        wiener = grid.inverse(data * filters)
        sigma = filtered_sigma(filters, den, grid) * inflation
        matched = torch.stack([grid.gaussian(fwhm) for fwhm in MATCHED_FWHM])
        detection = grid.inverse(data * matched) / (filtered_sigma(matched, den, grid) * inflation)
        images = torch.cat([updated[None], wiener])
        unit = sigma[1]
        amplitude = grid.inverse(grid.transform(updated) * grid.gaussian(5.0)).clamp_min(0.0)
        local = images[:3] / torch.sqrt((0.5 * unit) ** 2 + amplitude**2)
        channels = [torch.asinh(updated / unit)[None], torch.asinh(wiener / sigma)]
        channels += [torch.asinh(detection), local.clamp(-6.0, 6.0)]
        features = torch.cat(channels)[None].contiguous(memory_format=torch.channels_last)
        return cls(features=features, images=images, amplitude=amplitude, unit=unit)

    def cut(self, window: tuple[slice, slice]) -> Self:
        """Cut a window of rows and columns."""
        return dataclasses.replace(
            self,
            **{field.name: getattr(self, field.name)[..., *window] for field in dataclasses.fields(self)},
        )
