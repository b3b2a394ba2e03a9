# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read inputs and put them on the grid of a patch, each while the next is
read.
"""

from __future__ import annotations

__all__ = ("Reading", "Registrar", "resample_ahead")

import dataclasses
import logging
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from lsst.images import Box

from .._errors import UnusableInputsError
from ..adapters import (
    ArtifactMask,
    FaultyDetector,
    ImageAdapter,
    InputExtras,
    InputSummary,
    PatchGeometry,
    read_image,
)
from ..core import InputExposure, InvalidExposureError, SkippedExposureError, UncalibratedExposureError
from ..core.warp._register import WarpedExposure, WarpPlan
from ..outputs._tables import InputRecord
from ._duplicates import SeenPixels
from ._input import CoaddInput
from ._select import find_exclusion
from ._summary import naming

if TYPE_CHECKING:
    from .._assemble_config import AssembleAcnCoaddConfig


@dataclasses.dataclass(kw_only=True, eq=False)
class Reading:
    """What was read of an input."""

    physical_filter: str = ""

    warped: Sequence[WarpedExposure | FaultyDetector] = ()
    """What was on the grid of the patch already."""

    plan: WarpPlan | None = None
    """Where what was not lies on it."""

    pixels: tuple[np.ndarray, ...] = ()
    """What that is on the grid."""

    def resample(self) -> Reading:
        """Put on the grid what is not there, and return the same."""
        if self.plan:
            self.pixels = self.plan.resample()
        return self

    def finish(self) -> list[WarpedExposure | FaultyDetector]:
        """Return all that is on the grid, and keep nothing of what was read:
        the next input needs the memory.
        """
        if self.plan:
            self.warped = [self.plan.finish(*self.pixels)]
        warped, self.warped, self.plan, self.pixels = list(self.warped), (), None, ()
        return warped


def resample_ahead[T](
    items: Iterable[T], read: Callable[[T], Reading], *, n_threads: int
) -> Generator[tuple[T, Callable[[], Reading]]]:
    """Resample what is read of each item while the next is read.

    Parameters
    ----------
    items
        What is read, one after the other.
    read
        Reads an item. It is called here, for a Butler is for one thread.
    n_threads
        If 1, nothing is read before it is needed.

    Yields
    ------
    item, get
        An item, in the order given, and what returns it resampled, or raises
        what went wrong with it.
    """

    def start(item: T) -> Callable[[], Reading]:
        try:
            return read(item).resample
        except Exception as error:
            return partial(_fail, error)

    if n_threads == 1:
        yield from ((item, _Once(start(item))) for item in items)
        return
    pool = ThreadPoolExecutor(1)
    try:
        waiting: deque[tuple[T, Callable[[], Reading]]] = deque()
        for item in items:
            waiting.append((item, _Once(pool.submit(start(item)).result)))
            if len(waiting) > 1:
                yield waiting.popleft()
        yield from waiting
    finally:
        pool.shutdown(cancel_futures=True)


class _Once[R]:
    """A call that is forgotten when it is made: whoever keeps it would else
    keep its error, which keeps all that was read, and is kept by it.
    """

    def __init__(self, call: Callable[[], R]):
        self._calls = [call]

    def __call__(self) -> R:
        return self._calls.pop()()


def _fail(error: Exception) -> NoReturn:
    try:
        raise error
    finally:
        del error  # as in `_Once`


@dataclasses.dataclass(kw_only=True, eq=False)
class Registrar:
    """Puts inputs on the grid of a patch."""

    config: AssembleAcnCoaddConfig
    adapter: ImageAdapter
    geometry: PatchGeometry
    band: str
    halo: int
    pixel_scale: float

    last_mask: tuple[Any, ArtifactMask | None] = (None, None)
    """Handle of the artifact mask that was read last, and its content."""

    seen: SeenPixels = dataclasses.field(default_factory=SeenPixels)
    """Pixels of those that are used."""

    @property
    def box(self) -> Box:
        """What is filled, in pixels of the tract."""
        outer, halo = self.geometry.outer_bbox, self.halo
        return Box.factory[
            outer.y.start - halo : outer.y.stop + halo, outer.x.start - halo : outer.x.stop + halo
        ]

    def read(self, one: CoaddInput, reason: str) -> Reading:
        """Read an input; nothing if there is a reason to leave it out."""
        if reason:
            return Reading()
        with naming(one, "used"):
            if one.fault:
                raise InvalidExposureError(f"{one.label} {one.fault}.")
            self._check_band(one, one.data_id.get("band"))
            bad, box = self.config.bad_plane_bits, self.box
            if self.config.inputs == "warps":
                with naming(one, "read"):
                    warped = self.adapter.adapt_warp(
                        one.exposure_or_handle, data_id=one.data_id, wcs=self.geometry.wcs, box=box, bad=bad
                    )
                return Reading(physical_filter=str(one.data_id.get("physical_filter", "")), warped=warped)
            exposure = self._adapt(one)
            plan = WarpPlan.make(
                exposure,
                wcs=self.geometry.wcs,
                bad=bad,
                x0=int(box.x.start),
                y0=int(box.y.start),
                height=int(box.y.size),
                width=int(box.x.size),
            )
            return Reading(physical_filter=exposure.physical_filter, plan=plan)

    def register(
        self,
        one: CoaddInput,
        summary: InputSummary,
        reason: str,
        get: Callable[[], Reading],
        *,
        log: logging.Logger,
        n_inputs: int,
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
                reading = get()
                record.physical_filter = reading.physical_filter
                results = [self._clip(result, one) for result in reading.finish()]
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
            elif same := self._find_same(result):
                self._drop(new.label, same, new, log=log, n_inputs=n_inputs)
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

    def _clip(
        self, result: WarpedExposure | FaultyDetector, one: CoaddInput
    ) -> WarpedExposure | FaultyDetector:
        """Leave out the artifacts of a visit; its mask is read once, for
        detectors of a visit follow each other.
        """
        if one.artifact_mask is None or isinstance(result, FaultyDetector):
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

    def _find_same(self, warped: WarpedExposure) -> InvalidExposureError | None:
        """Say that an exposure is one of those before, under another name."""
        if not (first := self.seen.find(warped.label, warped.image, warped.good)):
            return None
        return InvalidExposureError(
            f"{warped.label} has the same pixels as {first}: its noise would count as that of another "
            "exposure. Take one of them out of the input collections."
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
