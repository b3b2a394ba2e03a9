# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Steps that artifacts are found with."""

from __future__ import annotations

__all__ = ("FEW", "SOFT", "TO_SIGMA", "Scores", "brightest_nearby", "soft", "take")

from typing import NamedTuple

import torch

FEW = 6
"""Exposures up to which one that is wrong can make the others look so: up to
here light must stand above their median, and beyond it they can tell whether a
source varies."""

SOFT = 0.12
"""Between this much below a limit and as much above it, relative to the
limit, a pixel is clipped in part: a decision of all or nothing would be
taken otherwise when a hair has changed, such as the size of the cell."""

TO_SIGMA = 1.4826
"""What makes the median distance of Gaussian noise from its median sigma."""


def brightest_nearby(images: torch.Tensor, reach: int) -> torch.Tensor:
    """Largest value of images ``(..., h, w)``, which must not be negative,
    within some rows and columns.
    """
    size = 2 * reach + 1
    images = torch.nn.functional.pad(images, (reach, reach, reach, reach))
    for axis in (-1, -2):
        known = 1
        while known < size:
            # Of a window of twice the size two halves are known.
            step = min(known, size - known)
            length = images.shape[axis] - step
            images = torch.maximum(images.narrow(axis, 0, length), images.narrow(axis, step, length))
            known += step
    return images


def soft(values: torch.Tensor, limit: float) -> torch.Tensor:
    """From 0 well below a limit to 1 well above it."""
    return ((values / limit - 1.0) / (2.0 * SOFT) + 0.5).clamp(0.0, 1.0)


def take(planes: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Values ``(n, ...)`` of planes ``(n, h, w)`` at places ``(...)`` of the
    flattened image; ten times as fast as an index.
    """
    return planes.flatten(1).index_select(1, places.flatten()).unflatten(1, places.shape)


class Scores(NamedTuple):
    """How far the exposures of a stack lie from its model, ``(n, h, w)``."""

    score: torch.Tensor
    """Residuals in units of the noise and the model's error, deficits
    halved."""

    light: torch.Tensor
    """Residuals in the same units, times the noise's share in these."""

    smooth: torch.Tensor
    """The last summed over 5 x 5 pixels, over 5."""

    def at(self, where: torch.Tensor) -> Scores:
        """Return the values ``(...)`` at places ``(...)`` of the flattened
        stack.
        """
        return Scores(*(take(plane.view(1, -1), where)[0] for plane in self))
