# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Configuration of the selection of inputs."""

from __future__ import annotations

import math

import pytest

from lsst.coadd.astroclearnet.inputs._select_config import SelectInputsConfig
from lsst.pex.config import FieldValidationError


def test_defaults_are_those_of_the_stack():
    """lsst/pipe_tasks selectImages.py:294-400 and lsst/drp_pipe
    DRP-minimal-calibration.yaml:50-57.
    """
    config = SelectInputsConfig()
    assert config.toDict() == {
        "max_visit_psf_fwhm": 2.0,
        "min_visit_psf_fwhm": None,
        "n_visits_max": -1,
        "min_visit_values": {},
        "max_psf_fwhm": 1.8,
        "max_ellip_residual": 0.007,
        "max_size_scatter": None,
        "max_scaled_size_scatter": 0.019,
        "max_psf_trace_radius_delta": 0.7,
        "max_psf_ap_flux_delta": 0.24,
        "max_psf_ap_corr_sigma_scaled_delta": 0.22,
        "min_n_psf_star": {"fallback": 6},
        "max_star_e": {"fallback": 0.4},
        "max_star_unnormalized_e": {"fallback": 2.8},
        "exclude_detectors": [],
    }


@pytest.mark.parametrize("field", ["min_n_psf_star", "max_star_e", "max_star_unnormalized_e"])
def test_limits_by_band_need_a_fallback(field):
    config = SelectInputsConfig()
    setattr(config, field, {"i": 1})
    with pytest.raises(FieldValidationError, match=f"{field} needs a key 'fallback'"):
        config.validate()


UPPER_LIMITS = [name for name in SelectInputsConfig().toDict() if name.startswith("max_")]


@pytest.mark.parametrize("limit", [0.0, -1.0, math.nan])
@pytest.mark.parametrize("field", UPPER_LIMITS)
def test_limits_that_reject_everything_are_refused(field, limit):
    """0 is no limit in the stack, and may be copied from there."""
    by_band = field in ("max_star_e", "max_star_unnormalized_e")
    config = SelectInputsConfig()
    setattr(config, field, {"i": limit, "fallback": 1.0} if by_band else limit)
    none = "inf" if by_band else "None"
    with pytest.raises(FieldValidationError, match=f"{field} must be positive; use {none}, not 0, for no"):
        config.validate()
    setattr(config, field, {"fallback": math.inf} if by_band else None)
    config.validate()


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"min_visit_psf_fwhm": 2.1}, "min_visit_psf_fwhm .2.1. must not be above max_visit_psf_fwhm .2."),
        ({"n_visits_max": 0}, "n_visits_max must not be 0, which leaves nothing; use -1 for all"),
    ],
)
def test_limits_that_no_visit_can_pass_are_refused(fields, text):
    config = SelectInputsConfig()
    config.update(**fields)
    with pytest.raises(FieldValidationError, match=text):
        config.validate()
    config.update(max_visit_psf_fwhm=None, n_visits_max=-1)
    config.validate()
