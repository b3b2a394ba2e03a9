# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the tables and the metadata of a run tell."""

from __future__ import annotations

__all__ = ("make_exposure_rows", "make_run_rows")

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from ._rows import Row, make_row, measure_median

if TYPE_CHECKING:
    from astropy.table import Table


def make_exposure_rows(inputs: Table, plane: str) -> list[Row]:
    """Make the rows about chi2 of the exposures.

    Parameters
    ----------
    inputs
        Table of inputs, with columns ``visit``, ``detector``, ``chi2``,
        ``kept`` and ``n_good``.
    plane
        Which coadd it belongs to.
    """
    kept = inputs[np.asarray(inputs["kept"], dtype=bool)]
    chi2 = np.asarray(kept["chi2"], dtype=float)
    value, error, n = measure_median(chi2)
    rows = [
        make_row("n_exposures", plane, len(kept), n=len(inputs)),
        make_row("exposure_chi2", plane, value, error, n=n),
        make_row("exposure_chi2_max", plane, np.nanmax(chi2) if n else np.nan, n=n),
    ]
    for row in kept:
        suffix = f"{row['visit']}_{row['detector']}"
        rows.append(make_row("exposure_chi2_of", plane, row["chi2"], n=int(row["n_good"]), suffix=suffix))
    return rows


def make_run_rows(metadata: Mapping[str, float], plane: str) -> list[Row]:
    """Make the rows about run time and memory.

    Parameters
    ----------
    metadata
        With ``run_time_s`` and ``peak_memory_mb``; what is missing is NaN.
    plane
        Which coadd it belongs to.
    """
    return [
        make_row(name, plane, float(metadata.get(key, np.nan)), n=1)
        for name, key in (("run_time", "run_time_s"), ("peak_memory", "peak_memory_mb"))
    ]
