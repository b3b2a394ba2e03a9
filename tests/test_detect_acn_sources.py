# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Detection by the task of the stack, with the noise between sources."""

import numpy as np
import pytest
import scipy.ndimage

pytest.importorskip(
    "lsst.meas.algorithms", reason="a part of the full LSST stack, not on PyPI", exc_type=ImportError
)

import lsst.afw.image  # noqa: E402
import lsst.afw.table  # noqa: E402
import lsst.geom  # noqa: E402
from lsst.coadd.astroclearnet.detect_acn_sources import DetectAcnSourcesTask  # noqa: E402
from lsst.meas.algorithms import DynamicDetectionTask, SingleGaussianPsf  # noqa: E402

SIZE, CORNER, SIGMA = 400, (5000, 200), 1.06
QUIET, LOUD = 1.0, 8.0
"""Noise of the left and of the right half, where few exposures reach."""

STARS = [(60 + 70 * column, 60 + 70 * row) for column in range(5) for row in range(5)]
"""Places x, y in the array."""


@pytest.fixture
def exposure():
    """Correlated noise, a corner without data, and stars; each adds much to
    the variance at its place.
    """
    box = lsst.geom.Box2I(lsst.geom.Point2I(*CORNER), lsst.geom.Extent2I(SIZE, SIZE))
    exposure = lsst.afw.image.ExposureF(box)
    exposure.setPsf(SingleGaussianPsf(21, 21, SIGMA))
    noise = scipy.ndimage.gaussian_filter(np.random.default_rng(3).normal(size=(SIZE, SIZE)), 1.5)
    level = np.where(np.arange(SIZE) < SIZE // 2, QUIET, LOUD)
    rows, columns = np.indices((SIZE, SIZE))
    image, variance = noise / noise.std() * level, np.broadcast_to(level**2, (SIZE, SIZE)).copy()
    for x, y in STARS:
        star = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * SIGMA**2))
        image += 14 * level[x] * star
        variance += (6 * level[x] * star) ** 2
    empty = (rows < 30) & (columns < 30)
    exposure.image.array[:] = np.where(empty, 0, image)
    exposure.variance.array[:] = np.where(empty, 1e12, variance)
    exposure.mask.array[empty] = exposure.mask.getPlaneBitMask("NO_DATA")
    return exposure


def detect(exposure, task_class, threshold_type):
    """Return the places of the peaks in the array, ``(n, 2)``, the task and
    the sources.
    """
    config = task_class.ConfigClass()
    config.thresholdType, config.doThresholdScaling = threshold_type, False
    config.reEstimateBackground = config.doBackgroundTweak = config.doTempWideBackground = False
    schema = lsst.afw.table.SourceTable.makeMinimalSchema()
    task = task_class(schema=schema, config=config)
    sources = task.run(lsst.afw.table.SourceTable.make(schema), exposure, expId=1).sources
    peaks = [peak for source in sources for peak in source.getFootprint().getPeaks()]
    return np.array([[peak.getIx(), peak.getIy()] for peak in peaks]) - CORNER, task, sources


def count(peaks):
    """Return how many stars were found, and how many peaks are none."""
    distance = np.hypot(*(peaks[:, None] - np.array(STARS)).transpose(2, 0, 1))
    return int((distance.min(axis=0) < 3).sum()), int((distance.min(axis=1) > 4).sum())


def test_stars_are_found_where_few_exposures_reach_and_no_noise(exposure):
    before = exposure.clone()
    peaks, task, sources = detect(exposure, DetectAcnSourcesTask, "pixel_stdev")
    found, false = count(peaks)
    assert found == len(STARS) and false <= 1
    assert 2.0 < task.metadata["noise_scatter"] < 4.0
    # What is written elsewhere than in the mask is what was there.
    np.testing.assert_array_equal(exposure.image.array, before.image.array)
    np.testing.assert_array_equal(exposure.variance.array, before.variance.array)
    assert len(sources) == len(peaks)


@pytest.mark.parametrize("threshold_type", ["pixel_stdev", "stdev"])
def test_upstream_task_finds_noise_and_loses_stars(exposure, threshold_type):
    """So that this task is needed."""
    found, false = count(detect(exposure, DynamicDetectionTask, threshold_type)[0])
    assert found < len(STARS)
    assert false > 100


def test_image_without_data_is_an_error_of_the_stack(exposure):
    """As in the task that it replaces; nothing of ours comes before."""
    exposure.mask.array[:] |= exposure.mask.getPlaneBitMask("NO_DATA")
    with pytest.raises(Exception, match="very low good pixel fraction"):
        detect(exposure, DetectAcnSourcesTask, "pixel_stdev")


def test_image_without_noise_that_could_be_measured_is_left(exposure):
    """All pixels are saturated: nothing tells their noise."""
    exposure.mask.array[:] |= exposure.mask.getPlaneBitMask("SAT")
    task = DetectAcnSourcesTask(schema=lsst.afw.table.SourceTable.makeMinimalSchema())
    upstream = DynamicDetectionTask(schema=lsst.afw.table.SourceTable.makeMinimalSchema())
    ours, theirs = (one.convolveImage(exposure.maskedImage, exposure.psf) for one in (task, upstream))
    np.testing.assert_array_equal(ours.middle.variance.array, theirs.middle.variance.array)
    assert ours.sigma == theirs.sigma
