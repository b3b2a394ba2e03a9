# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Noise of the exposures of a cell, and of their D."""

from __future__ import annotations

__all__ = ("DataNoise", "draw_noise")

import numpy as np
import torch

from ..fourier._filters import filtered_variance
from ..statistic._statistic import Statistic

_LEAST_POWER = 1e-3
"""Least noise power of a place, in units of the sky's: none is without."""

_MOST_CHANGE = 1.0
"""Most change of the logarithm of the noise that PSFs make over a cell."""


def draw_noise(statistic: Statistic, generator: np.random.Generator) -> torch.Tensor:
    """Noise of every exposure, ``(n, h, w)``, in its good pixels' variance."""
    white = generator.standard_normal(statistic.image.shape, dtype=np.float32)
    return torch.as_tensor(white, device=statistic.image.device) * statistic.variance.sqrt()


class DataNoise:
    """Noise of the D of a stack, and of what a filter makes of it.

    The noise of all exposures passes one mean PSF, the root of den: exact on
    blank sky, where the noise of D has the power den, and good to a few per
    cent on sources, whose photon noise is a part of the whole. Where PSFs
    change over the cell, it changes as what passes the filter does.

    Parameters
    ----------
    statistic
        The stack.
    response
        The filter, ``(rows, columns // 2 + 1)``.
    """

    def __init__(self, statistic: Statistic, response: torch.Tensor):
        self._grid = statistic.grid
        self._transfer = statistic.den.sqrt()
        self._response = response
        sky = statistic.sky_variance[:, None, None]
        excess = statistic.variance / sky - 1.0
        # Power that each place adds, (rows, columns), at frequency 0 and in
        # units of its weight: 1 on blank sky under full coverage, more where
        # sources shine or pixels are missing.
        self._power = statistic.noise_power.clone()
        # Where few see, the noise of the sources rises as that of the sky.
        weight = (statistic.used / sky).sum(0).clamp_min(1e-12 * statistic.den0)
        self._grid.crop(self._power)[:] *= 1.0 + (excess * statistic.used / sky).sum(0) / weight
        self._power.clamp_min_(_LEAST_POWER)
        self._change = torch.zeros(())
        if statistic.den_change is not None:
            grid, passed = self._grid, response**2
            noise = grid.mean_power(passed * statistic.den)
            by_x, by_y, at_zero = grid.mean_power(passed * statistic.den_change) / noise
            change = by_x * grid.columns + by_y * grid.rows + at_zero
            self._change = change.clamp(-_MOST_CHANGE, _MOST_CHANGE)

    def draw(self, generator: np.random.Generator) -> torch.Tensor:
        """Draw one realization, ``(rows, columns // 2 + 1)``."""
        white = generator.standard_normal(self._grid.shape, dtype=np.float32)
        white = torch.as_tensor(white, device=self._power.device)
        white = white * self._power.sqrt() * torch.exp(-self._change)
        return self._grid.transform(white) * self._transfer

    def find_variance(self, *, seen: float) -> torch.Tensor:
        """Variance of what is filtered, as an image ``(rows, columns)``,
        without the share of its change over the cell that is seen otherwise.
        """
        transfer = self._response * self._transfer
        # What the FFT rounds off may not make a variance negative.
        least = 1e-4 * self._grid.mean_power(transfer**2)
        power = self._power * torch.exp(-2.0 * (1.0 - seen) * self._change)
        return filtered_variance(power, transfer, self._grid).clamp_min(least)
