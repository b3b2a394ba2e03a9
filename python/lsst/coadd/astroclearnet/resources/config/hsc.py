# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

# AssembleAcnCoaddTask in an HSC repository of the full Science Pipelines:
#
#     pipetask run ... -p pipelines/acn.yaml -c parameters:image_model=afw \
#         -C assembleAcnCoadd:config/hsc.py
#
# or, with this file in it already, -p pipelines/HSC/acn.yaml.

# calexp is an ExposureF; the geometry of the patch comes from skyMap.
config.image_model = "afw"

# PSF, WCS and photometric calibration of the final fit, where the calexps
# carry those of the single-visit processing. Unset it in repositories
# without finalVisitSummary.
config.use_visit_summary = True

# Sky corrections over the whole focal plane are subtracted from calexps, as
# for warps of HSC (obs_subaru, config/makeDirectWarp.py). Unset it in
# repositories without skyCorr.
config.apply_background = True

# As coadds of HSC leave pixels out (obs_subaru, config/assembleCoadd.py).
config.bad_planes = ["NO_DATA", "BAD", "SAT", "EDGE", "SUSPECT", "STREAK"]

# As warps of HSC are made (obs_subaru, config/makeDirectWarp.py); used if
# inputs is "warps".
config.warp_kernel = "lanczos5"

# Three visits are the least with which a cosmic ray can be told from a source.
config.min_inputs = 3
