# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Colours, markers and units of the pictures of a comparison."""

from __future__ import annotations

__all__ = ("COLOURS", "MARKERS", "Units", "choose_places", "find_units")

import dataclasses
from collections.abc import Sequence

from ..._coadds import CoaddView
from .._metrics import Comparison

COLOURS = ("#000000", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")
"""Colours that can be told apart by colour-blind readers (Okabe & Ito)."""

MARKERS = ("o", "s", "^", "D", "v", "P")
"""Goes with `COLOURS`: no plane is known by its colour alone."""

_OWN_PLACES = {"acn_coadd": 1, "acn_latent": 2}
"""Ends of names of planes that have one colour in all pictures."""


@dataclasses.dataclass(frozen=True)
class Units:
    """What a comparison is measured in."""

    in_pixels: bool
    """Whether nobody knows how large a pixel is."""

    flux: str
    """Unit of the pixels."""

    def name_pixel(self, view: CoaddView) -> str:
        """Return how the axes name a pixel."""
        return "px" if self.in_pixels else f'px of {view.pixel_scale:.3f}"'


def find_units(comparison: Comparison) -> Units:
    """Find the units in the table of the metrics."""
    units = dict(zip(comparison.metrics["name"], comparison.metrics["unit"], strict=True))
    in_counts = units.get("sky_rms") == "count"
    return Units(in_pixels=units.get("star_fwhm") == "pix", flux="counts" if in_counts else "nJy")


def choose_places(names: Sequence[str]) -> list[int]:
    """Choose for each plane its place in `COLOURS` and `MARKERS`: those of
    `_OWN_PLACES` have theirs, the others what is left, black first.
    """
    own = [next((k for end, k in _OWN_PLACES.items() if name.endswith(end)), None) for name in names]
    free = [k for k in range(len(COLOURS)) if k not in own]
    others = 0
    places = []
    for i, k in enumerate(own):
        if k is None or k in own[:i]:
            k = free[others % len(free)]
            others += 1
        places.append(k)
    return places
