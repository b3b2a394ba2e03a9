# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Medians, scatters and shares, and their errors.

A scene is observed several times, so that most sources are measured several
times, too. Their shape, their brightness and their place in a pixel are the
same each time: five measurements of one source tell less than one measurement
of five. Errors here take groups of values that belong together, and add up
what a group has in common before squaring (cluster-robust errors, e.g. Liang &
Zeger 1986, Biometrika 73, 13).
"""

from __future__ import annotations

__all__ = (
    "KINDS",
    "SNR_BINS",
    "WIDTH_BINS",
    "Summary",
    "bin_values",
    "mean_error",
    "scatter_ratio",
    "share_error",
    "standard_deviation",
    "summarize",
)

import dataclasses
import itertools
from collections.abc import Sequence

import astropy.table
import numpy as np

SNR_BINS = ((3.0, 6.0), (6.0, 20.0), (20.0, 100.0), (100.0, np.inf))
"""Bins of S/N for fluxes."""

WIDTH_BINS = ((20.0, 50.0), (50.0, 200.0), (200.0, np.inf))
"""Bins of S/N for the widths of stars."""

KINDS = ("star", "galaxy", "small", "large", "any")
"""Kinds of sources; a galaxy is a small or a large one."""

_LOW, _HIGH = 0.15865, 0.84135
"""Shares of values below the ends of the central 68.27 %."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Summary:
    """Robust location and scatter of some values."""

    median: float
    median_error: float
    """Its standard error."""

    scatter: float
    """Half of the interval that holds the central 68.27 %."""

    scatter_error: float
    """Its standard error."""

    n: int
    """How many values were finite."""


def summarize(values: np.ndarray, groups: np.ndarray | None = None) -> Summary:
    """Summarize values of any shape.

    The error of a quantile is that of the share of values below it, turned
    into values by their own density there (Woodruff 1952, JASA 47, 635): it
    holds for values of unequal errors, too.

    Parameters
    ----------
    values
        Measurements; those that are not finite are left out.
    groups
        Labels, one for each value: equal ones are measurements of one and
        the same thing. `None` if there are no such.

    Returns
    -------
    `Summary`
        NaN without a value; errors and scatter NaN with fewer than three,
        errors with one group. The quantiles are the sample's own: the scatter
        of few values is a little too small.
    """
    values, group = _take_finite(groups, values)
    n = len(values)
    low, middle, high = np.quantile(values, (_LOW, 0.5, _HIGH)) if n else 3 * (np.nan,)
    return Summary(
        median=float(middle),
        median_error=_sum_groups(_influence(values, 0.5), group),
        scatter=float(high - low) / 2 if n > 2 else np.nan,
        scatter_error=_sum_groups(_scatter_influence(values), group),
        n=n,
    )


def scatter_ratio(
    values: np.ndarray, others: np.ndarray, groups: np.ndarray | None = None
) -> tuple[float, float]:
    """Compare the scatters of two measurements of the same sources.

    What both have in common, e.g. the noise of the same exposures, is not
    counted as an error of their ratio.

    Parameters
    ----------
    values, others
        Measurements in the same order; those of which one is not finite are
        left out.
    groups
        As of `summarize`.

    Returns
    -------
    ratio, error
        Scatter of ``values`` over that of ``others``.
    """
    values, others, group = _take_finite(groups, values, others)
    scatter, reference = summarize(values).scatter, summarize(others).scatter
    influence = _scatter_influence(values) / scatter - _scatter_influence(others) / reference
    ratio = scatter / reference
    return ratio, ratio * _sum_groups(influence, group)


def standard_deviation(values: np.ndarray, groups: np.ndarray | None = None) -> tuple[float, float]:
    """Return the standard deviation of values and its error.

    Unlike `Summary.scatter` it holds the few that are far away.

    Parameters
    ----------
    values
        Those that are not finite are left out.
    groups
        As of `summarize`.
    """
    values, group = _take_finite(groups, values)
    if not len(values):
        return np.nan, np.nan
    deviation = values - values.mean()
    found = float(values.std())
    return found, _sum_groups(0.5 * (deviation**2 / found - found), group)


def _take_finite(groups: np.ndarray | None, *columns: np.ndarray) -> list[np.ndarray]:
    """Return flat columns where all are finite, and numbers of the groups."""
    flat = [np.asarray(column, dtype=float).ravel() for column in columns]
    labels = np.arange(len(flat[0])) if groups is None else np.asarray(groups)
    finite = np.all(np.isfinite(flat), axis=0)
    return [*(column[finite] for column in flat), np.unique(labels[finite], return_inverse=True)[1]]


def _influence(values: np.ndarray, share: float) -> np.ndarray:
    """By how much each value moves a quantile, ``n`` times; their mean is
    0, and the error of it that of the quantile.
    """
    if len(values) < 3:
        return np.full(len(values), np.nan)
    reach = 2 * (share * (1 - share) / len(values)) ** 0.5
    ends = np.clip((share - reach, share + reach), 0, 1)
    low, here, high = np.quantile(values, (ends[0], share, ends[1]))
    below = values <= here
    return (high - low) / (ends[1] - ends[0]) * (np.mean(below) - below)


def _scatter_influence(values: np.ndarray) -> np.ndarray:
    return (_influence(values, _HIGH) - _influence(values, _LOW)) / 2


def _sum_groups(influence: np.ndarray, group: np.ndarray) -> float:
    """Return the standard error of the mean of values that hang together in
    groups; NaN with one group.
    """
    sums = np.bincount(group, influence)
    count = len(sums)
    if count < 2:
        return np.nan
    return float(np.sqrt(np.sum(sums**2) * count / (count - 1)) / len(influence))


def mean_error(values: Sequence[float] | np.ndarray) -> float:
    """Return the standard error of the mean of some values, with n - 1
    degrees of freedom; NaN with fewer than two.
    """
    n = len(values)
    return float(np.std(values, ddof=1)) / n**0.5 if n > 1 else np.nan


def share_error(found: np.ndarray, groups: np.ndarray | None = None) -> float:
    """Return the error of the share of some that are found.

    It is half of the interval of 68.27 % of Wilson (1927, JASA 22, 209),
    which is not 0 for a share of 0 or 1, where ``sqrt(p (1 - p) / n)`` is. The
    number in it is that of independent ones: by as much smaller as the
    squared error of the mean is larger for the groups.

    Parameters
    ----------
    found
        Which were found, bool ``(n,)``.
    groups
        As of `summarize`. If all are found, or none, a group counts as one.

    Returns
    -------
    `float`
        NaN if there is none.
    """
    found = np.asarray(found, dtype=float)
    n = len(found)
    if not n:
        return np.nan
    share, number = found.mean(), n
    if groups is not None:
        group = np.unique(groups, return_inverse=True)[1]
        count = group.max() + 1
        if 0 < share < 1 and count > 1:
            ratio = _sum_groups(found - share, group) / _sum_groups(found - share, np.arange(n))
            number = n / max(ratio**2, 1.0)
        else:
            number = count
    return float(np.sqrt(share * (1 - share) / number + 1 / (4 * number**2)) / (1 + 1 / number))


def bin_values(
    values: np.ndarray,
    sources: astropy.table.Table,
    *,
    bins: Sequence[tuple[float, float]] = SNR_BINS,
    kinds: Sequence[str] = KINDS,
) -> list[dict]:
    """Summarize values by kind and S/N of the sources.

    Parameters
    ----------
    values
        One for each source, ``(n,)``; NaN where there is none.
    sources
        As of `select_sources`, of which the usable ones count; of several
        realizations, stacked. Rows with
        the same ``object``, if there is such a column, are one source.
    bins
        Limits of S/N: lower <= S/N < upper.
    kinds
        Out of `KINDS`.

    Returns
    -------
    `list` [`dict`]
        One row a kind and bin, in this order: ``kind``, ``snr_low``,
        ``snr_high`` and the fields of `Summary`.
    """
    chosen = np.array(sources["usable"])
    snr, kind = np.array(sources["snr"]), np.array(sources["kind"])
    members = {"any": np.full(len(kind), True), "galaxy": (kind == "small") | (kind == "large")}
    same = np.array(sources["object"]) if "object" in sources.colnames else np.arange(len(kind))
    rows = []
    for name, (low, high) in itertools.product(kinds, bins):
        mine = chosen & members.get(name, kind == name) & (snr >= low) & (snr < high)
        figures = dataclasses.asdict(summarize(np.asarray(values)[mine], same[mine]))
        rows.append({"kind": name, "snr_low": low, "snr_high": high, **figures})
    return rows
