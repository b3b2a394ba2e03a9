# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""The interface that the adapter of each image library has."""

from __future__ import annotations

__all__ = (
    "NO_EXTRAS",
    "ArtifactMask",
    "FaultyDetector",
    "ImageAdapter",
    "InputExtras",
    "InputSummary",
    "StatisticTypeError",
    "VisitStatistics",
    "centre_kernel",
    "is_measured",
    "label_of",
    "model_fwhm",
    "read_image",
    "statistics_fwhm",
    "to_number",
)

import dataclasses
import math
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
from astropy.stats import gaussian_sigma_to_fwhm

from lsst.images import Box

from ..core._errors import InvalidExposureError
from ..core._exposure import InputExposure, PixelSkyMap, PsfModel
from ..core._planes import Plane
from ..core.warp._frame import measure_pixel
from ..core.warp._register import WarpedExposure
from ..core.warp._warped_psf import kernel_fwhm, normalise_kernel
from ._masks import PlaneTranslator


class StatisticTypeError(TypeError):
    """A statistic that a cut was asked for is not a number: the fault of the
    configuration, not of an input.
    """


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class InputExtras:
    """What belongs to an input beside its image; each an object of the image
    library or a handle for one, `None` where there is none.
    """

    visit_summary_row: Any = None
    """Row of the visit summary for this detector."""

    background_revert: Any = None
    """Background that was subtracted from the image, to be added to it."""

    background_apply: Any = None
    """Background to be subtracted from the image."""

    background_ratio: Any = None
    """Ratio of the image flattened for backgrounds to the image as it is."""


NO_EXTRAS = InputExtras()
"""Nothing beside the image."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class VisitStatistics:
    """Means over the detectors of a visit."""

    psf_fwhm: float
    """FWHM of the PSF, in arcsec; NaN if no detector has one."""

    means: Mapping[str, float] = MappingProxyType({})
    """Means of other statistics, by the names of `InputSummary.statistics`."""

    measured: frozenset[str] = frozenset()
    """Those that some detector has a value of: of the others they could not
    be measured."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class InputSummary:
    """What is known of an input without its pixels."""

    psf_fwhm: float = math.nan
    """FWHM of the PSF, in arcsec; NaN if it is not known."""

    statistics: Mapping[str, float] = MappingProxyType({})
    """Statistics of the detector, by the names that they have in visit
    summaries (``lsst.afw.image.ExposureSummaryStats``); empty if none was
    measured."""

    visit: VisitStatistics | None = None
    """Means over all detectors of the visit; `None` if only those of the
    patch are known."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ArtifactMask:
    """Pixels of a visit that were found to be artifacts."""

    clipped: np.ndarray
    """Bool ``(y, x)``."""

    x0: int
    """Pixel x of column 0, on the grid of the tract."""

    y0: int
    """Pixel y of row 0, on the grid of the tract."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class FaultyDetector:
    """A detector of a warp that cannot be used, where others can."""

    detector: int

    error: InvalidExposureError
    """What is wrong with it; the text names the data id."""


class ImageAdapter(Protocol):
    """Adapter of an image library.

    An image is an object of the library or a handle whose ``get()`` returns
    one; handles are read when they are needed, and nothing of them is kept.
    An adapter names an unknown mask plane in one warning: a task makes one for
    each run, so that the log of every quantum has it.
    """

    planes: PlaneTranslator
    """Translates masks."""

    def adapt(self, image: Any, *, data_id: Mapping[str, Any], extras: InputExtras = ...) -> InputExposure:
        """Convert a detector image to nJy and canonical mask planes.

        Raises
        ------
        UncalibratedExposureError
            If the pixels cannot be converted to nJy.
        SkippedExposureError
            If the final calibration that was asked for does not exist.
        InvalidExposureError
            If it cannot be used for another reason. All texts name the data
            id.
        """
        ...

    def adapt_warp(
        self, warp: Any, *, data_id: Mapping[str, Any], wcs: PixelSkyMap, box: Box, bad: Plane
    ) -> list[WarpedExposure | FaultyDetector]:
        """Cut an image on the grid of the tract into one for each detector.

        Raises
        ------
        UncalibratedExposureError
            If the pixels are not in nJy.
        InvalidExposureError
            If it cannot be used for another reason. All texts name the data
            id.
        """
        ...

    def summarize(
        self,
        image: Any,
        *,
        data_id: Mapping[str, Any],
        extras: InputExtras = ...,
        names: Iterable[str] = ...,
    ) -> InputSummary:
        """Return what selection needs, read without the pixels.

        Statistics are those of ``names`` that the image or its row of the
        visit summary has.
        """
        ...

    def summarize_warp(self, warp: Any, *, data_id: Mapping[str, Any]) -> InputSummary:
        """Return what selection needs of an image on the grid of the tract."""
        ...

    def find_band(self, image: Any) -> str | None:
        """Return the band of an image, if it says one."""
        ...

    def read_artifacts(self, mask: Any) -> ArtifactMask:
        """Return the pixels of plane ``CLIPPED`` of a mask."""
        ...


def read_image(image_or_handle: Any) -> Any:
    """Return an image, or what a handle returns.

    Masks and records have a method ``get``, too, but no data id.
    """
    is_handle = hasattr(image_or_handle, "get") and hasattr(image_or_handle, "dataId")
    return image_or_handle.get() if is_handle else image_or_handle


def centre_kernel(array: np.ndarray, *, x0: int, y0: int) -> np.ndarray:
    """Pad a kernel so that pixel (0, 0), which holds the star, is its
    central pixel.

    Parameters
    ----------
    array
        The kernel, ``(y, x)``.
    x0, y0
        Pixel of element [0, 0]. Boxes of kernels need not be symmetric.
    """
    height, width = array.shape
    radius = max(-x0, -y0, x0 + width - 1, y0 + height - 1)
    centred = np.zeros((2 * radius + 1, 2 * radius + 1), array.dtype)
    centred[radius + y0 : radius + y0 + height, radius + x0 : radius + x0 + width] = array
    return centred


def to_number(value: Any, *, name: str) -> float:
    """Return a summary statistic as a number.

    Raises
    ------
    StatisticTypeError
        If it is none, as text is.
    """
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise StatisticTypeError(
            f"Statistic {name!r} is not a number ({value!r}); take it out of select.min_visit_values."
        ) from error


def is_measured(name: str, value: float) -> bool:
    """Return whether a summary statistic was measured: what a file was written
    too early for is read as its default, NaN, or 0 for the number of stars
    (lsst/afw 714e0ed6d _exposureSummaryStats.py:102, 253).
    """
    return not math.isnan(value) and (name != "nPsfStar" or value > 0)


def label_of(data_id: Mapping[str, Any]) -> str:
    """Return the name of an exposure in messages."""
    return f"visit={data_id['visit']} detector={data_id['detector']}"


def statistics_fwhm(statistics: Mapping[str, float]) -> float:
    """Return the FWHM in arcsec that summary statistics say.

    As lsst/pipe_tasks 5b638a48 selectImages.py:521-523 computes it.
    """
    sigma, scale = statistics.get("psfSigma", math.nan), statistics.get("pixelScale", math.nan)
    return sigma * scale * gaussian_sigma_to_fwhm


def model_fwhm(psf: PsfModel, wcs: PixelSkyMap, *, x: float, y: float, label: str) -> float:
    """Return the FWHM of a PSF model in arcsec at a pixel; NaN if it has no
    proper value there.
    """
    try:
        fwhm = kernel_fwhm(normalise_kernel(psf(x=x, y=y), label=label))
    except InvalidExposureError:
        return math.nan
    return float(fwhm * measure_pixel(wcs, x=x, y=y))
