# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""One detector image in the form that everything behind the adapters uses."""

from __future__ import annotations

__all__ = ("InputExposure", "PixelSkyMap", "PsfModel", "ScalarField")

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

import numpy as np


class PixelSkyMap(Protocol):
    """Mapping between pixels and ICRS coordinates."""

    def pixel_to_sky(self, *, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return right ascension and declination, in degrees, of pixels."""
        ...

    def sky_to_pixel(self, *, ra: np.ndarray, dec: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return pixel x and y of ICRS positions, in degrees."""
        ...


class PsfModel(Protocol):
    """A PSF that varies over the detector."""

    def __call__(self, *, x: float, y: float) -> np.ndarray:
        """Return the kernel at a pixel position.

        The array has an odd number of pixels on each side, has the star
        centred on its central pixel, and includes the pixel response.
        """
        ...


class ScalarField(Protocol):
    """A number that varies over the detector."""

    def __call__(self, *, x: float, y: float) -> float:
        """Return the value at a pixel position."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class InputExposure:
    """A calibrated, sky-subtracted detector image on its native pixels."""

    visit: int
    """Visit number."""

    detector: int
    """Detector number."""

    physical_filter: str
    """Name of the physical filter, e.g. ``HSC-I``."""

    image: np.ndarray
    """Flux in nJy per pixel, float32 ``(y, x)``."""

    variance: np.ndarray
    """Variance in nJy^2 of each pixel, float32 ``(y, x)``; values that are not
    finite and positive mark a pixel that must not be used."""

    flags: np.ndarray
    """Bits of `Plane`, uint32 ``(y, x)``."""

    x0: int = 0
    """Pixel x of column 0 of the arrays."""

    y0: int = 0
    """Pixel y of row 0 of the arrays."""

    psf: PsfModel
    """PSF kernel at a pixel position (in the same pixels as `x0`, `y0`)."""

    wcs: PixelSkyMap
    """World coordinates of the pixels (in the same pixels as `x0`, `y0`)."""

    aperture_corrections: Mapping[str, ScalarField] = MappingProxyType({})
    """Factor by which a flux of each photometry algorithm is multiplied, at a
    pixel position (in the same pixels as `x0`, `y0`)."""

    @property
    def label(self) -> str:
        """The data id as a user writes it (`str`)."""
        return f"visit={self.visit} detector={self.detector}"
