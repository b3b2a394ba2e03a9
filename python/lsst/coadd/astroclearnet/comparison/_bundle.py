# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Metrics as the tools of the full Science Pipelines keep them."""

from __future__ import annotations

__all__ = ("make_bundle", "name_measurements")

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import astropy.units as u
import numpy as np

from ._rows import DEFINITIONS

if TYPE_CHECKING:
    from astropy.table import Table


def name_measurements(metrics: Table, *, band: str) -> Iterator[tuple[str, str, float, str]]:
    """Give metrics the names that they have in analysis_tools.

    There a metric is ``KEY_BAND_OBJECTS_STATISTIC``, e.g.
    ``e1Diff_g_highSNStars_median`` (metricInformation.yaml); here OBJECTS is
    the plane, with bin of S/N or mask plane where there is one. Where there
    are values behind a median, their number follows as ``count``. Rows of
    single exposures are left out: a metric must exist on every patch.

    Parameters
    ----------
    metrics
        As of `make_table`.
    band
        Put into the names.

    Yields
    ------
    key, name, value, unit
        Key of the bundle, name of the measurement, value and unit.
    """
    longest_first = sorted(DEFINITIONS, key=len, reverse=True)
    for row in metrics:
        base = next(name for name in longest_first if row["name"].startswith(name))
        definition = DEFINITIONS[base]
        if not definition.key:
            continue
        suffix = str(row["name"]).removeprefix(base)
        objects = f"{band}_{row['plane']}{suffix}"
        yield definition.key, f"{objects}_{row['statistic']}", float(row["value"]), str(row["unit"])
        if definition.statistic == "median":
            yield definition.key, f"{objects}_count", float(row["n"]), "ct"


def make_bundle(metrics: Table, *, band: str) -> Any:
    """Make a bundle of measurements.

    Parameters
    ----------
    metrics
        As of `make_table`.
    band
        Put into the names.

    Returns
    -------
    `lsst.analysis.tools.interfaces.MetricMeasurementBundle`
        Lists of `lsst.verify.Measurement`; NaN is kept, as there.

    Raises
    ------
    ImportError
        If these packages, which PyPI does not have, are not installed.
    """
    from lsst.analysis.tools.interfaces import MetricMeasurementBundle
    from lsst.verify import Measurement

    bundle = MetricMeasurementBundle(dataset_identifier=None, reference_package=None, timestamp_version=None)
    for key, name, value, unit in name_measurements(metrics, band=band):
        quantity = np.float64(value) * u.Unit(unit)
        bundle.setdefault(key, []).append(Measurement(name, quantity))
    return bundle
