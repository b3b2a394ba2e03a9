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

import dataclasses
import logging
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lsst.images import Box

from ._errors import UnusableInputsError
from ._inputs_scratch import Scratch
from ._inputs_summary import naming, summarize_input
from ._select import find_exclusion, select_inputs, wanted_statistics
from ._sky_level import describe_sky
from ._tables import InputRecord
from .adapters import (
    NO_EXTRAS,
    ArtifactMask,
    FaultyDetector,
    ImageAdapter,
    InputExtras,
    InputSummary,
    PatchGeometry,
    VisitStatistics,
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
    scratch: Scratch,
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
        Keeps the resampled exposures.
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
    OSError
        If a resampled exposure cannot be written to its folder.
    """
    ordered = sorted(inputs, key=lambda one: one.order)
    adapter = config.make_adapter()
    names = wanted_statistics(config.select)
    summaries = [summarize_input(one, adapter, names, config.inputs == "warps", log) for one in ordered]
    reasons = select_inputs(ordered, summaries, config=config.select, band=band, log=log)
    registrar = _Registrar(
        config=config, adapter=adapter, geometry=geometry, band=band, halo=halo, pixel_scale=pixel_scale
    )
    warped, records = [], []
    started = time.monotonic()
    for count, (one, summary, reason) in enumerate(zip(ordered, summaries, reasons, strict=True), start=1):
        found, new = registrar.register(one, summary, reason, log=log, n_inputs=len(ordered))
        warped += [scratch.keep(result) for result in found]
        records += new
        for result in found:
            if trouble := describe_sky(
                result.label, image=result.image, variance=result.variance, good=result.good
            ):
                log.warning("%s%s.", trouble[0].upper(), trouble[1:])
            log.info(
                "Registered %s (%d/%d): PSF FWHM %.2f px, %.0f s.",
                *(result.label, count, len(ordered), result.psf_fwhm, time.monotonic() - started),
            )
    for name in adapter.planes.find_absent():
        log.warning("No input has the mask plane %s of extra_bad_planes; check how it is spelt.", name)
    return warped, records


@dataclasses.dataclass(kw_only=True, eq=False)
class _Registrar:
    """Puts inputs on the grid of a patch."""

    config: AssembleAcnCoaddConfig
    adapter: ImageAdapter
    geometry: PatchGeometry
    band: str
    halo: int
    pixel_scale: float

    last_mask: tuple[Any, ArtifactMask | None] = (None, None)
    """Handle of the artifact mask that was read last, and its content."""

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
            with naming(one, "used"):
                results, record.physical_filter = self._place(one)
        except SkippedExposureError as error:
            record.reason = str(error)
            log.info("Leaving %s out: %s", one.label, error)
            return [], [record]
        except InvalidExposureError as error:
            self._drop(one.label, error, record, log=log, n_inputs=n_inputs)
            return [], [record]
        used, records = [], []
        for result in results or [None]:
            new = dataclasses.replace(record, reason=self._find_fault(result))
            records.append(new)
            if result is not None:
                new.detector = result.detector
            if isinstance(result, WarpedExposure):
                new.psf_fwhm, new.physical_filter = result.psf_fwhm, result.physical_filter
            if new.reason:
                log.info("Leaving %s out: %s", one.label if result is None else new.label, new.reason)
            elif isinstance(result, FaultyDetector):
                self._drop(new.label, result.error, new, log=log, n_inputs=n_inputs)
            else:
                new.kept = True
                used.append(result)
        return used, records

    def _drop(
        self,
        label: str,
        error: InvalidExposureError,
        record: InputRecord,
        *,
        log: logging.Logger,
        n_inputs: int,
    ) -> None:
        """Note that an input cannot be used, or stop where none may be."""
        rule = "on_bad_input is 'raise'" if self.config.on_bad_input == "raise" else ""
        if isinstance(error, UncalibratedExposureError):
            rule = "one that cannot be converted to nJy stops the patch"
        if rule:
            raise UnusableInputsError(
                n_bad=1, n_inputs=n_inputs, first_reason=str(error), rule=rule
            ) from error
        record.reason, record.bad = str(error), True
        log.warning("Dropping %s: %s", label, error)
        log.debug("Why %s was dropped:", label, exc_info=error)

    def _place(self, one: CoaddInput) -> tuple[list[WarpedExposure | FaultyDetector], str]:
        """Read an input and put it on the grid; return its filter, too."""
        if one.fault:
            raise InvalidExposureError(f"{one.label} {one.fault}.")
        self._check_band(one, one.data_id.get("band"))
        bad, box = self.config.bad_plane_bits, self.box
        if self.config.inputs == "warps":
            with naming(one, "read"):
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
        if results and one.artifact_mask is not None:
            results = [self._clip(result, one) for result in results]
        return results, physical_filter

    def _clip(
        self, result: WarpedExposure | FaultyDetector, one: CoaddInput
    ) -> WarpedExposure | FaultyDetector:
        """Leave out the artifacts of a visit; its mask is read once, for
        detectors of a visit follow each other.
        """
        if isinstance(result, FaultyDetector):
            return result
        if self.last_mask[0] is not one.artifact_mask:
            with naming(one, "read"):
                self.last_mask = one.artifact_mask, self.adapter.read_artifacts(one.artifact_mask)
        artifacts = self.last_mask[1]
        return result.with_artifacts(artifacts.clipped, x0=artifacts.x0, y0=artifacts.y0)

    def _adapt(self, one: CoaddInput) -> InputExposure:
        """Read and convert a detector image."""
        with naming(one, "read"):
            image = read_image(one.exposure_or_handle)
            extras = InputExtras(**{key: read_image(value) for key, value in vars(one.extras).items()})
        if isinstance(image, InputExposure):
            if (image.visit, image.detector) != one.order[1:]:
                raise InvalidExposureError(
                    f"{one.label} holds an exposure that calls itself {image.label}; give both one data id."
                )
            return image
        self._check_band(one, self.adapter.find_band(image))
        return self.adapter.adapt(image, data_id=one.data_id, extras=extras)

    def _check_band(self, one: CoaddInput, band: str | None) -> None:
        if band is not None and band != self.band:
            raise InvalidExposureError(
                f"{one.label} has band {band!r}, the patch is made of band {self.band!r}."
            )

    def _find_fault(self, warped: WarpedExposure | FaultyDetector | None) -> str:
        """Say why an exposure is not wanted; empty if it is."""
        if isinstance(warped, FaultyDetector):
            return find_exclusion(warped.detector, self.config.select)
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
