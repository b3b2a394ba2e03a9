# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Errors of medians, scatters and shares of sources observed again."""

import numpy as np
import pytest

from benchmarks.engine import metrics


def observe(rng, *, of_source):
    """Five measurements of each of 60 sources of unequal noise, whose own
    error is the same each time, and which source each is.
    """
    sigma = 10 ** rng.uniform(-0.5, 0.5, (60, 1))
    values = sigma * (of_source * rng.normal(size=(60, 1)) + rng.normal(size=(60, 5)))
    return values, np.repeat(np.arange(60), 5)


@pytest.mark.parametrize("of_source", [0.0, 2.0])
def test_sources_that_are_observed_again_count_once(of_source):
    """The errors are what happens with other sources, not with other noise."""
    rng = np.random.default_rng(2)
    each = [metrics.summarize(*observe(rng, of_source=of_source)) for _ in range(400)]
    for name in ("median", "scatter"):
        truly = np.std([getattr(one, name) for one in each])
        assert np.mean([getattr(one, f"{name}_error") for one in each]) == pytest.approx(truly, rel=0.15)
    values, group = observe(rng, of_source=of_source)
    alone, together = metrics.summarize(values), metrics.summarize(values, group)
    assert (alone.median, alone.scatter) == (together.median, together.scatter)
    if of_source:
        assert together.median_error > 1.4 * alone.median_error


def test_standard_deviation_and_its_error():
    """Also of sources that are observed several times and alike each time."""
    rng = np.random.default_rng(5)
    found = [metrics.standard_deviation(*observe(rng, of_source=1.0)) for _ in range(300)]
    deviations, errors = np.transpose(found)
    expected = np.mean([observe(rng, of_source=1.0)[0].std() for _ in range(300)])
    assert np.mean(deviations) == pytest.approx(expected, rel=0.02)
    assert np.mean(errors) == pytest.approx(np.std(deviations), rel=0.15)
    assert np.isnan(metrics.standard_deviation(np.full(3, np.nan))).all()


def test_ratio_of_scatters_of_the_same_sources():
    """What two measurements share does not count as an error."""
    rng = np.random.default_rng(3)
    found, group = [], np.repeat(np.arange(60), 5)
    for _ in range(300):
        common, group = observe(rng, of_source=1.0)
        other = 1.2 * common + 0.3 * rng.normal(size=common.shape)
        found.append(metrics.scatter_ratio(other, common, group))
    ratios, errors = np.transpose(found)
    assert np.mean(ratios) == pytest.approx(1.2, abs=0.06)
    # Quantiles of few sources move in steps: the error is rather too large.
    assert np.std(ratios) < np.mean(errors) < 1.5 * np.std(ratios)
    one, two = metrics.summarize(other, group), metrics.summarize(common, group)
    apart = np.hypot(one.scatter_error / one.scatter, two.scatter_error / two.scatter)
    assert np.mean(errors) < 0.6 * apart


def test_shares_of_sources_that_are_observed_again():
    """Of 17 pairs, each found always or never, six observations tell no more
    than one.
    """
    rng = np.random.default_rng(4)
    found = np.repeat(rng.uniform(size=17) < 0.6, 6)
    pair = np.repeat(np.arange(17), 6)
    once = metrics.share_error(found[::6])
    assert metrics.share_error(found, pair) == pytest.approx(once, rel=0.05)
    assert metrics.share_error(np.ones(102, dtype=bool), pair) == metrics.share_error(np.ones(17, dtype=bool))
    apart = rng.uniform(size=600) < 0.6
    error = metrics.share_error(apart, np.repeat(np.arange(100), 6))
    assert error == pytest.approx(metrics.share_error(apart), rel=0.2)
