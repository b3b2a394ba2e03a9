# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Mask planes of a result, from those of its inputs."""

import dataclasses

import numpy as np
import pytest
from _output_data import BOX, CELL, make_geometry, make_warped

from lsst.coadd.astroclearnet.adapters import OUTPUT_PLANES, combine_planes
from lsst.coadd.astroclearnet.core import Plane
from lsst.coadd.astroclearnet.core.warp._register import WarpedExposure


@pytest.fixture
def geometry():
    return make_geometry()


def combine(warped, *, bad=Plane.BAD | Plane.SATURATED, **arrays):
    counts = {"n_image": sum(np.asarray(pad(one)) for one in warped), "n_rejected": np.zeros(BOX.shape, int)}
    counts["filled"] = np.zeros(BOX.shape, bool)
    return combine_planes(warped, x0=18000, y0=17400, bad=bad, cell_size=CELL, **{**counts, **arrays})


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


def test_saturated_values_that_are_let_in_are_told(geometry):
    """However little of the weight they have, as the definition says."""
    flags = np.zeros((160, 200), np.uint32)
    flags[120, 120] = Plane.SATURATED
    whole = {"offset": (-20, -20), "size": (160, 200)}
    one = make_warped(geometry, visit=20, flags=flags, **whole)
    one = dataclasses.replace(one, good=np.ones_like(one.good))
    planes = combine([*(make_warped(geometry, visit=n, **whole) for n in range(19)), one], bad=Plane.BAD)
    assert planes["SATURATED"][100, 100] and not planes["REJECTED"].any()


@pytest.mark.parametrize("plane", ["SATURATED", "BAD"])
def test_masked_pixel_counts_without_a_value_too(geometry, plane):
    """Weights of many archives are 0 where the mask says something, and
    lsst/afw 714e0ed6d Statistics.cc:239-253 counts such a pixel all the same.
    """
    whole = {"offset": (-20, -20), "size": (160, 200)}
    found = []
    for more in (0, Plane.NO_DATA):
        flags = np.zeros((160, 200), np.uint32)
        flags[60:65, 60:65] = flags[:, 120] = Plane[plane] | more
        warped = [make_warped(geometry, visit=n, flags=flags, **whole) for n in range(3)]
        found.append(combine(warped))
    marked = np.zeros(BOX.shape, bool)
    marked[38:47, 38:47] = marked[:, 98:103] = True  # grown by what interpolation takes
    for planes in found:
        np.testing.assert_array_equal(planes["SATURATED"], marked if plane == "SATURATED" else False)
        np.testing.assert_array_equal(planes["REJECTED"], marked)
        np.testing.assert_array_equal(planes["NO_DATA"], marked)
        # Not even a column from end to end is where the frame ends.
        assert not planes["SENSOR_EDGE"].any()


def test_what_a_cell_was_not_given_says_nothing_there(geometry):
    """Its PSF has no value there, or its weight is next to nothing."""
    flags = np.full((160, 100), Plane.SUSPECT, np.uint32)  # ends at patch column 80, as cells do
    flags[10:30] = Plane.SUSPECT | Plane.DETECTION_EDGE
    flags[60, 60] = Plane.SATURATED  # patch pixel (40, 40), grown by 2
    other = make_warped(geometry, visit=1, offset=(-20, -20), size=(160, 200))
    one = make_warped(geometry, visit=2, flags=flags, offset=(-20, -20), size=(160, 100), variance=1)
    cells = {(0, 0): {other.label}, (1, 1): {other.label, one.label}}
    n_image = (pad(other) + pad(one)).astype(int)
    n_image[:40, :40] = 1
    planes, without = combine([other, one], n_image=n_image, labels=cells), combine([other])
    for name, plane in planes.items():
        np.testing.assert_array_equal(plane[:40, :40], without[name][:40, :40], err_msg=name)
    # A cell that is not named has what is said of all: (0, 1), (1, 0).
    assert planes["SUSPECT"][:35, 40:70].all() and planes["SUSPECT"][45:80, :70].all()
    assert planes["SENSOR_EDGE"][:8, 40:70].all() and planes["SATURATED"][40:43, 40:43].all()
    # The frame does not end where the cell does that lacks it.
    assert not planes["SENSOR_EDGE"][15:40, 40:70].any() and not planes["SENSOR_EDGE"][40:60, :38].any()


def test_no_data_plane(geometry):
    planes = combine([make_warped(geometry, offset=(50, -20), size=(160, 200))])
    assert planes["NO_DATA"][:, :50].all() and not planes["NO_DATA"][:, 53:].any()


STACK_NAMES = {
    "BAD": "BAD",
    "SAT": "SATURATED",
    "EDGE": "DETECTION_EDGE",
    "SUSPECT": "SUSPECT",
    "CR": "COSMIC_RAY",
    "INTRP": "INTERPOLATED",
    "NO_DATA": "NO_DATA",
    "CLIPPED": "CLIPPED",
    "STREAK": "STREAK",
}
"""Planes as lsst.afw has them, by which chance marks one pixel in ten."""


def make_marked(image, *, weight, rng):
    """Mark a masked image of afw; return its planes and variance as ours."""
    flags = np.zeros(image.mask.array.shape, np.uint32)
    for name, own in STACK_NAMES.items():
        hit = rng.uniform(size=flags.shape) < 0.1
        image.mask.array[hit] |= image.mask.getPlaneBitMask(name)
        flags[hit] |= np.uint32(Plane[own])
    lost = rng.uniform(size=flags.shape) < 0.05
    image.image.array[lost] = np.nan
    flags[lost] |= np.uint32(Plane.NO_DATA)
    return flags, np.full(flags.shape, 1 / weight, np.float32)


def test_planes_are_those_of_a_stack_of_afw():
    """Masks of all kinds, with and without a value: lsst/drp_tasks dc28b94
    assemble_coadd.py:669-678, 976, 1006-1013.
    """
    afw = pytest.importorskip("lsst.afw.image", reason="lsst.afw is not installed: PyPI does not have it")
    base = pytest.importorskip("lsst.pipe.tasks.coaddBase", reason="lsst.pipe.tasks is not installed")
    from lsst.afw import math

    rng, weights = np.random.default_rng(1), [0.5, 1.1, 2.0, 0.7, 2.9, 1.6, 0.9]
    for name in STACK_NAMES:
        afw.Mask.addMaskPlane(name)
    left_out = ["NO_DATA", "BAD", "SAT", "EDGE", "CLIPPED"]
    bad = Plane(0)
    for name in left_out:
        bad |= Plane[STACK_NAMES[name]]
    images, warped = [], []
    for visit, weight in enumerate(weights):
        image = afw.MaskedImageF(60, 60)
        flags, variance = make_marked(image, weight=weight, rng=rng)
        images.append(image)
        good = (flags & np.uint32(bad)) == 0
        one = dict(visit=visit, detector=1, label=f"visit={visit} detector=1", physical_filter="", x0=0, y0=0)
        arrays = dict(image=image.image.array, variance=variance, flags=flags, good=good)
        warped.append(WarpedExposure(**one, **arrays, psf=None, psf_fwhm=3.0, outline=None))
    control = math.StatisticsControl()
    control.setAndMask(afw.Mask.getPlaneBitMask(left_out))
    control.setNanSafe(True)
    control.setWeighted(True)
    control.setCalcErrorFromInputVariance(True)
    control.setMaskPropagationThreshold(afw.Mask.getMaskPlane("SAT"), 0.1)
    mapping = base.setRejectedMaskMapping(control)
    no_data = afw.Mask.getPlaneBitMask("NO_DATA")
    expected = math.statisticsStack(images, math.MEAN, control, weights, no_data, mapping).mask
    n_image = sum(one.good.astype(int) for one in warped)
    nothing = np.zeros((60, 60), int)
    place = dict(x0=0, y0=0, bad=bad, cell_size=60, n_rejected=nothing, filled=nothing > 0)
    planes = combine_planes(warped, n_image=n_image, **place)
    found = {
        name: (expected.array & expected.getPlaneBitMask(name)) != 0 for name in expected.getMaskPlaneDict()
    }
    for name in ("BAD", "SUSPECT", "CR", "INTRP", "NO_DATA", "CLIPPED", "STREAK"):
        np.testing.assert_array_equal(planes[STACK_NAMES[name]], found[name], err_msg=name)
        assert found[name].any() or name == "BAD"
    # CLIPPED implies REJECTED here, as in lsst/images _mask.py; the stack says
    # nothing of saturation where no input is left.
    np.testing.assert_array_equal(planes["REJECTED"], found["REJECTED"] | found["CLIPPED"])
    np.testing.assert_array_equal((planes["SATURATED"] & (n_image > 0)), found["SAT"])
