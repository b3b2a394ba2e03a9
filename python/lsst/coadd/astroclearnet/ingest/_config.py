# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""The description of exposures that ``acn ingest`` reads."""

from __future__ import annotations

__all__ = (
    "Calibration",
    "ConstantSky",
    "DataQuality",
    "Exposure",
    "Hdu",
    "ImageFile",
    "IngestConfig",
    "Instrument",
    "MedianSky",
    "NoSky",
    "PiffFile",
    "Psf",
    "PsfexFile",
    "Sky",
    "SkyMapConfig",
    "SplineSky",
    "StampFile",
    "WcsConfig",
    "Weight",
)

from pathlib import Path
from typing import Annotated, Literal

import pydantic

from ..core._planes import Plane
from ..repository._visit_images import VISIT_PLANES

Hdu = Annotated[int | str, pydantic.Field(union_mode="left_to_right")]
"""HDU of a FITS file: its number, 0 for the primary HDU, or its name. Digits
that fill in a text are a number, too."""

Name = Annotated[str, pydantic.Field(min_length=1, max_length=32)]
"""Name of an instrument, a detector, a filter or a band: the registry takes
no longer one."""

Number = Annotated[int, pydantic.Field(ge=0, lt=2**63)]
"""Number of a visit, a detector or a tract, as far as the registry counts."""

RightAscension = Annotated[float, pydantic.Field(ge=-360, le=360)]
Declination = Annotated[float, pydantic.Field(ge=-90, le=90)]


class _Model(pydantic.BaseModel):
    """Refuses keys it does not know, most of them misspelt, and numbers that
    are not finite.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ImageFile(_Model):
    """One image of a FITS file."""

    file: Path
    """Relative to ``data_root``."""

    hdu: Hdu | None = None
    """By default the first HDU with a 2-d image."""


class Weight(ImageFile):
    """Noise of each pixel, on the scale of the image."""

    kind: Literal["inverse_variance", "variance", "sigma"] = "inverse_variance"
    """Pixels where the value is not finite and positive are not used."""


class DataQuality(ImageFile):
    """Mask of each pixel; names are those of `~..core.Plane` that a visit
    image can hold.
    """

    bits: dict[int, str] | None = None
    """Plane of each bit, counted from 0 for the value 1."""

    codes: dict[int, str] | None = None
    """Plane of each value, for files that hold one code a pixel."""

    ignore: tuple[int, ...] = ()
    """Bits (or codes) that mark pixels which can be used."""

    @pydantic.model_validator(mode="after")
    def _check(self) -> DataQuality:
        if (self.bits is None) == (self.codes is None):
            raise ValueError("give either bits or codes")
        known = [plane.name for plane in Plane if plane.name in VISIT_PLANES]
        for name in (self.bits or self.codes or {}).values():
            if name not in known:
                raise ValueError(f"Unknown mask plane {name!r}; a visit image can hold {', '.join(known)}")
        return self


class PsfexFile(ImageFile):
    kind: Literal["psfex"]


class PiffFile(_Model):
    kind: Literal["piff"]
    file: Path
    chip: int | None = None
    """Number of the chip in the file, if it has several."""

    stamp_size: int = pydantic.Field(default=41, ge=5)
    """Side of the kernels to draw, odd, in pixels."""

    @pydantic.field_validator("stamp_size")
    @classmethod
    def _check_odd(cls, value: int) -> int:
        if not value % 2:
            raise ValueError("must be odd")
        return value


class StampFile(ImageFile):
    kind: Literal["stamp"]
    sampling: float = pydantic.Field(default=1.0, gt=0)
    """Side of a pixel of the stamp, in pixels of the exposure."""


class WcsConfig(_Model):
    """World coordinates; by default the header of the image."""

    file: Path | None = None
    """FITS file, or text file with one header or several (``.head`` of
    SCAMP)."""

    hdu: Hdu | None = None
    """HDU of a FITS file, by default the primary. In a text file the number of
    the header, 1 for the first, which is that of the HDU of its chip: the
    primary HDU of a file with several chips has no image. It must be given
    where there are several headers.
    """

    ra_offset: float = 0.0
    """Added to the position on the sky, in arcsec of arc (not of RA)."""

    dec_offset: float = 0.0
    """Added to the declination, in arcsec."""


class Calibration(_Model):
    """Unit of the image; give one of the two."""

    zero_point: float | None = None
    """AB magnitude of a flux of 1 in the image, after division by the
    exposure time where ``per_second`` says so."""

    per_second: bool = False
    """The zero point is that of 1 count per second and the image holds the
    counts of the whole exposure."""

    njy_per_count: float | None = pydantic.Field(default=None, gt=0)
    """Flux of 1 in the image, in nJy."""

    @pydantic.model_validator(mode="after")
    def _check(self) -> Calibration:
        if (self.zero_point is None) == (self.njy_per_count is None):
            raise ValueError("give either zero_point or njy_per_count")
        return self


class NoSky(_Model):
    kind: Literal["none"] = "none"
    """The sky has been subtracted."""


class ConstantSky(_Model):
    kind: Literal["constant"]
    value: float
    """Sky, in the unit of the image."""


class MedianSky(_Model):
    kind: Literal["median"]
    """Median of the pixels without sources (3 sigma clipping)."""


class SplineSky(_Model):
    kind: Literal["spline"]
    file: Path
    """Table of legacypipe's ``LegacySplineSky``."""

    hdu: Hdu = 1


Psf = Annotated[PsfexFile | PiffFile | StampFile, pydantic.Field(discriminator="kind")]
Sky = Annotated[NoSky | ConstantSky | MedianSky | SplineSky, pydantic.Field(discriminator="kind")]


class Exposure(_Model):
    """One detector image."""

    visit: Number
    detector: Number
    detector_name: Name | None = None
    band: Name
    physical_filter: Name
    exposure_time: float = pydantic.Field(gt=0)
    """In seconds."""

    mjd: float = pydantic.Field(ge=40587, le=88069)
    """Start of the exposure, UTC, from 1970, where the times of a registry
    begin, to 2100; a Julian date is beyond it."""

    image: ImageFile
    weight: Weight
    data_quality: DataQuality | None = None
    psf: Psf
    wcs: WcsConfig = WcsConfig()
    calibration: Calibration
    sky: Sky = NoSky()

    @property
    def label(self) -> str:
        """The data id as a user writes it (`str`)."""
        return f"visit={self.visit} detector={self.detector}"


class Instrument(_Model):
    """Record of the instrument in the registry."""

    name: Name
    class_name: str = pydantic.Field(default="", max_length=64)
    """Class of its obs package; it need not be installed."""

    pixel_size: float = pydantic.Field(default=0.015, gt=0)
    """Side of a pixel, in mm."""


_LEAST_SCALE = 0.01
"""Smallest side of a pixel of a tract, in arcsec: below it there would be
millions of patches to write down."""

MOST_SCALE = 60.0
"""Largest side of any pixel, in arcsec: no point source is seen with it."""

_MOST_CELL = 20_000
"""Largest side of a cell, in pixels."""


class SkyMapConfig(_Model):
    """One tract, tangential projection, around the exposures."""

    name: str = pydantic.Field(min_length=1, max_length=64)
    tract: Number = 0
    center: tuple[RightAscension, Declination] | None = None
    """ICRS right ascension and declination, in degrees; by default the middle
    of all exposures."""

    pixel_scale: float | None = pydantic.Field(default=None, gt=0, le=MOST_SCALE)
    """In arcsec; by default the median of the exposures."""

    cell_size: int = pydantic.Field(default=200, ge=16, le=_MOST_CELL)
    """Sides of a patch are multiples of this, in pixels: the ``cell_size`` of
    the task must divide it."""

    max_patch_size: int = pydantic.Field(default=4000, ge=16)
    """Exposures that need more are spread over several patches, in pixels."""

    @pydantic.field_validator("pixel_scale")
    @classmethod
    def _check_scale(cls, value: float | None) -> float | None:
        if value is not None and value < _LEAST_SCALE:
            side = f"{3600 / value:.3g}"
            raise ValueError(
                f"the tract would have {side} x {side} pixels for each square degree; "
                f"give {_LEAST_SCALE:g} arcsec or more"
            )
        return value


class IngestConfig(_Model):
    """The whole description; see ``resources/ingest/decam_field.yaml``."""

    instrument: Instrument
    sky_map: SkyMapConfig
    run: str | None = None
    """RUN collection of the exposures; by default
    ``<instrument>/runs/ingest``."""

    exposures: tuple[Exposure, ...] = pydantic.Field(min_length=1)

    @pydantic.model_validator(mode="after")
    def _check(self) -> IngestConfig:
        seen: set[tuple[int, int]] = set()
        visits: dict[int, Exposure] = {}
        bands: dict[str, str] = {}
        for exposure in self.exposures:
            key = exposure.visit, exposure.detector
            if key in seen:
                raise ValueError(f"{exposure.label} is described twice")
            seen.add(key)
            first = visits.setdefault(exposure.visit, exposure)
            for name in ("physical_filter", "band", "exposure_time", "mjd"):
                if getattr(first, name) != getattr(exposure, name):
                    raise ValueError(f"the detectors of visit {exposure.visit} differ in {name}")
            if bands.setdefault(exposure.physical_filter, exposure.band) != exposure.band:
                raise ValueError(f"physical filter {exposure.physical_filter!r} has several bands")
        return self
