# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Dimension records of an instrument and its visits."""

from __future__ import annotations

__all__ = ("HSC", "InstrumentInfo", "VisitInfo")

import dataclasses

import astropy.time


@dataclasses.dataclass(frozen=True, kw_only=True)
class InstrumentInfo:
    """Dimension record of an instrument."""

    name: str
    """Short name, as in a data id."""

    class_name: str
    """Python class that describes it; it need not be installed."""

    detector_max: int = 200
    """Detector numbers are below it."""

    visit_max: int = 21474800
    """Visit and exposure numbers are below it."""


HSC = InstrumentInfo(name="HSC", class_name="lsst.obs.subaru.HyperSuprimeCam")
"""Hyper Suprime-Cam as obs_subaru registers it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class VisitInfo:
    """Dimension record of a visit."""

    visit: int
    """Number of the visit, as in a data id."""

    name: str
    """Name of the visit, e.g. ``HSCA00012340``."""

    physical_filter: str
    """Name of the physical filter, e.g. ``HSC-I``."""

    begin: astropy.time.Time
    """Start of the exposure."""

    exposure_time: float
    """Exposure time, in seconds."""

    target_name: str = ""
    """What was observed."""

    @property
    def day_obs(self) -> int:
        """Date of the start as a number ``YYYYMMDD``, TAI (`int`)."""
        return int(self.begin.tai.strftime("%Y%m%d"))
