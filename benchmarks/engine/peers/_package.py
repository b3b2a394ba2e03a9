# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""The methods and recipes of the package itself."""

from __future__ import annotations

__all__ = ("fit_method", "fit_permuted", "fit_recipe")

import dataclasses

import numpy as np

from lsst.coadd.astroclearnet.core import CellStack, FitOptions, PatchFit, Tile, fit_patch
from lsst.coadd.astroclearnet.core._options import LINEAR_METHODS

from ..scenes import HALO
from ._types import Delivery, FitInputs


def fit_method(inputs: FitInputs, method: str, **options) -> list[Delivery]:
    """Fit by one of the package's methods, cell by cell.

    Parameters
    ----------
    inputs
        The scene.
    method
        One of `~lsst.coadd.astroclearnet.core.METHODS`.
    options
        Other fields of `~lsst.coadd.astroclearnet.core.FitOptions`.
    """
    scene = inputs.scene
    chosen = FitOptions(
        method=method,
        weights=None if inputs.weights is None else str(inputs.weights),
        cell_size=scene.cell_size,
        halo=HALO,
        n_threads=1,
        device="cpu",
        **options,
    )

    def get_stack(tile: Tile, halo: int) -> CellStack:
        return scene.cut(inputs.stack, inputs.truth, x0=tile.x0, y0=tile.y0, size=tile.height)

    fit = fit_patch(get_stack, height=scene.size, width=scene.size, options=chosen)
    planes = ("coadd",) if method in LINEAR_METHODS else ("latent", "coadd")
    return [_deliver(fit, plane, 0.0 if method in LINEAR_METHODS else chosen.target_fwhm) for plane in planes]


def fit_recipe(inputs: FitInputs, recipe: str, **options) -> list[Delivery]:
    """Fit by one of the recipes of ``method="acn"``."""
    return fit_method(inputs, "acn", recipe=recipe, **options)


def fit_permuted(inputs: FitInputs, **options) -> list[Delivery]:
    """Fit the same exposures in another order, by ``method="acn"``.

    The labels are given anew, so that nothing can put the exposures back
    into their order.
    """
    n = len(inputs.stack.labels)
    order = np.random.default_rng(n).permutation(n)
    truth = dataclasses.replace(inputs.truth, psfs=tuple(inputs.truth.psfs[k] for k in order))
    stack = dataclasses.replace(
        inputs.stack,
        image=inputs.stack.image[order],
        variance=inputs.stack.variance[order],
        good=inputs.stack.good[order],
        psf=inputs.stack.psf[order],
    )
    return fit_method(dataclasses.replace(inputs, stack=stack, truth=truth), "acn", **options)


def _deliver(fit: PatchFit, plane: str, target_fwhm: float) -> Delivery:
    return Delivery(
        plane=plane,
        image=getattr(fit, plane),
        psf=getattr(fit, f"{plane}_psf"),
        target_fwhm=target_fwhm,
        variance=getattr(fit, f"{plane}_variance"),
        psf_flux_variance=fit.psf_flux_variance if plane == "coadd" else None,
        noise=fit.noise if plane == "coadd" else None,
    )
