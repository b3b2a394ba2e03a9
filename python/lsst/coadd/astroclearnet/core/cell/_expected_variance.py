# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Variances that do not know of the noise of their own pixels."""

from __future__ import annotations

__all__ = ("expect_variance",)

import torch

_DARK = 1.0
"""Light of the model, in sigma of the sky, up to which a pixel tells how the
variance follows the noise."""

_LEAST, _MOST = 0.25, 5.0
"""Least variance, in units of the sky's, and the largest that tells: a huge
one only says that a pixel is not to be used."""


def expect_variance(
    variance: torch.Tensor,
    *,
    residual: torch.Tensor,
    model: torch.Tensor,
    used: torch.Tensor,
    sky_variance: torch.Tensor,
) -> torch.Tensor:
    """Take from variances what they have of the noise of their pixels.

    A pipeline computes them from the counts: a pixel that is bright by chance
    has a large one. Weighted with them, the residuals of many exposures with
    few counts have a mean below 0, by more than its error.

    Parameters
    ----------
    variance, residual, model, used
        Of one exposure or several, ``(..., h, w)``.
    sky_variance
        Their noise power, ``(...,)``.

    Returns
    -------
    `torch.Tensor`
        The variance less its regression on the residual beside the sources,
        ``(..., h, w)``.
    """
    sky = sky_variance[..., None, None]
    dark = used * (model.abs() < _DARK * sky.sqrt()) * (variance < _MOST * sky)
    noise = dark * residual
    mean = (dark * variance).sum((-2, -1), keepdim=True) / dark.sum((-2, -1), keepdim=True).clamp_min(1.0)
    power = (noise * residual).sum((-2, -1), keepdim=True)
    slope = (noise * (variance - mean)).sum((-2, -1), keepdim=True) / power.clamp_min(1e-30)
    return (variance - slope.clamp_min(0.0) * residual).maximum(_LEAST * variance.minimum(sky))
