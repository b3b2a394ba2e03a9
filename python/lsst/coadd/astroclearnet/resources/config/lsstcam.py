# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

# AssembleAcnCoaddTask in an LSSTCam repository of the full Science Pipelines
# (drp_pipe, pipelines/LSSTCam/DRP.yaml); -p pipelines/LSSTCam/acn.yaml has
# it already.

# visit_image is an ExposureF; the geometry of the patch comes from skyMap.
config.image_model = "afw"

# visit_image is in nJy already, with the calibration of visit_summary applied:
# to apply it again would be wrong. Its statistics select the inputs.
config.use_visit_summary = True
config.use_visit_summary_photo_calib = False

# Backgrounds are left in counts when visit_image is calibrated (drp_tasks
# dc28b94 reprocess_visit_image.py:123-130); used if revert_background or
# apply_background is set.
config.calibrate_backgrounds = True

# The visits that deep_coadd is made of (drp_pipe a5ef3ba
# pipelines/_ingredients/LSSTCam/DRP.yaml, selectDeepCoaddVisits).
config.select.max_visit_psf_fwhm = 1.7
config.select.min_visit_values = {"effTimeZeroPointScale": 0.75}

# Its detectors (obs_lsst 0e84d755 config/lsstCam/makeDirectWarp.py): the
# defaults were found for HSC and leave out much of LSSTCam.
config.select.max_ellip_residual = 0.19
config.select.max_scaled_size_scatter = 0.07
config.select.max_psf_trace_radius_delta = 4.4
config.select.max_psf_ap_flux_delta = 1.6
config.select.max_psf_ap_corr_sigma_scaled_delta = 0.15
config.select.max_star_e = {"fallback": 0.2}
config.select.max_star_unnormalized_e = {"fallback": 2.3}
config.select.exclude_detectors = [0, 20, 27, 65, 123, 161, 168, 188]

# As coadds of LSSTCam leave pixels out (obs_lsst, config/assembleCoadd.py and
# config/lsstCam/assembleCoadd.py).
config.bad_planes = ["NO_DATA", "BAD", "SAT", "EDGE", "SUSPECT", "PARTLY_VIGNETTED", "SPIKE", "STREAK"]

# Three visits are the least with which a cosmic ray can be told from a source.
config.min_inputs = 3
