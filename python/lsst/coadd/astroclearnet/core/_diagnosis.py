# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""How the exposures of a cell compare with what a fit makes of them."""

from __future__ import annotations

__all__ = ("PARAMETERS", "Diagnosis")

import dataclasses

import numpy as np

PARAMETERS = ("flux_scale", "sky", "shift_x", "shift_y")
"""What is fitted, in the order of `Diagnosis.values`."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Diagnosis:
    """How the exposures of a cell compare with their models."""

    chi2: np.ndarray
    """Reduced chi2 of each exposure, ``(n,)``."""

    values: np.ndarray
    """`PARAMETERS` of each exposure, ``(n, 4)``: its flux relative to the
    model (1 if they agree), its sky in nJy per pixel above the model's, and
    the position of its sources relative to the model's in pixels. NaN where
    the cell has too little signal to tell."""

    errors: np.ndarray
    """Their standard errors, ``(n, 4)``."""
