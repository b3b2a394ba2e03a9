# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

# AssembleAcnCoaddTask with the network as published (Sukurdeep, Navarro and
# Budavari 2025, arXiv 2504.06463): trained from scratch on the exposures of
# the patch, no weights from elsewhere. What the paper leaves open is our
# choice. It is much slower than the recipe "trained".
#
#     pipetask run ... -p acn.yaml#coadd -C assembleAcnCoadd:paper.py

config.method = "acn"
config.recipe = "paper"
config.paper_steps = 400
config.huber_delta = 3.0
