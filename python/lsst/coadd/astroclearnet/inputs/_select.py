# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Select visits and detectors by the cuts of the Science Pipelines."""

from __future__ import annotations

__all__ = ("find_exclusion", "select_inputs", "wanted_statistics")

import dataclasses
import logging
import math
from collections.abc import Callable, Collection, Mapping, Sequence

from ..adapters import InputSummary, is_measured
from ._input import CoaddInput
from ._select_config import FALLBACK, SelectInputsConfig

_MOST_NAMED = 5
"""Inputs that a warning names."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Cut:
    """One cut on a statistic of a detector."""

    field: str
    text: str
    columns: tuple[str, ...]
    compute: Callable[..., float] = float
    is_minimum: bool = False

    def find_limit(self, config: SelectInputsConfig, band: str) -> float | None:
        """Return the limit of a band; `None` if there is none."""
        limit = getattr(config, self.field)
        if not isinstance(limit, float | int | None):
            limit = limit.get(band, limit[FALLBACK])
        return None if limit == (0 if self.is_minimum else math.inf) else limit

    def find_fault(self, config: SelectInputsConfig, statistics: Mapping[str, float], band: str) -> str:
        """Say why a detector fails; empty if it does not."""
        limit = self.find_limit(config, band)
        if limit is None or any(name not in statistics for name in self.columns):
            return ""
        value = self.compute(*(statistics[name] for name in self.columns))
        if (value >= limit) if self.is_minimum else (value <= limit):
            return ""
        relation = "not finite" if math.isnan(value) else "below" if self.is_minimum else "above"
        return f"{self.text} ({value:.4g}) is {relation}: select.{self.field} is {limit:.4g}"


_CUTS = (
    _Cut(
        field="max_ellip_residual",
        text="median ellipticity residual of the PSF stars",
        columns=("psfStarDeltaE1Median", "psfStarDeltaE2Median"),
        compute=math.hypot,
    ),
    _Cut(
        field="max_size_scatter",
        text="scatter of the size residual of the PSF stars",
        columns=("psfStarDeltaSizeScatter",),
    ),
    _Cut(
        field="max_scaled_size_scatter",
        text="scaled scatter of the size residual of the PSF stars",
        columns=("psfStarScaledDeltaSizeScatter",),
    ),
    _Cut(
        field="max_psf_trace_radius_delta",
        text="range of the PSF's trace radius",
        columns=("psfTraceRadiusDelta",),
    ),
    _Cut(
        field="max_psf_ap_flux_delta",
        text="range of the PSF's aperture flux",
        columns=("psfApFluxDelta",),
    ),
    _Cut(
        field="max_psf_ap_corr_sigma_scaled_delta",
        text="scaled range of the PSF's aperture correction",
        columns=("psfApCorrSigmaScaledDelta",),
    ),
    _Cut(
        field="min_n_psf_star",
        text="number of PSF stars",
        columns=("nPsfStar",),
        is_minimum=True,
    ),
    _Cut(
        field="max_star_e",
        text="median ellipticity of the PSF stars",
        columns=("starEMedian",),
    ),
    _Cut(
        field="max_star_unnormalized_e",
        text="median unnormalized ellipticity of the PSF stars",
        columns=("starUnNormalizedEMedian",),
    ),
)
"""Cuts on detectors in the order of ``PsfWcsSelectImagesTask.isValid``
(selectImages.py:471-594); NaN fails each of them."""


def wanted_statistics(config: SelectInputsConfig) -> frozenset[str]:
    """Return the names of the summary statistics that the cuts need."""
    return frozenset(name for cut in _CUTS for name in cut.columns) | set(config.min_visit_values)


def select_inputs(
    inputs: Sequence[CoaddInput],
    summaries: Sequence[InputSummary],
    *,
    config: SelectInputsConfig,
    band: str,
    log: logging.Logger,
) -> list[str]:
    """Say for each input why it is not used.

    Parameters
    ----------
    inputs
        Exposures or warps, in any order.
    summaries
        What is known of each.
    config
        The cuts.
    band
        Band of the patch.
    log
        Takes what cuts could not be applied to.

    Returns
    -------
    `list` [`str`]
        The reason for each input; empty if it is used. What is wrong with an
        input that no cut leaves out is not said here.

    Notes
    -----
    A cut whose statistics an input does not have (an image without summary
    statistics, a column that older visit summaries lack, or have no value in)
    is not applied to it, with a warning. A statistic that is NaN fails where
    the visit summary has a value of another detector; without a visit summary
    nothing tells it from one that the file was written too early for. What
    else is on the patch makes no difference to either.
    """
    summaries = [_drop_unmeasured(summary) for summary in summaries]
    reasons = [one.skip for one in inputs]
    visits = [(str(one.data_id.get("instrument", "")), int(one.data_id["visit"])) for one in inputs]
    for n, (one, summary) in enumerate(zip(inputs, summaries, strict=True)):
        if not reasons[n]:
            reasons[n] = _find_detector_fault(one, summary, config, band)
    left_over = [n for n in range(len(inputs)) if not reasons[n]]
    whole = [n for n in left_over if not inputs[n].fault]
    wanted = {name for cut in _CUTS if cut.find_limit(config, band) is not None for name in cut.columns}
    _report_missing(inputs, summaries, whole, wanted, log)
    means = _average_visits(visits, summaries)
    usable = {visits[n] for n in whole}
    _report_unknown_means(usable, means, config, log)
    faults = _cut_visits({visits[n] for n in left_over}, usable, means, config)
    for n in left_over:
        reasons[n] = faults[visits[n]]
    return reasons


def find_exclusion(detector: int | None, config: SelectInputsConfig) -> str:
    """Say why a detector is never used; empty if it may be.

    Parameters
    ----------
    detector
        Its number; `None` for a warp as a whole, which has none.
    config
        The cuts.
    """
    excluded = detector in config.exclude_detectors
    return f"detector {detector} is in select.exclude_detectors" if excluded else ""


def _drop_unmeasured(summary: InputSummary) -> InputSummary:
    """Leave out statistics without a value, but for those that the detectors
    of the visit have: to cut on the others would drop everything that an older
    stack has processed.
    """
    measured = summary.visit.measured if summary.visit is not None else frozenset()
    known = {
        name: value
        for name, value in summary.statistics.items()
        if name in measured or is_measured(name, value)
    }
    return dataclasses.replace(summary, statistics=known)


def _find_detector_fault(
    one: CoaddInput, summary: InputSummary, config: SelectInputsConfig, band: str
) -> str:
    """Say why a detector is not used; empty if it is."""
    exclusion = find_exclusion(one.data_id.get("detector"), config)
    if exclusion:
        return exclusion
    if config.max_psf_fwhm is not None and summary.psf_fwhm > config.max_psf_fwhm:
        limit = f"select.max_psf_fwhm is {config.max_psf_fwhm:.2f}"
        return f"PSF FWHM of {summary.psf_fwhm:.2f} arcsec is above: {limit}"
    faults = (cut.find_fault(config, summary.statistics, band) for cut in _CUTS)
    return next((fault for fault in faults if fault), "")


def _average_visits(
    visits: Sequence[tuple[str, int]], summaries: Sequence[InputSummary]
) -> dict[tuple[str, int], tuple[float, Mapping[str, float]]]:
    """Return FWHM in arcsec and other means of each visit; over the
    detectors on the patch where those of the whole visit are not known.
    """
    means = {}
    for visit in set(visits):
        own = [summary for one, summary in zip(visits, summaries, strict=True) if one == visit]
        known = next((summary.visit for summary in own if summary.visit is not None), None)
        fwhm = math.nan if known is None else known.psf_fwhm
        if not math.isfinite(fwhm):
            fwhm = _mean([summary.psf_fwhm for summary in own])
        if known is not None:
            means[visit] = fwhm, known.means
            continue
        names = {name for summary in own for name in summary.statistics}
        columns = {name: [summary.statistics.get(name, math.nan) for summary in own] for name in names}
        means[visit] = fwhm, {name: _mean(values) for name, values in columns.items()}
    return means


def _mean(values: Sequence[float]) -> float:
    """Return the mean of what is finite; NaN if nothing is."""
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else math.nan


def _cut_visits(
    visits: Collection[tuple[str, int]],
    usable: Collection[tuple[str, int]],
    means: Mapping[tuple[str, int], tuple[float, Mapping[str, float]]],
    config: SelectInputsConfig,
) -> dict[tuple[str, int], str]:
    """Say for each visit why it is not used; empty if it is.

    As ``BestSeeingSelectVisitsTask.run`` (selectImages.py:719-754); visits of
    the same FWHM go by their number. Those that are not usable, because all
    their detectors have a fault, take no place among the best.
    """
    faults = {visit: _find_visit_fault(*means[visit], config) for visit in visits}
    good = (visit for visit, fault in faults.items() if not fault)
    n_chosen = 0
    for visit in sorted(good, key=lambda visit: (_rank(means[visit][0]), visit)):
        if n_chosen == config.n_visits_max:
            fwhm = means[visit][0]
            text = f"of {fwhm:.2f} arcsec" if math.isfinite(fwhm) else "that is not known"
            faults[visit] = (
                f"visit FWHM {text} is not among the best: select.n_visits_max is {config.n_visits_max}"
            )
        else:
            n_chosen += visit in usable
    return faults


def _find_visit_fault(fwhm: float, others: Mapping[str, float], config: SelectInputsConfig) -> str:
    """Say why a visit is not used; empty if it is."""
    high, low = config.max_visit_psf_fwhm, config.min_visit_psf_fwhm
    if high is not None and fwhm > high:
        return f"visit FWHM of {fwhm:.2f} arcsec is above: select.max_visit_psf_fwhm is {high:.2f}"
    if low is not None and fwhm < low:
        return f"visit FWHM of {fwhm:.2f} arcsec is below: select.min_visit_psf_fwhm is {low:.2f}"
    for name, limit in sorted(config.min_visit_values.items()):
        if name in others and not others[name] >= limit:
            return (
                f"visit mean of {name} ({others[name]:.4g}) is below: select.min_visit_values is {limit:.4g}"
            )
    return ""


def _rank(fwhm: float) -> float:
    """Order visits by seeing, those that are not known last."""
    return math.inf if math.isnan(fwhm) else fwhm


def _report_missing(
    inputs: Sequence[CoaddInput],
    summaries: Sequence[InputSummary],
    left_over: Sequence[int],
    wanted: Collection[str],
    log: logging.Logger,
) -> None:
    """Log which cuts on detectors could not be applied."""
    bare = [inputs[n].label for n in left_over if not summaries[n].statistics]
    if bare:
        log.info(
            "%d inputs have no summary statistics; of the cuts on detectors only that on the PSF FWHM is "
            "applied to them: %s.",
            len(bare),
            _name_some(bare),
        )
    missing = {n: set(wanted) - set(summaries[n].statistics) for n in left_over if summaries[n].statistics}
    blind = [inputs[n].label for n, names in missing.items() if names]
    if blind:
        log.warning(
            "Cuts on %s are not applied to %d inputs that have no value of them: %s.",
            ", ".join(sorted(set().union(*missing.values()))),
            len(blind),
            _name_some(blind),
        )


def _report_unknown_means(
    visits: Collection[tuple[str, int]],
    means: Mapping[tuple[str, int], tuple[float, Mapping[str, float]]],
    config: SelectInputsConfig,
    log: logging.Logger,
) -> None:
    """Log which cuts on visits could not be applied."""
    blind = sorted(number for instrument, number in visits if math.isnan(means[instrument, number][0]))
    limited = config.max_visit_psf_fwhm is not None or config.min_visit_psf_fwhm is not None
    if blind and (limited or config.n_visits_max >= 0):
        log.warning(
            "The PSF FWHM of these visits is not known: no limit of select.*_visit_psf_fwhm is applied to "
            "them, and select.n_visits_max takes them last: %s.",
            _name_some(blind),
        )
    for name in sorted(config.min_visit_values):
        unknown = sorted(number for instrument, number in visits if name not in means[instrument, number][1])
        if unknown:
            log.warning(
                "The cut on %s (select.min_visit_values) is not applied to visits without a value: %s.",
                name,
                _name_some(unknown),
            )


def _name_some(names: Sequence[object]) -> str:
    """Write down the first of many names: stacks have hundreds of inputs."""
    more = len(names) - _MOST_NAMED
    return "; ".join(map(str, names[:_MOST_NAMED])) + (f"; and {more} more" if more > 0 else "")
