# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""A target, and the numbers that decide whether it is reached."""

from __future__ import annotations

__all__ = ("Check", "Target", "check_mean", "check_share", "check_within", "number_checks")

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from . import metrics


@dataclasses.dataclass(frozen=True, kw_only=True)
class Check:
    """One number with its limits."""

    label: str
    value: float
    error: float = float("nan")
    low: float = -np.inf
    high: float = np.inf
    scale: float = 1.0
    """Factor for print, e.g. 100 for per cent."""

    @property
    def passed(self) -> bool:
        """Whether the value is within its limits; a missing one is not."""
        return bool(np.isfinite(self.value) and self.low <= self.value <= self.high)

    def __str__(self) -> str:
        error = f" +- {self.scale * self.error:.2g}" if np.isfinite(self.error) else ""
        return f"{self.label} {self.scale * self.value:.3g}{error}{'' if self.passed else ' (!)'}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Target:
    """A row of the targets."""

    number: int
    quantity: str
    wanted: str
    checks: tuple[Check, ...]

    @property
    def reached(self) -> bool:
        """Whether there are checks, and all pass."""
        return bool(self.checks) and all(check.passed for check in self.checks)


def check_within(label: str, values: np.ndarray, limit: float, groups: np.ndarray | None = None) -> Check:
    """Check that the median is within a limit of 0; in per cent. Groups are
    those of `~benchmarks.engine.metrics.summarize`.
    """
    summary = metrics.summarize(values, groups)
    error = summary.median_error
    return Check(label=label, value=summary.median, error=error, low=-limit, high=limit, scale=100)


def check_share(label: str, values: np.ndarray, groups: np.ndarray | None = None, **limits: float) -> Check:
    """Check the share of what is true. Groups are those of
    `~benchmarks.engine.metrics.share_error`.
    """
    share = float(np.mean(values)) if len(values) else np.nan
    return Check(label=label, value=share, error=metrics.share_error(values, groups), **limits)


def check_mean(label: str, values: Sequence[float] | np.ndarray, **limits: float) -> Check:
    """Check the mean."""
    value = float(np.mean(values)) if len(values) else np.nan
    return Check(label=label, value=value, error=metrics.mean_error(values), **limits)


def number_checks(number: int, checks: Iterable[Check]) -> Iterator[Check]:
    """Put the number of the target in front of what is checked for it."""
    for check in checks:
        yield dataclasses.replace(check, label=f"({number}) {check.label}")
