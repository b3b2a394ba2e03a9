# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

# AssembleAcnCoaddTask for a quick look: the eight visits of best seeing, as
# sharp as the whole stack but noisier (1.2 times for 8 of the 14 exposures of
# the demo patch). The time of reading and resampling goes with the number of
# exposures, that of the fit less than so.
#
#     pipetask run ... -p pipelines/acn.yaml#coadd -C assembleAcnCoadd:config/fast.py

config.select.n_visits_max = 8
