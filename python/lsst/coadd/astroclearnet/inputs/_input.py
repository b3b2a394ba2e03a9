# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""One exposure that may go into a coadd."""

from __future__ import annotations

__all__ = ("CoaddInput",)

import dataclasses
from collections.abc import Mapping
from typing import Any

from ..adapters import NO_EXTRAS, InputExtras, VisitStatistics


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class CoaddInput:
    """One exposure or warp that may go into a coadd."""

    exposure_or_handle: Any
    """A ``VisitImage``, an ``ExposureF``, an `InputExposure`, or a handle of
    the Butler for one of them."""

    data_id: Mapping[str, Any]
    """``visit`` and, but for a warp, ``detector``; also ``band`` and
    ``physical_filter`` where they are known."""

    extras: InputExtras = NO_EXTRAS
    """Row of the visit summary and backgrounds."""

    visit_statistics: VisitStatistics | None = None
    """Means over all detectors of the visit, where they are known."""

    artifact_mask: Any = None
    """A mask on the grid of the tract, or a handle for one, whose plane
    ``CLIPPED`` marks pixels that are left out."""

    skip: str = ""
    """Why it is left out as a matter of course, where the caller knows."""

    fault: str = ""
    """Why it cannot be used, where the caller knows already."""

    @property
    def label(self) -> str:
        """The data id as a user writes it (`str`)."""
        detector = f" detector={self.data_id['detector']}" if "detector" in self.data_id else ""
        return f"visit={self.data_id['visit']}{detector}"

    @property
    def order(self) -> tuple[str, int, int]:
        """What inputs are sorted by."""
        data_id = self.data_id
        return str(data_id.get("instrument", "")), int(data_id["visit"]), int(data_id.get("detector", -1))
