# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Configurations that cannot be are refused before anything runs."""

from __future__ import annotations

import pytest

from lsst.coadd.astroclearnet.assemble_acn_coadd import AssembleAcnCoaddConfig
from lsst.coadd.astroclearnet.compare_acn_coadd import CompareAcnCoaddConfig
from lsst.pex.config import FieldValidationError


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("method", "median", "method"),
        ("recipe", "magic", "recipe"),
        ("device", "tpu", "device"),
        ("image_model", "fits", "image_model"),
        ("bad_planes", ["SAT", "SATURN"], "Unknown mask plane 'SATURN'; known planes: .*NO_DATA"),
        ("bad_planes", ["DETECTED"], "'DETECTED' says nothing of bad pixels; those that do: .*NO_DATA"),
        ("extra_bad_planes", ["GLINT", "SAT"], "must not have \\['SAT'\\], which bad_planes knows"),
        ("cell_size", 4, "cell_size must be at least 16"),
        ("target_fwhm", 0.5, "target_fwhm must be at least 1.5"),
        ("halo", -1, "halo must be at least 0"),
        ("clip_sigma", 0.0, "clip_sigma must be at least 1"),
        ("seed", -1, "seed must be at least 0"),
        ("min_inputs", 0, "min_inputs"),
        ("max_bad_fraction", 1.5, "max_bad_fraction"),
        ("use_visit_summary", True, "use_visit_summary needs image_model='afw'"),
        ("inputs", "warps", "inputs 'warps' needs image_model='afw'"),
        ("apply_background_ratio", True, "apply_background_ratio needs image_model='afw'"),
        ("warp_kernel", "cubic", "'cubic' is not known; known: bilinear"),
    ],
)
def test_config_is_checked(name, value, text):
    config = AssembleAcnCoaddConfig()
    with pytest.raises(FieldValidationError, match=f"(?s){text}"):
        setattr(config, name, value)
        config.validate()


@pytest.mark.parametrize(
    ("part", "fields", "text"),
    [
        # Every patch would be no work, and a run of none is no error.
        ("select", {"n_visits_max": 2}, "min_inputs .3. must not be above select.n_visits_max .2."),
        ("trust", {"min_seeing": 5.5}, "min_seeing .5.5. must be below max_seeing .5.5."),
    ],
)
def test_limits_that_leave_nothing_are_refused(part, fields, text):
    config = AssembleAcnCoaddConfig()
    config.min_inputs = 3
    config.validate()
    getattr(config, part).update(**fields)
    with pytest.raises(FieldValidationError, match=text):
        config.validate()


IN_NJY = {
    "image_model": "afw",
    "use_visit_summary": True,
    "use_visit_summary_photo_calib": False,
    "calibrate_backgrounds": True,
}


@pytest.mark.parametrize("background", ["revert_background", "apply_background"])
@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"use_visit_summary": False}, "calibrate_backgrounds needs use_visit_summary"),
        ({"use_visit_summary_photo_calib": True}, "is for images in nJy.*for images in counts: unset one"),
    ],
)
def test_unit_of_backgrounds_is_one(background, fields, text):
    """Otherwise a background in nJy is subtracted from counts."""
    config = AssembleAcnCoaddConfig()
    config.update(**IN_NJY, **{background: True})
    config.validate()
    config.update(**fields)
    with pytest.raises(FieldValidationError, match=f"(?s){text}"):
        config.validate()
    setattr(config, background, False)
    config.validate()


def test_background_has_a_name():
    config = AssembleAcnCoaddConfig()
    config.update(apply_background=True, background_name="")
    with pytest.raises(FieldValidationError, match="background_name must not be empty with apply_background"):
        config.validate()
    config.image_model = "afw"  # where it is a dataset
    config.validate()


def test_config_of_the_comparison_is_checked():
    config = CompareAcnCoaddConfig()
    config.snr_edges = [20.0, 6.0]
    with pytest.raises(FieldValidationError, match="snr_edges must ascend"):
        config.validate()
