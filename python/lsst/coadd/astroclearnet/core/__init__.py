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

The modules, in the order of the data:

- `_exposure`, `_planes`: one detector image and its mask, as adapters give it;
- `_register`, `_frame`, `_grid_map`, `_resample`, `_warped_psf`, `_holed_psf`,
  `_premade_warp`: exposures and PSFs on the pixel grid of the patch;
- `_tiles`, `_stack`, `_batches`, `_device`: cells, their stacks, where to fit;
- `_fit`, `_options`: the method and recipe for a cell;
- `_statistic`, `_first_look`, `_clip`, `_sky_planes`, `_trail`, `_neighbours`,
  `_wiener`, `_noise_level`, `_coverage_noise`: artifacts clipped, holes
  filled, D and P;
- `_encoder_inputs`, `_encoder`, `_unet`, `_flux`, `_scatter`: the latent, its
  fluxes and its scatter (`_mm`, `_self*`, `_paper`, `_kaiser`: other ways;
  `_step_line`: their progress);
- `_finish`, `_deliver`, `_filters`, `_fourier`, `_decoder`: the products at
  the target PSF;
- `_canvas`, `_holes`, `_expected_variance`, `_misfit`, `_diagnose`,
  `_correlation`, `_trust`: cells stitched, and how far to trust the result;
- `_errors`: what all of them raise.
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
