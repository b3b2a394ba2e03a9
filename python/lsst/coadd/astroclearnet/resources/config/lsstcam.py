# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

# AssembleAcnCoaddTask in an LSSTCam repository of the full Science Pipelines
# (drp_pipe, pipelines/LSSTCam/DRP.yaml); -p LSSTCam/acn.yaml has it already.

# visit_image is an ExposureF; the geometry of the patch comes from skyMap.
config.image_model = "afw"

# visit_image is in nJy already, with the calibration of visit_summary applied:
# to apply it again would be wrong. Its statistics select the inputs.
config.use_visit_summary = True
config.use_visit_summary_photo_calib = False

# The visits that deep_coadd is made of (selectDeepCoaddVisits of LSSTCam).
config.select.max_visit_psf_fwhm = 1.7
config.select.min_visit_values = {"effTimeZeroPointScale": 0.75}

# Three exposures are the least with which a cosmic ray can be told from a
# source.
config.min_inputs = 3
