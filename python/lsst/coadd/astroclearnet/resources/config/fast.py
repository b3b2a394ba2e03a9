# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

# AssembleAcnCoaddTask for a quick look: one noise realization in the place of
# six, a third less time. Images and fluxes are the same; the variance
# planes are noisier.
#
#     pipetask run ... -p acn.yaml#coadd -C assembleAcnCoadd:fast.py

config.n_noise = 1
