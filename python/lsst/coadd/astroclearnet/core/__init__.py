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

In the order of the data:

- `_exposure`, `_planes`: one detector image and its mask, as adapters give it;
- `warp`: exposures and PSFs on the pixel grid of the patch;
- `patch`: the patch cut into cells, and their products stitched;
- `_stack`, `_diagnosis`: the exposures of a cell, and what a fit makes of
  them;
- `methods`: the method and recipe for a cell, as `_options` says, on the
  device and in batches of `_device` and `_batches`;
- `clip`, `statistic`: artifacts clipped, holes filled, D and P;
- `encoder`: the latent, its fluxes and its scatter;
- `cell`: the products at the target PSF, and how the exposures agree with
  them;
- `fourier`: what statistic, encoder and products calculate with;
- `_errors`: what all of them raise.
"""

from ._errors import *
from ._exposure import *
from ._options import *
from ._planes import *
from ._stack import *


def __getattr__(name: str):
    if name in ("ExposureSummary", "PatchFit", "Tile", "fit_patch", "make_tiles"):
        from .patch import _tiles

        return getattr(_tiles, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
