# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fluxes in nJy and AB magnitudes."""

from __future__ import annotations

__all__ = ("AB_ZERO", "flux_from_mag", "mag_from_flux")

import numpy as np

AB_ZERO = 31.4
"""AB magnitude of 1 nJy."""


def flux_from_mag(mag: np.ndarray | float) -> np.ndarray | float:
    """Return the flux in nJy of an AB magnitude."""
    return 10.0 ** (0.4 * (AB_ZERO - np.asarray(mag)))


def mag_from_flux(flux: np.ndarray | float) -> np.ndarray | float:
    """Return the AB magnitude of a flux in nJy."""
    return AB_ZERO - 2.5 * np.log10(np.asarray(flux))
