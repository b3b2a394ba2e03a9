# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restore the latent sky behind many exposures: arrays and torch only.

Nothing here imports ``lsst``; the adapters and tasks around it do. What
needs torch is imported when it is first used, so that graphs can be built
without it.
"""

from ._errors import *
from ._exposure import *
from ._options import *
from ._planes import *
from ._stack import *


def __getattr__(name: str):
    if name in ("ExposureSummary", "PatchFit", "Tile", "fit_patch", "make_tiles"):
        from . import _tiles

        return getattr(_tiles, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
