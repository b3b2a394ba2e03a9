# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""What to inject."""

from __future__ import annotations

__all__ = ("InjectionConfig",)

import dataclasses
import math

_MOST_DENSE = 1000.0
"""Sources per square arcminute, one in 2 arcsec: more than that is a mistake,
and places for them need memory without end."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class InjectionConfig:
    """What to inject.

    Raises
    ------
    ValueError
        If a value is out of its range; the text names the option.
    """

    seed: int = 1
    """Seed of the catalogue."""

    density: float = 20.0
    """Sources per square arcminute; fewer where there is no room."""

    star_fraction: float = 0.5
    """Fraction of the sources that are stars."""

    mag: tuple[float, float] = (20.0, 26.0)
    """Brightest and faintest source, AB; drawn evenly, so that every
    signal-to-noise has its sources."""

    avoid: float = 1.5
    """Distance from the outline of bright sources to be kept, in arcsec; 0 to
    inject anywhere, on top of them too."""

    separation: float = 4.0
    """Least distance between two injected sources, in arcsec."""

    min_exposures: int = 1
    """Exposures of each band that must cover a source."""

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"seed must not be negative; got {self.seed}.")
        if not self.density > 0:
            raise ValueError(f"density must be positive; got {self.density:g}.")
        if self.density > _MOST_DENSE:
            raise ValueError(
                f"density must be at most {_MOST_DENSE:g} sources per square arcminute; got {self.density:g}."
            )
        if not 0 <= self.star_fraction <= 1:
            raise ValueError(f"star_fraction must be within 0 to 1; got {self.star_fraction:g}.")
        if not (self.mag[0] <= self.mag[1] and all(math.isfinite(value) for value in self.mag)):
            raise ValueError(f"mag must be the brightest, then the faintest, both finite; got {self.mag}.")
        if not (0 <= self.avoid < math.inf and 0 <= self.separation < math.inf and self.min_exposures >= 1):
            raise ValueError(
                "avoid and separation must be finite and not negative, min_exposures not below 1; "
                f"got {self.avoid:g}, {self.separation:g}, {self.min_exposures}."
            )
