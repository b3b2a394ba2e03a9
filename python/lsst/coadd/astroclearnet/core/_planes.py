# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Canonical mask planes: the one vocabulary behind the adapters."""

from __future__ import annotations

__all__ = ("Plane",)

import enum


class Plane(enum.IntFlag):
    """Mask planes of an input exposure, named as `lsst.images` names them.

    Adapters translate the planes of their own library to these bits; nothing
    behind an adapter knows any other spelling.
    """

    NO_DATA = enum.auto()
    """No data, or outside the frame."""

    BAD = enum.auto()
    """Defective pixel or column."""

    SATURATED = enum.auto()
    """Saturated, or a bleed trail."""

    SUSPECT = enum.auto()
    """Above the level where the correction for linearity is known."""

    COSMIC_RAY = enum.auto()
    """Hit by a cosmic ray."""

    INTERPOLATED = enum.auto()
    """Value made from neighbours."""

    DETECTION_EDGE = enum.auto()
    """Too near the edge of the frame for detection."""

    CROSSTALK = enum.auto()
    """Affected by another amplifier."""

    STREAK = enum.auto()
    """Satellite or aeroplane trail."""

    UNMASKED_NAN = enum.auto()
    """NaN before repair, and in no other plane."""

    VIGNETTED = enum.auto()
    """Shadowed by the optics."""

    UNREPAIRED = enum.auto()
    """Hit by a cosmic ray, and the value was not replaced."""

    CLIPPED = enum.auto()
    """Found to be an artifact by comparison with other exposures."""

    PARTLY_VIGNETTED = enum.auto()
    """Partly shadowed by the optics."""

    SPIKE = enum.auto()
    """Near the diffraction spike of a bright star."""

    ITL_DIP = enum.auto()
    """Dark vertical trail of a bright source, on a CCD made by ITL."""

    INJECTED = enum.auto()
    """Affected by a synthetic source that was injected."""

    INJECTED_CORE = enum.auto()
    """In the core of a synthetic source that was injected."""

    FAKE = enum.auto()
    """As INJECTED, by the task insertFakes that was before it."""
