# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Selection of visits and detectors: each cut, and what is said of it."""

from __future__ import annotations

import dataclasses
import logging
import math

import pytest

from lsst.coadd.astroclearnet.adapters import InputSummary, VisitStatistics
from lsst.coadd.astroclearnet.inputs._input import CoaddInput
from lsst.coadd.astroclearnet.inputs._select import select_inputs, wanted_statistics
from lsst.coadd.astroclearnet.inputs._select_config import SelectInputsConfig

GOOD = {
    "psfSigma": 1.6,
    "pixelScale": 0.168,
    "nPsfStar": 60.0,
    "psfStarDeltaE1Median": 0.001,
    "psfStarDeltaE2Median": -0.002,
    "psfStarDeltaSizeScatter": 0.01,
    "psfStarScaledDeltaSizeScatter": 0.008,
    "psfTraceRadiusDelta": 0.1,
    "psfApFluxDelta": 0.05,
    "psfApCorrSigmaScaledDelta": 0.04,
    "starEMedian": 0.1,
    "starUnNormalizedEMedian": 0.5,
}
LABELS = ("visit=1 detector=50", "visit=2 detector=50")
LOG = logging.getLogger("test_select")


def make_input(visit=1, detector=50, **fields):
    data_id = {"instrument": "HSC", "visit": visit, "detector": detector}
    return CoaddInput(exposure_or_handle=None, data_id=data_id, **fields)


def select(summaries, inputs=None, band="i", **fields):
    config = SelectInputsConfig()
    config.update(**fields)
    config.validate()
    inputs = inputs or [make_input(visit=n + 1) for n in range(len(summaries))]
    return select_inputs(inputs, summaries, config=config, band=band, log=LOG)


def summary(fwhm=0.7, visit=None, **changes):
    return InputSummary(psf_fwhm=fwhm, statistics={**GOOD, **changes}, visit=visit)


def test_statistics_are_those_of_the_cuts():
    assert wanted_statistics(SelectInputsConfig()) == set(GOOD) - {"psfSigma", "pixelScale"}


def test_good_input_is_selected():
    assert select([summary()]) == [""]


CUTS = {
    "max_ellip_residual": ({"psfStarDeltaE1Median": 0.005, "psfStarDeltaE2Median": 0.005}, 0.008, None),
    "max_scaled_size_scatter": ({"psfStarScaledDeltaSizeScatter": 0.02}, 0.021, None),
    "max_psf_trace_radius_delta": ({"psfTraceRadiusDelta": 0.8}, 0.9, None),
    "max_psf_ap_flux_delta": ({"psfApFluxDelta": 0.25}, 0.26, None),
    "max_psf_ap_corr_sigma_scaled_delta": ({"psfApCorrSigmaScaledDelta": 0.23}, 0.24, None),
    "min_n_psf_star": ({"nPsfStar": 5.0}, {"fallback": 5}, {"fallback": 0}),
    "max_star_e": ({"starEMedian": 0.5}, {"fallback": 0.6}, {"fallback": math.inf}),
    "max_star_unnormalized_e": ({"starUnNormalizedEMedian": 3.0}, {"fallback": 3.1}, {"fallback": math.inf}),
}
"""Values that the default rejects, a limit that takes them, no limit."""


@pytest.mark.parametrize("field", CUTS)
def test_each_cut_on_detectors(field):
    values, wider, none = CUTS[field]
    reasons = select([summary(**values), summary()])
    assert f"select.{field} is" in reasons[0] and reasons[1] == ""
    assert select([summary(**values)], **{field: wider}) == [""]
    assert select([summary(**values)], **{field: none}) == [""]


@pytest.mark.parametrize("field", [*CUTS, "max_size_scatter"])
def test_value_that_is_not_a_number_fails(field):
    """As in the stack: a statistic that could not be measured is no pass where
    other detectors of the visit have it, on the patch or not.
    """
    names = CUTS[field][0] if field in CUTS else ["psfStarDeltaSizeScatter"]
    limits = {} if field in CUTS else {field: 0.1}
    visit = VisitStatistics(psf_fwhm=0.7, measured=frozenset(names))
    bad = summary(visit=visit, **dict.fromkeys(names, math.nan))
    for others in ([], [summary()]):
        reason, *rest = select([bad, *others], **limits)
        assert f"select.{field} is" in reason and "not finite" in reason and not any(rest)


@pytest.mark.parametrize("field", [*CUTS, "max_size_scatter"])
def test_value_that_a_file_may_lack_is_not_cut_on(field, caplog):
    """Files of an older stack are read with NaN, or 0 stars. What else is on
    the patch makes no difference.
    """
    names = CUTS[field][0] if field in CUTS else ["psfStarDeltaSizeScatter"]
    limits = {} if field in CUTS else {field: 0.1}
    old = summary(**{name: 0.0 if name == "nPsfStar" else math.nan for name in names})
    assert select([old, old, InputSummary(psf_fwhm=0.7)], **limits) == ["", "", ""]
    (record,) = [one for one in caplog.records if one.getMessage().startswith("Cuts on")]
    assert record.levelname == "WARNING" and all(name in record.getMessage() for name in names)
    assert record.getMessage().endswith("to 2 inputs that have no value of them: " + "; ".join(LABELS) + ".")
    for others in ([], [summary()]):
        assert select([old, *others], **limits)[0] == ""
        unmeasured = VisitStatistics(psf_fwhm=0.7, measured=frozenset(GOOD) - set(names))
        assert select([dataclasses.replace(old, visit=unmeasured), *others], **limits)[0] == ""


def test_file_without_any_statistic_is_judged_by_its_width(caplog):
    """The first files with summary statistics have none of the PSF stars."""
    old = summary(**{name: 0.0 if name == "nPsfStar" else math.nan for name in GOOD})
    with caplog.at_level(logging.INFO):
        assert select([old, old]) == ["", ""]
    assert "2 inputs have no summary statistics" in caplog.text


def test_mean_that_a_visit_lacks_is_not_cut_on():
    old = summary(effTimeZeroPointScale=math.nan)
    fields = {"min_visit_values": {"effTimeZeroPointScale": 0.75}}
    assert select([old, old], **fields) == ["", ""]
    assert select([old, summary(effTimeZeroPointScale=0.7)], **fields)[0] == ""


def test_visits_without_a_value_to_cut_on_are_named(caplog):
    """A warp without its visit summary has none: nobody shall think that it
    was judged.
    """
    fields = {"min_visit_values": {"effTimeZeroPointScale": 0.75}}
    bare = InputSummary(psf_fwhm=0.7, statistics={}, visit=None)
    with caplog.at_level(logging.WARNING):
        assert select([bare, summary(effTimeZeroPointScale=0.8)], **fields) == ["", ""]
    assert "effTimeZeroPointScale (select.min_visit_values) is not applied to visits without a value: 1." in (
        caplog.text
    )


def test_size_scatter_is_cut_if_asked_for():
    assert select([summary(psfStarDeltaSizeScatter=0.3)]) == [""]
    (reason,) = select([summary(psfStarDeltaSizeScatter=0.3)], max_size_scatter=0.2)
    assert "select.max_size_scatter is 0.2" in reason


def test_limits_may_differ_by_band():
    fields = {"max_star_e": {"u": 0.6, "fallback": 0.4}, "min_n_psf_star": {"u": 3, "fallback": 6}}
    one = summary(starEMedian=0.5, nPsfStar=4.0)
    assert select([one], band="u", **fields) == [""]
    assert select([one], band="g", **fields) != [""]


def test_width_of_a_detector():
    reasons = select([summary(1.9), summary(1.7)])
    assert reasons == ["PSF FWHM of 1.90 arcsec is above: select.max_psf_fwhm is 1.80", ""]
    assert select([summary(1.9)], max_psf_fwhm=None) == [""]


def test_excluded_detectors():
    inputs = [make_input(detector=9), make_input(detector=10)]
    reasons = select([summary(), summary()], inputs, exclude_detectors=[9])
    assert reasons == ["detector 9 is in select.exclude_detectors", ""]


def test_width_of_a_visit_is_that_of_all_its_detectors():
    """Two thirds of a visit outside of the patch may be broad."""
    broad = VisitStatistics(psf_fwhm=2.2)
    reasons = select([summary(visit=broad), summary()])
    assert reasons == ["visit FWHM of 2.20 arcsec is above: select.max_visit_psf_fwhm is 2.00", ""]
    assert select([summary(visit=broad)], max_visit_psf_fwhm=None) == [""]
    (reason,) = select([summary(0.4)], min_visit_psf_fwhm=0.5)
    assert "below: select.min_visit_psf_fwhm is 0.50" in reason


def test_width_of_a_visit_without_a_summary_is_that_of_its_detectors_here():
    inputs = [make_input(visit=7, detector=n) for n in (1, 2)] + [make_input(visit=8)]
    reasons = select([summary(1.0), summary(1.4), summary(1.1)], inputs, max_visit_psf_fwhm=1.15)
    assert all("visit FWHM of 1.20 arcsec" in reason for reason in reasons[:2]) and reasons[2] == ""


def test_means_of_a_visit():
    fields = {"min_visit_values": {"effTimeZeroPointScale": 0.75}}
    bad, good = (
        VisitStatistics(psf_fwhm=0.7, means={"effTimeZeroPointScale": value}) for value in (0.7, 0.8)
    )
    reasons = select([summary(visit=bad), summary(visit=good), summary()], **fields)
    assert "effTimeZeroPointScale (0.7) is below" in reasons[0] and reasons[1:] == ["", ""]
    (reason,) = select([summary(effTimeZeroPointScale=0.5)], **fields)
    assert "effTimeZeroPointScale" in reason


def test_best_visits_by_seeing():
    widths = {11: 0.9, 12: 0.6, 13: 0.8, 14: 0.6, 15: 0.7}
    inputs = [make_input(visit=visit) for visit in widths]
    summaries = [summary(fwhm) for fwhm in widths.values()]

    def chosen(n):
        reasons = select(summaries, inputs, n_visits_max=n)
        return {one.data_id["visit"] for one, reason in zip(inputs, reasons, strict=True) if not reason}

    assert chosen(2) == {12, 14} and chosen(1) == {12}  # the first of equals by number
    assert chosen(3) == {12, 14, 15} and chosen(-1) == set(widths)
    reasons = select(summaries, inputs, n_visits_max=4)
    assert reasons[0] == "visit FWHM of 0.90 arcsec is not among the best: select.n_visits_max is 4"


def test_order_of_inputs_does_not_matter():
    inputs = [make_input(visit=visit, detector=d) for visit in (1, 2, 3) for d in (4, 5)]
    summaries = [summary(0.6 + 0.1 * (n % 4)) for n in range(6)]
    forward = select(summaries, inputs, n_visits_max=2)
    assert select(summaries[::-1], inputs[::-1], n_visits_max=2) == forward[::-1]


def test_visits_without_a_usable_detector_are_not_counted():
    """The best visit has one detector here, and a poor PSF model."""
    inputs = [make_input(visit=visit) for visit in (1, 2, 3)]
    summaries = [summary(0.5, nPsfStar=2.0), summary(0.6), summary(0.7)]
    reasons = select(summaries, inputs, n_visits_max=1)
    assert "min_n_psf_star" in reasons[0] and reasons[1] == "" and "n_visits_max" in reasons[2]


def test_visits_whose_width_is_not_known_come_last():
    inputs = [make_input(visit=visit) for visit in (1, 2)]
    reasons = select([InputSummary(), summary(1.5)], inputs, n_visits_max=1)
    assert reasons[1] == ""
    assert reasons[0] == "visit FWHM that is not known is not among the best: select.n_visits_max is 1"


def test_width_that_a_summary_does_not_know_is_that_of_the_detectors(caplog):
    """A summary whose sizes were not measured says NaN."""
    unknown = VisitStatistics(psf_fwhm=math.nan, means={"effTime": 30.0})
    summaries = [summary(1.6, visit=unknown), summary(0.8, visit=unknown)]
    reasons = select(summaries, max_visit_psf_fwhm=1.5, min_visit_values={"effTime": 20.0})
    assert reasons == ["visit FWHM of 1.60 arcsec is above: select.max_visit_psf_fwhm is 1.50", ""]
    reasons = select(summaries, n_visits_max=1)
    assert "n_visits_max" in reasons[0] and reasons[1] == ""
    assert "is not known" not in caplog.text


def test_visits_whose_width_is_not_known_are_named(caplog):
    inputs = [make_input(visit=visit) for visit in (7, 8)]
    unlimited = {"max_visit_psf_fwhm": None}
    assert select([InputSummary(), summary(1.5)], inputs, **unlimited) == ["", ""]
    assert "FWHM" not in caplog.text
    for fields in ({}, {**unlimited, "n_visits_max": 1}, {**unlimited, "min_visit_psf_fwhm": 0.5}):
        caplog.clear()
        reasons = select([InputSummary(), summary(1.5)], inputs, **fields)
        (record,) = [one for one in caplog.records if "PSF FWHM of these visits" in one.getMessage()]
        assert record.levelname == "WARNING" and record.getMessage().endswith("takes them last: 7.")
    assert reasons == ["", ""]


def test_inputs_that_the_caller_leaves_out_stay_out():
    inputs = [make_input(visit=1, skip="its visit has no artifact mask"), make_input(visit=2)]
    assert select([summary(), summary()], inputs) == ["its visit has no artifact mask", ""]


@pytest.mark.parametrize(
    ("bad", "fields", "field"),
    [
        (summary(), {"exclude_detectors": [9]}, "exclude_detectors"),
        (summary(1.9), {}, "max_psf_fwhm"),
        (summary(nPsfStar=2.0), {}, "min_n_psf_star"),
        (summary(visit=VisitStatistics(psf_fwhm=2.2)), {}, "max_visit_psf_fwhm"),
        (summary(1.0), {"n_visits_max": 1}, "n_visits_max"),
    ],
)
def test_faults_of_what_a_cut_leaves_out_are_none(bad, fields, field):
    """Nobody needs its skyCorr."""
    inputs = [make_input(visit=1, detector=9, fault="has no skyCorr"), make_input(visit=2)]
    reasons = select([bad, summary()], inputs, **fields)
    assert f"select.{field}" in reasons[0] and reasons[1] == ""


def test_faults_are_left_to_registration():
    """They are reported there, and take no place of a good visit."""
    inputs = [make_input(visit=1, fault="has no background_apply"), make_input(visit=2)]
    assert select([summary(0.5), summary()], inputs, n_visits_max=1) == ["", ""]


def test_lines_about_a_deep_stack_are_short(caplog):
    """Each is there for every patch of a run."""
    n, fields = 300, {"min_visit_values": {"effTimeZeroPointScale": 0.75}, "n_visits_max": 200}
    bare = InputSummary(psf_fwhm=math.nan, statistics={}, visit=None)
    with caplog.at_level(logging.INFO):
        select([bare] * n, [make_input(visit=k, detector=50) for k in range(n)], **fields)
    assert len(caplog.records) == 3
    for record in caplog.records:
        assert "and 295 more" in record.getMessage() and len(record.getMessage()) < 400


def test_input_without_statistics_is_judged_by_its_width(caplog):
    """Images made elsewhere have none; that is said."""
    with caplog.at_level(logging.INFO):
        assert select([InputSummary(psf_fwhm=0.8), summary()]) == ["", ""]
    assert "1 inputs have no summary statistics" in caplog.text and "visit=1 detector=50" in caplog.text
    assert "above" in select([InputSummary(psf_fwhm=1.9)])[0]


def test_column_that_is_not_there_is_named(caplog):
    """Visit summaries of older repositories lack some."""
    old = {name: value for name, value in GOOD.items() if name != "starUnNormalizedEMedian"}
    with caplog.at_level(logging.INFO):
        assert select([InputSummary(psf_fwhm=0.7, statistics=old)]) == [""]
    assert "Cuts on starUnNormalizedEMedian are not applied" in caplog.text
