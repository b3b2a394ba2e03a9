# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""The table of detections against the truth of a patch."""

import numpy as np
from astropy.table import Table

from benchmarks.detection import Peaks, describe_peaks
from lsst.images import Box, Image

BOX = Box.factory[200:300, 5000:5200]


def test_peaks_are_counted_by_their_distance_and_sources_by_magnitude():
    n_image = Image(np.full((100, 200), 10), bbox=BOX)
    n_image.array[:, 100:], n_image.array[:50, 190:] = 3, 0
    truth = Table(
        {
            "x": [5010.0, 5050.0, 5090.0, 5150.0, 5195.0],
            "y": [210.0, 250.0, 290.0, 280.0, 210.0],
            "mag": [24.6, 25.2, 25.3, 26.2, 25.4],
        }
    )
    peaks = Peaks(
        # Two of the first source, one of the second, one 4 px from the third,
        # which finds nothing and is not false, and two of nothing, one of
        # them where few exposures reach.
        x=np.array([5010.0, 5010.0, 5052.0, 5090.0, 5030.0, 5150.0]),
        y=np.array([210.0, 208.5, 250.0, 286.0, 280.0, 220.0]),
        alone=np.array([False, False, True, True, False, True]),
    )
    cells = describe_peaks(peaks, truth, n_image)
    assert cells == ["6", "2", "1", "1", "1.00 of 1", "0.50 of 2", "-", "0.00 of 1"]
