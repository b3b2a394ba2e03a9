# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

# AssembleAcnCoaddTask for a quick look: the eight visits of best seeing, as
# sharp as the whole stack but noisier, and a narrower border around cells.
# The time goes with the number of exposures: on the demo patch, 8 of 14
# exposures take 0.55 of the time and have 1.14 times the noise.
#
#     pipetask run ... -p acn.yaml#coadd -C assembleAcnCoadd:fast.py

config.select.n_visits_max = 8

# Cells differ by less than 0.1 sigma of the sky at their borders (rms) with
# it, as with 40; single pixels on bright sources by more.
config.halo = 24
