# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Summarize, select and register the inputs of one patch."""

from __future__ import annotations

__all__ = ("CoaddInput", "prepare_inputs")

import contextlib
import dataclasses
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lsst.images import Box

from ._errors import UnusableInputsError
from ._select import find_exclusion, select_inputs, wanted_statistics
from ._tables import InputRecord
from .adapters import (
    NO_EXTRAS,
    ImageAdapter,
    InputExtras,
    InputSummary,
    PatchGeometry,
    VisitStatistics,
    model_fwhm,
    read_image,
)
from .core import InputExposure, InvalidExposureError, SkippedExposureError, UncalibratedExposureError
from .core._register import WarpedExposure, warp_exposure

if TYPE_CHECKING:
    from ._assemble_config import AssembleAcnCoaddConfig


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


def prepare_inputs(
    inputs: Sequence[CoaddInput],
    *,
    config: AssembleAcnCoaddConfig,
    geometry: PatchGeometry,
    band: str,
    halo: int,
    pixel_scale: float,
    scratch: Path | None,
    log: logging.Logger,
) -> tuple[list[WarpedExposure], list[InputRecord]]:
    """Select exposures, read them one at a time and put them on the grid.

    Parameters
    ----------
    inputs
        Exposures or warps, in any order.
    config
        Configuration of the task.
    geometry
        The patch.
    band
        Band of the patch.
    halo
        Border around the outer box that is filled too, in pixels.
    pixel_scale
        Side of a pixel of the patch, in arcsec.
    scratch
        Folder for the resampled exposures; `None` keeps them in memory.
    log
        Takes progress and warnings.

    Returns
    -------
    warped
        The exposures that are used, by visit and detector.
    records
        What became of each input, in the same order; of a warp that is used
        one for each of its detectors.

    Raises
    ------
    UnusableInputsError
        If pixels cannot be converted to nJy, or an exposure cannot be used
        and `on_bad_input` says so; the text names it.
    """
    ordered = sorted(inputs, key=lambda one: one.order)
    adapter = config.make_adapter()
    names = wanted_statistics(config.select)
    summaries = [_summarize(one, adapter, names, config.inputs == "warps", log) for one in ordered]
    reasons = select_inputs(ordered, summaries, config=config.select, band=band, log=log)
    registrar = _Registrar(
        config=config, adapter=adapter, geometry=geometry, band=band, halo=halo, pixel_scale=pixel_scale
    )
    warped, records = [], []
    started = time.monotonic()
    for count, (one, summary, reason) in enumerate(zip(ordered, summaries, reasons, strict=True), start=1):
        found, new = registrar.register(one, summary, reason, log=log, n_inputs=len(ordered))
        warped += found if scratch is None else [result.moved_to(scratch) for result in found]
        records += new
        for result in found:
            log.info(
                "Registered %s (%d/%d): PSF FWHM %.2f px, %.0f s.",
                *(result.label, count, len(ordered), result.psf_fwhm, time.monotonic() - started),
            )
    return warped, records


def _summarize(
    one: CoaddInput, adapter: ImageAdapter, names: frozenset[str], is_warp: bool, log: logging.Logger
) -> InputSummary:
    """Return what selection needs of an input; nothing if it cannot be read:
    what its pixels say decides then.
    """
    if one.skip or one.fault:
        return InputSummary(visit=one.visit_statistics)
    image = one.exposure_or_handle
    try:
        with _naming(one, "summarized"):
            if isinstance(image, InputExposure):
                summary = _summarize_exposure(image)
            elif is_warp:
                summary = adapter.summarize_warp(image, data_id=one.data_id)
            else:
                summary = adapter.summarize(image, data_id=one.data_id, extras=one.extras, names=names)
    except InvalidExposureError as error:
        log.info("No statistics: %s", error)
        summary = InputSummary()
    return dataclasses.replace(summary, visit=one.visit_statistics)


def _summarize_exposure(exposure: InputExposure) -> InputSummary:
    """Return the FWHM of the PSF at the centre of a frame."""
    height, width = exposure.image.shape
    x, y = exposure.x0 + (width - 1) / 2, exposure.y0 + (height - 1) / 2
    return InputSummary(psf_fwhm=model_fwhm(exposure.psf, exposure.wcs, x=x, y=y, label=exposure.label))


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class _Registrar:
    """Puts inputs on the grid of a patch."""

    config: AssembleAcnCoaddConfig
    adapter: ImageAdapter
    geometry: PatchGeometry
    band: str
    halo: int
    pixel_scale: float

    @property
    def box(self) -> Box:
        """What is filled, in pixels of the tract."""
        outer, halo = self.geometry.outer_bbox, self.halo
        return Box.factory[
            outer.y.start - halo : outer.y.stop + halo, outer.x.start - halo : outer.x.stop + halo
        ]

    def register(
        self, one: CoaddInput, summary: InputSummary, reason: str, *, log: logging.Logger, n_inputs: int
    ) -> tuple[list[WarpedExposure], list[InputRecord]]:
        """Return what is used of an input, and the records of it all."""
        record = InputRecord(
            visit=int(one.data_id["visit"]),
            detector=int(one.data_id.get("detector", -1)),
            physical_filter=str(one.data_id.get("physical_filter", "")),
            psf_fwhm=summary.psf_fwhm / self.pixel_scale,
            reason=reason,
        )
        if reason:
            log.info("Leaving %s out: %s", one.label, reason)
            return [], [record]
        try:
            with _naming(one, "used"):
                results, record.physical_filter = self._place(one)
        except SkippedExposureError as error:
            record.reason = str(error)
            log.info("Leaving %s out: %s", one.label, error)
            return [], [record]
        except InvalidExposureError as error:
            if self.config.on_bad_input == "raise" or isinstance(error, UncalibratedExposureError):
                raise UnusableInputsError(
                    n_bad=1, n_inputs=n_inputs, first_reason=str(error), max_bad_fraction=0.0
                ) from error
            record.reason, record.bad = str(error), True
            log.warning("Dropping %s: %s", one.label, error)
            log.debug("Why %s was dropped:", one.label, exc_info=error)
            return [], [record]
        used, records = [], []
        for result in results or [None]:
            new = dataclasses.replace(record, reason=self._find_fault(result))
            if result is not None:
                new.detector, new.psf_fwhm = result.detector, result.psf_fwhm
                new.physical_filter = result.physical_filter
            records.append(new)
            if new.reason:
                log.info("Leaving %s out: %s", one.label if result is None else result.label, new.reason)
            else:
                new.kept = True
                used.append(result)
        return used, records

    def _place(self, one: CoaddInput) -> tuple[list[WarpedExposure], str]:
        """Read an input and put it on the grid; return its filter, too."""
        if one.fault:
            raise InvalidExposureError(f"{one.label} {one.fault}.")
        self._check_band(one, one.data_id.get("band"))
        bad, box = self.config.bad_plane_bits, self.box
        if self.config.inputs == "warps":
            with _naming(one, "read"):
                results = self.adapter.adapt_warp(
                    one.exposure_or_handle, data_id=one.data_id, wcs=self.geometry.wcs, box=box, bad=bad
                )
            physical_filter = str(one.data_id.get("physical_filter", ""))
        else:
            exposure = self._adapt(one)
            physical_filter = exposure.physical_filter
            result = warp_exposure(
                exposure,
                wcs=self.geometry.wcs,
                bad=bad,
                x0=int(box.x.start),
                y0=int(box.y.start),
                height=int(box.y.size),
                width=int(box.x.size),
            )
            results = [] if result is None else [result]
        if one.artifact_mask is not None:
            with _naming(one, "read"):
                artifacts = self.adapter.read_artifacts(one.artifact_mask)
            place = {"x0": artifacts.x0, "y0": artifacts.y0}
            results = [result.with_artifacts(artifacts.clipped, **place) for result in results]
        return results, physical_filter

    def _adapt(self, one: CoaddInput) -> InputExposure:
        """Read and convert a detector image."""
        with _naming(one, "read"):
            image = read_image(one.exposure_or_handle)
            extras = InputExtras(**{key: read_image(value) for key, value in vars(one.extras).items()})
        if isinstance(image, InputExposure):
            return image
        self._check_band(one, self.adapter.find_band(image))
        return self.adapter.adapt(image, data_id=one.data_id, extras=extras)

    def _check_band(self, one: CoaddInput, band: str | None) -> None:
        if band is not None and band != self.band:
            raise InvalidExposureError(
                f"{one.label} has band {band!r}, the patch is made of band {self.band!r}."
            )

    def _find_fault(self, warped: WarpedExposure | None) -> str:
        """Say why an exposure is not used; empty if it is."""
        box = self.geometry.outer_bbox
        inside = warped and warped.slices_within(
            x0=box.x.start, y0=box.y.start, height=box.y.size, width=box.x.size
        )
        if not inside:
            return "does not overlap the patch"
        # The data id of a warp says nothing of its detectors.
        exclusion = find_exclusion(warped.detector, self.config.select)
        if exclusion:
            return exclusion
        if not warped.good[inside[0]].any():
            return "no good pixel on the patch"
        fwhm, limit = warped.psf_fwhm * self.pixel_scale, self.config.select.max_psf_fwhm
        if limit is not None and not fwhm <= limit:
            return f"PSF FWHM of {fwhm:.2f} arcsec on the patch is above: select.max_psf_fwhm is {limit:.2f}"
        return ""


@contextlib.contextmanager
def _naming(one: CoaddInput, done: str) -> Iterator[None]:
    """Name the input in whatever goes wrong while something is done to it.

    Models and formatters of other packages raise what they like; it is the
    fault of one input, and the others are not lost with it.
    """
    try:
        yield
    except (InvalidExposureError, MemoryError):
        raise
    except Exception as error:
        # The cause holds the telling text.
        cause = error.__cause__ or error
        text = " ".join(f"{type(cause).__name__}: {cause}".split())
        raise InvalidExposureError(
            f"{one.label} cannot be {done} ({text}); make it anew or leave it out."
        ) from error
