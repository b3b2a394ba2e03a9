# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

# AssembleAcnCoaddTask for a quick look: classical updates in the place of the
# network, few of them, and one noise realization. Stars are as sharp; the
# background is noisier and the variance planes are less precise.
#
#     pipetask run ... -p acn.yaml#coadd -C assembleAcnCoadd:fast.py

config.method = "mm"
config.mm_iterations = 30
config.n_noise = 1
