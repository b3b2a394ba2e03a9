# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""The task in the place of coadd assembly: calexps in, latent image out."""

from __future__ import annotations

__all__ = (
    "AssembleAcnCoaddConfig",
    "AssembleAcnCoaddConnections",
    "AssembleAcnCoaddTask",
    "CoaddInput",
    "FitFailedError",
    "UnusableInputsError",
)

import collections
import dataclasses
import gc
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lsst.pipe.base import (
    AlgorithmError,
    AnnotatedPartialOutputsError,
    NoWorkFound,
    PipelineTask,
    QuantumContext,
    Struct,
)
from lsst.utils.timer import timeMethod

from ._assemble_config import AssembleAcnCoaddConfig
from ._connections import AssembleAcnCoaddConnections
from ._errors import CellFailures, FitFailedError, UnusableInputsError
from .adapters import PatchGeometry, choose_cell_size, make_n_image
from .core import FitError, FitOptions
from .core._options import LINEAR_METHODS
from .core.warp._cut_stack import cut_stack
from .core.warp._frame import measure_pixel
from .core.warp._register import WarpedExposure
from .inputs._collect import collect_inputs, read_geometry
from .inputs._input import CoaddInput
from .inputs._prepare import prepare_inputs
from .inputs._scratch import open_scratch
from .outputs._about import describe_run, make_seed, summarize_run
from .outputs._products import CellRecorder, make_images, make_planes
from .outputs._tables import InputRecord, make_history_table, make_inputs_table, report_oddities

if TYPE_CHECKING:
    from .core import CellStack, PatchFit, Tile


class AssembleAcnCoaddTask(PipelineTask):
    """Restore the latent sky of a patch from its exposures.

    Processing summary: select and read the exposures, one at a time; adapt
    them to nJy and canonical mask planes; register them on the pixel grid of
    the patch; fit the patch cell by cell; write the latent image, the coadd
    and the tables that say what each exposure gave.
    """

    ConfigClass = AssembleAcnCoaddConfig
    _DefaultName = "assembleAcnCoadd"
    config: AssembleAcnCoaddConfig

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        # Here, where it stops a run before its first patch, and each patch
        # before its exposures are read.
        if (self.config.method, self.config.recipe) == ("acn", "trained"):
            from .core.encoder._encoder import load_encoder

            load_encoder(weights=self.config.weights)

    def runQuantum(  # noqa: N802
        self,
        butlerQC: QuantumContext,  # noqa: N803
        inputRefs: Any,  # noqa: N803
        outputRefs: Any,  # noqa: N803
    ) -> None:
        """Fetch handles, run, put what came out."""
        data_id = butlerQC.quantum.dataId
        geometry = read_geometry(butlerQC, inputRefs, image_model=self.config.image_model)
        inputs = collect_inputs(butlerQC, inputRefs, self.config)
        try:
            outputs = self.run(
                inputs=inputs,
                geometry=geometry,
                band=data_id["band"],
                n_threads=butlerQC.resources.num_cores,
            )
        except AlgorithmError as error:
            raise AnnotatedPartialOutputsError.annotate(error, self, log=self.log) from error
        butlerQC.put(outputs, outputRefs)

    @timeMethod
    def run(
        self, *, inputs: Sequence[CoaddInput], geometry: PatchGeometry, band: str, n_threads: int = 0
    ) -> Struct:
        """Fit one patch; needs no Butler.

        Parameters
        ----------
        inputs
            The exposures (field ``inputs``: or warps), in any order.
        geometry
            The patch.
        band
            Band of the patch.
        n_threads
            Threads of torch; 0 leaves its own choice. With 1, no exposure is
            read while the last is resampled.

        Returns
        -------
        `lsst.pipe.base.Struct`
            ``latent`` (not for methods ``kaiser`` and ``mean``), ``coadd``,
            ``psf_flux_error``, ``n_image``, ``inputs_table`` and
            ``fit_history``, as the connections say.

        Raises
        ------
        ValueError
            If no cells up to ``cell_size`` divide the patch, if an input is
            there twice, or if the exposures are of several instruments.
        lsst.pipe.base.NoWorkFound
            If fewer than ``min_inputs`` visits have a good pixel here, or were
            used in a cell.
        UnusableInputsError
            If too many of the exposures cannot be used, or the pixels of one
            cannot be converted to nJy.
        FitFailedError
            If the fit gives nothing that can be used.
        OSError
            If the folder for the resampled exposures is not there, or full.
        """
        from .core._device import describe_device, select_device

        started = time.monotonic()
        _find_instrument(inputs)
        _refuse_duplicates(inputs)
        options = self._choose_options(geometry, band, n_threads)
        device = describe_device(select_device(options))
        box = geometry.outer_bbox
        pixel_scale = measure_pixel(geometry.wcs, x=box.x.center, y=box.y.center)
        n_pixels = box.x.size * box.y.size
        place = dict(n_inputs=len(inputs), n_pixels=n_pixels, log=self.log)
        with open_scratch(self.config.scratch, **place) as scratch:
            warped, records = prepare_inputs(
                inputs,
                config=self.config,
                geometry=geometry,
                band=band,
                halo=options.halo,
                pixel_scale=pixel_scale,
                scratch=scratch,
                log=self.log,
                n_threads=n_threads,
            )
            self._check_inputs(records)
            fit, recorder, n_failed = self._fit(warped, inputs, geometry, band, options)
            planes, untrusted = make_planes(
                warped,
                fit,
                geometry=geometry,
                config=self.config,
                cell_size=options.cell_size,
                labels=recorder.labels,
                log=self.log,
            )
        self._summarize_inputs(records, fit)
        n_kept = sum(record.kept for record in records)
        about = describe_run(
            self.config, options, device=device, n_inputs=n_kept, n_dropped=len(records) - n_kept
        )
        summary = summarize_run(fit, device=device, run_time=time.monotonic() - started)
        about["n_failed_cells"] = n_failed
        for name, value in {**about, **untrusted, **summary}.items():
            self.metadata[name] = value
        images = make_images(
            fit,
            planes=planes,
            geometry=geometry,
            band=band,
            options=options,
            metadata={**about, **untrusted},
            **recorder.finish(fit.exposures, cell_size=options.cell_size),
        )
        return Struct(
            **images,
            n_image=make_n_image(fit.n_image, geometry=geometry),
            inputs_table=make_inputs_table(records, pixel_scale=pixel_scale),
            fit_history=make_history_table(fit.history),
        )

    def _choose_options(self, geometry: PatchGeometry, band: str, n_threads: int) -> FitOptions:
        """Make the options of the fit for this patch."""
        (height, width), largest = geometry.outer_bbox.shape, self.config.cell_size
        try:
            cell_size = choose_cell_size(height=height, width=width, largest=largest)
        except ValueError as error:
            raise ValueError(f"{_name_patch(geometry, band)}: {error}") from None
        if cell_size != largest:
            self.log.info(
                "Cells of %d px in the place of %d, which do not tile a patch of %d x %d px.",
                *(cell_size, largest, width, height),
            )
        seed = make_seed(
            skymap=geometry.skymap,
            tract=geometry.tract,
            patch=geometry.patch,
            band=band,
            offset=self.config.seed,
        )
        options = self.config.make_fit_options(seed=seed, n_threads=n_threads)
        return dataclasses.replace(options, cell_size=cell_size)

    def _check_inputs(self, records: Sequence[InputRecord]) -> None:
        """Stop where there is too little to work with."""
        bad = [record for record in records if record.bad]
        n_kept = sum(record.kept for record in records)
        usable = n_kept + len(bad)
        rule = f"max_bad_fraction is {self.config.max_bad_fraction:g}" if n_kept else "none is left"
        if bad and (not n_kept or len(bad) > self.config.max_bad_fraction * usable):
            raise UnusableInputsError(n_bad=len(bad), n_inputs=usable, first_reason=bad[0].reason, rule=rule)
        self._require_visits(records)
        if len({record.visit for record in records if record.kept}) == 1:
            self.log.warning("There is one visit only: no artifact can be told from a source.")
        self.log.info("Using %d of %d inputs.", n_kept, len(records))

    def _summarize_inputs(self, records: Sequence[InputRecord], fit: PatchFit) -> None:
        """Note what the fit found for each input, and which it could not use;
        stop where too few visits are left.
        """
        found = {exposure.label: exposure for exposure in fit.exposures}
        for record in records:
            if record.label in found:
                record.summarize(found[record.label])
            elif record.kept:
                record.kept, record.reason = False, "used in no cell"
                self.log.warning("Leaving %s out: it could be used in no cell.", record.label)
        self._require_visits(records)
        report_oddities(records, self.log, linear=self.config.method in LINEAR_METHODS)

    def _require_visits(self, records: Sequence[InputRecord]) -> None:
        """Stop where too few visits are kept."""
        n_kept = sum(record.kept for record in records)
        n_visits = len({record.visit for record in records if record.kept})
        if n_visits < self.config.min_inputs:
            reasons = "; ".join(sorted({record.reason for record in records if record.reason}))
            # The middleware ends it with a full stop.
            raise NoWorkFound(
                f"{n_kept} of {len(records)} inputs can be used, of {n_visits} visits; "
                f"min_inputs is {self.config.min_inputs}" + (f". Left out: {reasons}" if reasons else "")
            )

    def _fit(
        self,
        warped: Sequence[WarpedExposure],
        inputs: Sequence[CoaddInput],
        geometry: PatchGeometry,
        band: str,
        options: FitOptions,
    ) -> tuple[PatchFit, CellRecorder, int]:
        """Fit all cells; return the result, what each input gave to it, and
        how many cells failed.
        """
        from .core import fit_patch

        bbox = geometry.outer_bbox
        recorder = CellRecorder(
            warped,
            geometry=geometry,
            instrument=_find_instrument(inputs),
            day_obs={int(one.data_id["visit"]): int(one.data_id.get("day_obs") or 0) for one in inputs},
            linear=options.method in LINEAR_METHODS,
        )

        def get_stack(tile: Tile, halo: int) -> CellStack | None:
            x0, y0 = bbox.x.start + tile.x0, bbox.y.start + tile.y0
            return cut_stack(
                warped,
                x0=x0 - halo,
                y0=y0 - halo,
                height=tile.height + 2 * halo,
                width=tile.width + 2 * halo,
                bad=self.config.bad_plane_bits,
            )

        failures = CellFailures(
            where=_name_patch(geometry, band),
            n_cells=(bbox.y.size // options.cell_size) * (bbox.x.size // options.cell_size),
            max_fraction=self.config.max_failed_cells,
            log=self.log,
        )

        # What is left of reading shall not be found garbage by a thread of the
        # fit: some objects of other libraries must end where they were made.
        gc.collect()
        try:
            fit = fit_patch(
                get_stack,
                height=bbox.y.size,
                width=bbox.x.size,
                options=options,
                report=self.log.info,
                on_fitted_cell=recorder.record,
                on_failed_cell=failures.add,
            )
        except FitError as error:
            raise FitFailedError(f"{failures.where}: {error}", error.metadata) from error
        return fit, recorder, len(failures.cells)


def _name_patch(geometry: PatchGeometry, band: str) -> str:
    """Return the data id of the results as text."""
    return f"skymap={geometry.skymap!r} tract={geometry.tract} patch={geometry.patch} band={band!r}"


def _find_instrument(inputs: Sequence[CoaddInput]) -> str:
    """Return the instrument of all inputs: visits and detectors of two may
    have the same numbers, and one band is not the same light in both.
    """
    names = sorted({str(one.data_id.get("instrument", "")) for one in inputs})
    if len(names) > 1:
        raise ValueError(
            f"The exposures are of several instruments ({', '.join(names)}): name one, as in "
            f"-d \"instrument='{names[0]}'\"."
        )
    return names[0] if names else ""


def _refuse_duplicates(inputs: Sequence[CoaddInput]) -> None:
    """Raise if a data id is there twice: such an input would count double,
    and what is said of one would be said of both.
    """
    counts = collections.Counter(one.label for one in inputs)
    twice = sorted(label for label, count in counts.items() if count > 1)
    if twice:
        raise ValueError(f"Inputs are there more than once: {'; '.join(twice)}. Give each of them once.")
