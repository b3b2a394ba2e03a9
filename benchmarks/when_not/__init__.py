# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Skies and exposures that the guide says not to use the coadds for:
``python -m benchmarks.when_not``.

Each section is a module with a function `report`.
"""
