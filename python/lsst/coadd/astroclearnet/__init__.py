# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Latent-image coadds with AstroClearNet.

Importing this package imports neither torch nor any other ``lsst`` package:
`lsst.coadd.astroclearnet.core` works on arrays alone, the tasks are in the
modules ``assemble_acn_coadd`` and ``compare_acn_coadd``.
"""

try:
    from .version import __version__  # written by pip and by scons
except ModuleNotFoundError:  # a checkout that was never built
    __version__ = "0+unknown"
