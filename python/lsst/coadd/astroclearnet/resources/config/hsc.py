# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

# AssembleAcnCoaddTask in an HSC repository of the full Science Pipelines:
#
#     pipetask run ... -p acn.yaml -c parameters:image_model=afw -C assembleAcnCoadd:hsc.py
#
# or, with this file in it already, -p hsc.yaml.

# calexp is an ExposureF; the geometry of the patch comes from skyMap.
config.image_model = "afw"

# PSF, WCS and photometric calibration of the final fit, where the calexps
# carry those of the single-visit processing. Unset it in repositories
# without finalVisitSummary.
config.use_visit_summary = True

# Half of the nights in i band are better than 0.6 arcsec; the selection of
# visits for deepCoadd takes up to 2 arcsec.
config.max_psf_fwhm = 2.0

# Three exposures are the least with which a cosmic ray can be told from a
# source.
config.min_inputs = 3
