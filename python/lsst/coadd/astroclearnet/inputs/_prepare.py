# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Summarize, select and register the inputs of one patch."""

from __future__ import annotations

__all__ = ("prepare_inputs",)

import contextlib
import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..adapters import PatchGeometry
from ..core.warp._register import WarpedExposure
from ..outputs._tables import InputRecord
from ._input import CoaddInput
from ._register import Registrar, resample_ahead
from ._scratch import Scratch
from ._select import select_inputs, wanted_statistics
from ._sky_level import describe_sky
from ._summary import summarize_input

if TYPE_CHECKING:
    from .._assemble_config import AssembleAcnCoaddConfig


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
    n_threads: int = 1,
) -> tuple[list[WarpedExposure], list[InputRecord]]:
    """Select exposures, read them one at a time and put them on the grid,
    each while the next is read.

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
    n_threads
        If 1, an exposure is on the grid before the next is read.

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
    registrar = Registrar(
        config=config, adapter=adapter, geometry=geometry, band=band, halo=halo, pixel_scale=pixel_scale
    )
    warped, records = [], []
    started = time.monotonic()
    chosen = zip(ordered, summaries, reasons, strict=True)
    work = resample_ahead(chosen, lambda item: registrar.read(item[0], item[2]), n_threads=n_threads)
    with contextlib.closing(work):  # what fails must not leave a thread behind
        for count, (item, get) in enumerate(work, start=1):
            found, new = registrar.register(*item, get, log=log, n_inputs=len(ordered))
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
