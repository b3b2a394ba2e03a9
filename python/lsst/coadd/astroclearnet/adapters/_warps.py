# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Warps of `lsst.afw`: exposures of a visit on the grid of the tract.

The calls were checked against lsst/drp_tasks dc28b94, lsst/pipe_tasks
5b638a48, lsst/afw 714e0ed6d and lsst/meas_algorithms 4a7591d6.
"""

from __future__ import annotations

__all__ = ("cut_warp",)

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely

from lsst.daf.butler import DeferredDatasetHandle
from lsst.images import Box, NoOverlapError

from ..core._errors import InvalidExposureError
from ..core._exposure import PixelSkyMap, ScalarField
from ..core._planes import Plane
from ..core.warp._frame import Frame
from ..core.warp._grid_map import GridMap
from ..core.warp._premade_warp import find_gain, place_exposure
from ..core.warp._register import WarpedExposure, WarpedField
from ._adapter import FaultyDetector, read_image
from ._afw_models import ExposurePsf, SkyWcsMap, check_njy, read_aperture_corrections, translate_mask
from ._masks import PlaneTranslator

if TYPE_CHECKING:
    from lsst.afw.image import ExposureF
    from lsst.afw.table import ExposureRecord

_BORDER = 2  # pixels by which outlines are grown, so that no pixel of an edge is lost


def cut_warp(
    warp: Any,
    *,
    data_id: Mapping[str, Any],
    wcs: PixelSkyMap,
    box: Box,
    bad: Plane,
    kernel: str,
    planes: PlaneTranslator,
) -> list[WarpedExposure | FaultyDetector]:
    """Cut a warp to a box and into its detectors; nothing is resampled.

    Parameters
    ----------
    warp
        An `~lsst.afw.image.ExposureF` that ``makeDirectWarp`` made, or a
        handle for one; of a handle only the box is read.
    data_id
        Value of ``visit``.
    wcs
        World coordinates of the tract.
    box
        What is wanted, in pixels of the tract.
    bad
        Planes whose pixels must not be used.
    kernel
        Interpolation with which the warp was made: its variance plane holds
        the variance of single pixels (lsst/afw WarpAtOnePoint.h:127-132), of
        which `find_gain` makes the power of the noise.
    planes
        Translates its mask.

    Returns
    -------
    `list` [`WarpedExposure` | `FaultyDetector`]
        One for each detector with data in the box, and one for each whose
        record has no WCS, or whose PSF has no value anywhere.

    Raises
    ------
    UncalibratedExposureError
        If the pixels are not in nJy.
    InvalidExposureError
        If PSF or inputs are not recorded.

    Notes
    -----
    What a warp holds: lsst/drp_tasks make_direct_warp.py:657-669, 886-892
    (unit ``BUNIT``, checked as in assemble_cell_coadd.py:688-693), inputs
    lsst/pipe_tasks coaddInputRecorder.py:82-115, 178-192. Detectors are told
    apart by the outlines of their frames, as in
    assemble_cell_coadd.py:739-762; where two overlap, the pixel is that of
    the last, which ``copyGoodPixels`` copies over the others (lsst/coadd_utils
    copyGoodPixels.cc:96-108, make_direct_warp.py:594). The PSF is that of the
    warp, a ``CoaddPsf``, which has no value off its detectors
    (lsst/meas_algorithms CoaddPsf.cc:264-272). Aperture corrections are those
    of the detectors, in their own pixels (coaddInputRecorder.py:137-158).
    """
    label = f"visit={data_id['visit']}"
    exposure_f = _read_box(warp, box)
    if exposure_f is None:
        return []
    check_njy(exposure_f, label=f"the warp of {label}", advice="it must be nJy")
    psf, inputs = exposure_f.getPsf(), exposure_f.getInfo().getCoaddInputs()
    for name, part in {"PSF": psf, "record of its inputs": inputs}.items():
        if part is None:
            raise InvalidExposureError(f"The warp of {label} has no {name}; make it anew or leave it out.")
    shared = dict(
        visit=int(data_id["visit"]),
        image=exposure_f.image.array,
        variance=exposure_f.variance.array,
        flags=translate_mask(exposure_f.mask, planes=planes),
        x0=int(exposure_f.getX0()),
        y0=int(exposure_f.getY0()),
        bad=bad,
    )
    pieces: list[WarpedExposure | FaultyDetector] = []
    free = np.ones(shared["image"].shape, bool)
    for row in reversed(list(inputs.ccds)):  # the last was copied over the others
        piece_label = f"{label} detector={int(row['ccd'])}"
        try:
            frame = _read_frame(row, label=piece_label)
            outline = frame.outline(wcs)
            if outline is None:
                continue
            piece = place_exposure(
                **shared,
                detector=int(row["ccd"]),
                physical_filter=str(
                    row["filter"] if "filter" in row.schema else data_id.get("physical_filter", "")
                ),
                label=piece_label,
                inside=_claim(free, outline, x0=shared["x0"], y0=shared["y0"]),
                psf=ExposurePsf(psf, piece_label),
                outline=outline,
                aperture_corrections=_aperture_corrections(row, frame, wcs),
            )
            if piece is not None:
                pieces.append(_restore_power(piece, frame, wcs, kernel))
        except InvalidExposureError as error:
            pieces.append(FaultyDetector(detector=int(row["ccd"]), error=error))
    return pieces[::-1]


def _restore_power(piece: WarpedExposure, frame: Frame, wcs: PixelSkyMap, kernel: str) -> WarpedExposure:
    """Make the power of the noise of the variance of single pixels."""
    height, width = piece.image.shape
    grid = GridMap.fit(wcs, frame, x0=piece.x0, y0=piece.y0, height=height, width=width)
    gain = find_gain(grid, kernel=kernel, height=height, width=width)
    return dataclasses.replace(piece, variance=piece.variance / gain)


def _aperture_corrections(row: ExposureRecord, frame: Frame, wcs: PixelSkyMap) -> dict[str, ScalarField]:
    """Return those of a detector at pixels of the tract."""
    fields = read_aperture_corrections(row.getApCorrMap())
    return {name: WarpedField(field=field, frame=frame, patch_wcs=wcs) for name, field in fields.items()}


def _read_box(warp: Any, box: Box) -> ExposureF | None:
    """Return the part of a warp inside a box; `None` if there is none.

    ``bbox`` is a component and a parameter of the storage class
    (lsst/drp_tasks assemble_cell_coadd.py:652); ``exposure[box]``:
    lsst/afw image/_image/_slicing.py.
    """
    deferred = isinstance(warp, DeferredDatasetHandle)
    exposure_f = None if deferred else read_image(warp)
    whole = Box.from_legacy(warp.get(component="bbox") if deferred else exposure_f.getBBox())
    try:
        part = whole.intersection(box)
    except NoOverlapError:
        return None
    wanted = part.to_legacy()
    return warp.get(parameters={"bbox": wanted}) if deferred else exposure_f[wanted]


def _read_frame(row: ExposureRecord, *, label: str) -> Frame:
    """Return where the pixels of a detector were."""
    if row.getWcs() is None:
        raise InvalidExposureError(f"The record of {label} in its warp has no WCS; leave the detector out.")
    box = Box.from_legacy(row.getBBox())
    return Frame(
        wcs=SkyWcsMap(row.getWcs()),
        x0=int(box.x.start),
        y0=int(box.y.start),
        height=int(box.y.size),
        width=int(box.x.size),
        label=label,
    )


def _claim(free: np.ndarray, outline: np.ndarray, *, x0: int, y0: int) -> np.ndarray:
    """Return the pixels ``(y, x)`` of a detector that are free; they are so
    no more.
    """
    inside = np.zeros(free.shape, bool)
    polygon = shapely.Polygon(outline).buffer(_BORDER)
    low_x, low_y, high_x, high_y = polygon.bounds
    rows = slice(max(int(low_y) - y0, 0), max(int(high_y) + 2 - y0, 0))
    columns = slice(max(int(low_x) - x0, 0), max(int(high_x) + 2 - x0, 0))
    near = free[rows, columns]
    if near.size:
        y, x = np.mgrid[: near.shape[0], : near.shape[1]]
        inside[rows, columns] = near & shapely.contains_xy(
            polygon, x + (x0 + columns.start), y + (y0 + rows.start)
        )
        free &= ~inside
    return inside
