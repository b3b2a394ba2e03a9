# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Mask planes of a result, from those of its inputs."""

import numpy as np
import pytest
from _output_data import BOX, CELL, make_geometry, make_warped

from lsst.coadd.astroclearnet.adapters import OUTPUT_PLANES, combine_planes
from lsst.coadd.astroclearnet.core import Plane


@pytest.fixture
def geometry():
    return make_geometry()


def combine(warped, **arrays):
    counts = {"n_image": sum(np.asarray(pad(one)) for one in warped), "n_rejected": np.zeros(BOX.shape, int)}
    counts["filled"] = np.zeros(BOX.shape, bool)
    return combine_planes(
        warped, x0=18000, y0=17400, bad=Plane.BAD | Plane.SATURATED, cell_size=CELL, **{**counts, **arrays}
    )


def pad(one):
    good = np.zeros(BOX.shape, np.uint16)
    here, there = one.slices_within(x0=18000, y0=17400, height=120, width=160)
    good[there] = one.good[here]
    return good


def test_mask_planes_of_a_result(geometry):
    """Each plane says what its definition says."""
    bad = np.zeros((160, 200), np.uint32)
    bad[60, 60] = Plane.BAD  # patch pixel (40, 40)
    bad[100:110, 100:110] = Plane.COSMIC_RAY  # not left out
    bad[120, 120] = Plane.SATURATED  # patch pixel (100, 100)
    harmless = ("ITL_DIP", "INJECTED", "INJECTED_CORE", "FAKE")
    for n, name in enumerate(harmless):
        bad[130, 30 + n] = Plane[name]  # patch pixel (110, 10 + n)
    whole = {"offset": (-20, -20), "size": (160, 200)}
    half = {"offset": (-20, -20), "size": (160, 120)}  # ends at patch column 100
    warped = [make_warped(geometry, visit=n, **whole) for n in range(9)]
    warped += [make_warped(geometry, visit=20, flags=bad, **whole), make_warped(geometry, visit=21, **half)]
    rejected = np.zeros(BOX.shape, int)
    rejected[10, 20] = 2
    filled = np.zeros(BOX.shape, bool)
    filled[20, 30] = True
    planes = combine(warped, n_rejected=rejected, filled=filled)
    assert np.argwhere(planes["INTERPOLATED"]).tolist() == [[20, 30]]
    assert {*planes, "ACN_UNTRUSTED", "BRIGHT_OBJECT"} == {plane.name for plane in OUTPUT_PLANES}
    # As in the stack, a plane that was left out is not passed on: else every
    # pixel of a deep coadd would be BAD.
    assert not planes["BAD"].any()
    assert planes["COSMIC_RAY"].sum() == 100 and planes["COSMIC_RAY"][80:90, 80:90].all()
    for n, name in enumerate(harmless):
        assert np.argwhere(planes[name]).tolist() == [[110, 10 + n]]
    assert not planes["REJECTED"][110].any()
    assert not planes["SATURATED"].any()  # 1 of 11 inputs is not more than 10 %
    assert np.argwhere(planes["CLIPPED"]).tolist() == [[10, 20]]
    assert planes["REJECTED"][10, 20] and planes["REJECTED"][40, 40] and not planes["REJECTED"][80:90].any()
    # Row 5: one input ends near column 100; columns 80-119 are one cell.
    edge = np.flatnonzero(planes["SENSOR_EDGE"][5])
    assert 92 <= edge.min() and edge.max() < 100
    inexact = np.flatnonzero(planes["INEXACT_PSF"][5])
    assert inexact.min() == edge.min() and inexact.max() == 119
    for plane in ("REJECTED", "SENSOR_EDGE"):
        assert planes["INEXACT_PSF"][planes[plane]].all()
    assert not planes["NO_DATA"].any()


def test_where_nothing_was_used_no_plane_speaks_of_what_was(geometry):
    """The fit of a cell failed, or all was clipped."""
    names = ("INTERPOLATED", "COSMIC_RAY", "STREAK", "SUSPECT")
    flags = np.full((160, 200), sum(Plane[name] for name in names), np.uint32)
    one = make_warped(geometry, offset=(-20, -20), size=(160, 200), flags=flags)
    n_image = np.ones(BOX.shape, np.uint16)
    n_image[40:80, 80:120] = n_image[7, 8] = 0
    planes = combine([one], n_image=n_image)
    for name in names:
        np.testing.assert_array_equal(planes[name], n_image > 0)
    np.testing.assert_array_equal(planes["NO_DATA"], n_image == 0)


def test_hole_in_a_frame_is_not_its_end(geometry):
    flags = np.zeros((160, 200), np.uint32)
    flags[60:65, 60:65] = Plane.NO_DATA  # patch pixels (40:45, 40:45)
    whole = {"offset": (-20, -20), "size": (160, 200)}
    planes = combine(
        [make_warped(geometry, visit=1, **whole), make_warped(geometry, visit=2, flags=flags, **whole)]
    )
    assert not planes["SENSOR_EDGE"].any()
    # Interpolation takes two pixels more on each side.
    assert np.argwhere(planes["INEXACT_PSF"]).min() == 38 and planes["INEXACT_PSF"].sum() == 81


def test_saturation_counts_by_the_weight_that_it_takes(geometry):
    """As maskPropagationThresholds of the stack: above 10 %."""
    flags = np.zeros((160, 200), np.uint32)
    flags[120, 120] = Plane.SATURATED  # patch pixel (100, 100)
    whole = {"offset": (-20, -20), "size": (160, 200)}
    others = [make_warped(geometry, visit=n, **whole) for n in range(8)]
    for variance, expected in ((4, True), (8, False)):  # 1 / 9, 1 / 17 of the weight
        one = make_warped(geometry, visit=20, flags=flags, variance=variance, **whole)
        assert combine([*others, one])["SATURATED"][100, 100] == expected


def test_no_data_plane(geometry):
    planes = combine([make_warped(geometry, offset=(50, -20), size=(160, 200))])
    assert planes["NO_DATA"][:, :50].all() and not planes["NO_DATA"][:, 53:].any()
