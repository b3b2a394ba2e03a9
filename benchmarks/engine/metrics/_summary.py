# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Medians, scatters and their errors."""

from __future__ import annotations

__all__ = (
    "KINDS",
    "SNR_BINS",
    "WIDTH_BINS",
    "Summary",
    "bin_values",
    "mean_error",
    "share_error",
    "summarize",
)

import dataclasses
import itertools
from collections.abc import Sequence

import astropy.table
import numpy as np
from astropy.stats import binom_conf_interval

SNR_BINS = ((3.0, 6.0), (6.0, 20.0), (20.0, 100.0), (100.0, np.inf))
"""Bins of S/N for fluxes."""

WIDTH_BINS = ((20.0, 50.0), (50.0, 200.0), (200.0, np.inf))
"""Bins of S/N for the widths of stars."""

KINDS = ("star", "galaxy", "small", "large", "any")
"""Kinds of sources; a galaxy is a small or a large one."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Summary:
    """Robust location and scatter of some values."""

    median: float
    median_error: float
    """Standard error of the median of a normal distribution,
    ``sqrt(pi / 2) scatter / sqrt(n)``."""

    scatter: float
    """Half of the interval that holds the central 68.27 %."""

    scatter_error: float
    """Standard error of the scatter of a normal distribution, from the
    asymptotic covariance of its two quantiles: ``0.962 scatter / sqrt(n)``."""

    n: int
    """How many values were finite."""


def summarize(values: np.ndarray) -> Summary:
    """Summarize values of any shape.

    Parameters
    ----------
    values
        Measurements; those that are not finite are left out.

    Returns
    -------
    `Summary`
        NaN without a value; errors and scatter NaN with fewer than three.
        The quantiles are the sample's own: the scatter of few values is a
        little too small.
    """
    values = np.asarray(values, dtype=float)
    values = values[np.isfinite(values)]
    n = len(values)
    low, middle, high = np.percentile(values, (15.865, 50.0, 84.135)) if n else 3 * (np.nan,)
    scatter = float(high - low) / 2 if n > 2 else np.nan
    return Summary(
        median=float(middle),
        median_error=1.2533 * scatter / max(n, 1) ** 0.5,
        scatter=scatter,
        scatter_error=0.962 * scatter / max(n, 1) ** 0.5,
        n=n,
    )


def mean_error(values: Sequence[float] | np.ndarray) -> float:
    """Return the standard error of the mean of some values, with n - 1
    degrees of freedom; NaN with fewer than two.
    """
    n = len(values)
    return float(np.std(values, ddof=1)) / n**0.5 if n > 1 else np.nan


def share_error(found: int, n: int) -> float:
    """Return the error of the share of some that are found.

    It is half of the interval of 68.27 % of Wilson (1927, JASA 22, 209),
    which is not 0 for a share of 0 or 1, where ``sqrt(p (1 - p) / n)`` is.

    Parameters
    ----------
    found, n
        How many were found, of how many; NaN if there is none.
    """
    if not n:
        return np.nan
    low, high = binom_conf_interval(found, n, confidence_level=0.6827, interval="wilson")
    return float(high - low) / 2


def bin_values(
    values: np.ndarray,
    sources: astropy.table.Table,
    *,
    bins: Sequence[tuple[float, float]] = SNR_BINS,
    kinds: Sequence[str] = KINDS,
    chosen: np.ndarray | None = None,
) -> list[dict]:
    """Summarize values by kind and S/N of the sources.

    Parameters
    ----------
    values
        One for each source, ``(n,)``; NaN where there is none.
    sources
        As of `select_sources`; of several realizations, stacked.
    bins
        Limits of S/N: lower <= S/N < upper.
    kinds
        Out of `KINDS`.
    chosen
        Sources to use, bool ``(n,)``; `None` for the usable ones.

    Returns
    -------
    `list` [`dict`]
        One row a kind and bin, in this order: ``kind``, ``snr_low``,
        ``snr_high`` and the fields of `Summary`.
    """
    chosen = np.array(sources["usable"]) if chosen is None else chosen
    snr, kind = np.array(sources["snr"]), np.array(sources["kind"])
    members = {"any": np.full(len(kind), True), "galaxy": (kind == "small") | (kind == "large")}
    rows = []
    for name, (low, high) in itertools.product(kinds, bins):
        mine = chosen & members.get(name, kind == name) & (snr >= low) & (snr < high)
        figures = dataclasses.asdict(summarize(np.asarray(values)[mine]))
        rows.append({"kind": name, "snr_low": low, "snr_high": high, **figures})
    return rows
