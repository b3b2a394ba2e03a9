# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Statistics of exposures and visits, as `lsst.afw` keeps them.

The calls were checked against lsst/afw 714e0ed6d, lsst/obs_base 00893bd1 and
lsst/pipe_tasks 5b638a48; paths below are relative to ``python/lsst/`` of those
repositories.
"""

from __future__ import annotations

__all__ = ("summarize_exposure_f", "summarize_row", "summarize_warp_inputs", "visit_statistics")

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from lsst.daf.butler import DeferredDatasetHandle
from lsst.images import Box

from ._adapter import (
    InputSummary,
    VisitStatistics,
    is_measured,
    model_fwhm,
    read_image,
    statistics_fwhm,
    to_number,
)
from ._afw_models import ExposurePsf, SkyWcsMap

if TYPE_CHECKING:
    from lsst.afw.detection import Psf
    from lsst.afw.geom import SkyWcs
    from lsst.afw.table import ExposureCatalog, ExposureRecord

_SIZE = ("psfSigma", "pixelScale")


def visit_statistics(catalog: ExposureCatalog, names: Iterable[str] = ()) -> VisitStatistics:
    """Return means over the detectors of a visit summary that have a WCS.

    Parameters
    ----------
    catalog
        The ``finalVisitSummary`` or ``visit_summary`` of a visit.
    names
        Columns whose means are wanted; those that are not there, or hold NaN
        only, are left out.

    Raises
    ------
    StatisticTypeError
        If a column holds no numbers.

    Notes
    -----
    As pipe/tasks/selectImages.py:55-60 and 725-728.
    """
    rows = [_read_columns(row, (*_SIZE, *names)) for row in catalog if row.getWcs()]
    columns = {name: np.array([row.get(name, math.nan) for row in rows]) for name in names}
    return VisitStatistics(
        psf_fwhm=_mean(np.array([statistics_fwhm(row) for row in rows])),
        means={name: _mean(values) for name, values in columns.items() if np.isfinite(values).any()},
        measured=frozenset(
            name for name, values in columns.items() if any(is_measured(name, value) for value in values)
        ),
    )


def summarize_row(row: ExposureRecord, names: Iterable[str], *, label: str) -> InputSummary:
    """Return statistics of a detector from its row of a visit summary.

    Parameters
    ----------
    row
        The row.
    names
        Columns that are wanted; those that are not there are left out.
    label
        Data id for errors.
    """
    statistics = _read_columns(row, (*_SIZE, *names))
    fwhm = statistics_fwhm(statistics)
    if not math.isfinite(fwhm):
        fwhm = _measure_fwhm(row.getPsf(), row.getWcs(), row.getBBox(), label=label)
    return InputSummary(psf_fwhm=fwhm, statistics=statistics)


def summarize_exposure_f(image: Any, names: Iterable[str], *, label: str) -> InputSummary:
    """Return statistics of a detector from its own ``summaryStats``.

    Parameters
    ----------
    image
        An `~lsst.afw.image.ExposureF` or a handle.
    names
        Statistics that are wanted; those that afw does not know are left out.
    label
        Data id for errors.

    Notes
    -----
    Fields: afw/image/_exposureSummaryStats.py:41. Those that the file was
    written too early for have their defaults, NaN or 0.
    """
    stats = _read_component(image, "summaryStats")
    wanted = () if stats is None else (*_SIZE, *names)
    statistics = {name: to_number(getattr(stats, name), name=name) for name in wanted if hasattr(stats, name)}
    fwhm = statistics_fwhm(statistics)
    if not math.isfinite(fwhm):
        psf, wcs, bbox = (_read_component(image, name) for name in ("psf", "wcs", "bbox"))
        fwhm = _measure_fwhm(psf, wcs, bbox, label=label)
    return InputSummary(psf_fwhm=fwhm, statistics=statistics)


def summarize_warp_inputs(warp: Any, *, label: str) -> InputSummary:
    """Return the mean FWHM of the detectors that a warp was made of.

    Parameters
    ----------
    warp
        An `~lsst.afw.image.ExposureF` or a handle.
    label
        Data id for errors.

    Notes
    -----
    Their PSFs and WCSs are in the record of the inputs
    (pipe/tasks/coaddInputRecorder.py:137-158).
    """
    inputs = _read_component(warp, "coaddInputs")
    rows = () if inputs is None else inputs.ccds
    fwhm = [_measure_fwhm(row.getPsf(), row.getWcs(), row.getBBox(), label=label) for row in rows]
    return InputSummary(psf_fwhm=_mean(np.array(fwhm, dtype=float)))


def _read_component(image: Any, name: str) -> Any:
    """Return a part of an exposure, without the pixels where a handle allows
    it; `None` if it has none.

    Components: obs/base/formatters/fitsExposure.py:751-772, 275; getters:
    afw/image/_exposure/_exposure.cc:111-127 and
    afw/image/_exposureInfoContinued.py:31.
    """
    if isinstance(image, DeferredDatasetHandle):
        return image.get(component=name)
    exposure_f = read_image(image)
    match name:
        case "psf":
            return exposure_f.getPsf()
        case "wcs":
            return exposure_f.getWcs()
        case "bbox":
            return exposure_f.getBBox()
        case "coaddInputs":
            return exposure_f.getInfo().getCoaddInputs()
        case "summaryStats":
            return exposure_f.getInfo().getSummaryStats()
    raise ValueError(f"Component {name!r} is not known.")


def _read_columns(row: ExposureRecord, names: Iterable[str]) -> dict[str, float]:
    """Return the columns that a row has; older repositories lack some.

    ``name in schema``: afw/table/_schema.cc:481; ``row[name]``:
    afw/table/_base.cc:145.
    """
    return {name: to_number(row[name], name=name) for name in names if name in row.schema}


def _measure_fwhm(psf: Psf | None, wcs: SkyWcs | None, bbox: Any, *, label: str) -> float:
    """Return the FWHM of a PSF in arcsec at the centre of a frame; NaN
    without one.
    """
    if psf is None or wcs is None:
        return math.nan
    box = Box.from_legacy(bbox)
    return model_fwhm(ExposurePsf(psf, label), SkyWcsMap(wcs), x=box.x.center, y=box.y.center, label=label)


def _mean(values: np.ndarray) -> float:
    """Return the mean of what is finite; NaN if nothing is."""
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else math.nan
