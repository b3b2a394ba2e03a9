# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""From the fit of a patch to what is written of it."""

from __future__ import annotations

__all__ = ("CellRecorder", "make_images", "make_planes")

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lsst.images import Box, Image
from lsst.images.cells import CellCoadd

from ..adapters import (
    UNTRUSTED,
    ApertureCorrectionStacker,
    PatchGeometry,
    ProvenanceRecorder,
    combine_planes,
    make_cell_coadd,
    make_psf_flux_error,
)
from ..core._options import LINEAR_METHODS, FitOptions
from ..core.patch._trust import describe_psfs, find_untrusted
from ..core.warp._register import WarpedExposure
from ..flux_errors import describe_noise

if TYPE_CHECKING:
    from .._assemble_config import AssembleAcnCoaddConfig
    from ..core import CellStack, ExposureSummary, PatchFit, Tile


class CellRecorder:
    """Note what each input gave to each cell.

    Parameters
    ----------
    warped
        The inputs on the pixel grid of the patch.
    geometry
        The patch.
    instrument
        Name of the instrument.
    day_obs
        Night of each visit.
    linear
        Whether the coadd is a mean of its inputs.
    """

    def __init__(
        self,
        warped: Sequence[WarpedExposure],
        *,
        geometry: PatchGeometry,
        instrument: str,
        day_obs: Mapping[int, int],
        linear: bool,
    ):
        self._provenance = ProvenanceRecorder(
            warped, geometry=geometry, instrument=instrument, day_obs=day_obs
        )
        self._corrections = ApertureCorrectionStacker(warped, linear=linear)
        self._origin = geometry.outer_bbox
        self.labels: dict[tuple[int, int], frozenset[str]] = {}
        """Inputs that the fit of each cell used, by row and column."""

    def record(self, tile: Tile, stack: CellStack) -> None:
        """Note the inputs of a cell that was fitted."""
        place = {"i": tile.i, "j": tile.j}
        self.labels[tile.i, tile.j] = frozenset(stack.labels)
        x0, y0 = self._origin.x.start + tile.x0, self._origin.y.start + tile.y0
        cell = Box.factory[y0 : y0 + tile.height, x0 : x0 + tile.width]
        self._provenance.record(stack, cell=cell, **place)
        self._corrections.add(stack, cell=cell, **place)

    def finish(self, exposures: Sequence[ExposureSummary], *, cell_size: int) -> dict[str, Any]:
        """Return ``provenance`` and ``aperture_corrections``.

        Parameters
        ----------
        exposures
            What the fit found for each input.
        cell_size
            Side of a cell, in pixels.
        """
        height, width = self._origin.shape
        scale = {one.label: one.noise_scale for one in exposures}
        return {
            "provenance": self._provenance.finish(noise_scale=scale),
            "aperture_corrections": self._corrections.finish(
                shape=(height // cell_size, width // cell_size), noise_scale=scale
            ),
        }


def make_planes(
    warped: Sequence[WarpedExposure],
    fit: PatchFit,
    *,
    geometry: PatchGeometry,
    config: AssembleAcnCoaddConfig,
    cell_size: int,
    labels: Mapping[tuple[int, int], Collection[str]],
    log: logging.Logger,
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Make the mask planes of the results.

    Parameters
    ----------
    warped
        The inputs on the pixel grid of the patch.
    fit
        What was made of them.
    geometry
        The patch.
    config
        ``bad_planes``, ``method``, ``trust``.
    cell_size
        Side of the cells in pixels.
    labels
        Inputs that the fit of each cell was given, by row and column.
    log
        Is warned of PSFs that the fit cannot do justice to.

    Returns
    -------
    planes
        As ``make_cell_coadd`` takes them.
    fractions
        Part of the patch with data that is not trusted, as a whole and for
        each reason, for the metadata; empty if there is no latent to trust.
    """
    planes = combine_planes(
        warped,
        x0=geometry.outer_bbox.x.start,
        y0=geometry.outer_bbox.y.start,
        bad=config.bad_plane_bits,
        n_image=fit.n_image,
        n_rejected=fit.n_rejected,
        filled=fit.filled,
        cell_size=cell_size,
        labels=labels,
    )
    if config.method in LINEAR_METHODS:
        return planes, {}
    limits = config.trust.make_limits()
    for trouble in describe_psfs(fit.seeing, fit.psf_change, limits):
        log.warning("%s All of it is %s.", trouble, UNTRUSTED)
    reasons = find_untrusted(
        saturated=planes["SATURATED"],
        n_image=fit.n_image,
        misfit=fit.misfit,
        chi2=fit.local_chi2,
        history=fit.history,
        seeing=fit.seeing,
        psf_change=fit.psf_change,
        cell_size=cell_size,
        limits=limits,
    )
    planes[UNTRUSTED] = np.any(list(reasons.values()), axis=0)
    seen = ~planes["NO_DATA"]
    fractions = {f"untrusted_{name}": float(plane[seen].mean()) for name, plane in reasons.items()}
    return planes, {"untrusted": float(planes[UNTRUSTED][seen].mean()), **fractions}


def make_images(
    fit: PatchFit,
    *,
    planes: Mapping[str, np.ndarray],
    geometry: PatchGeometry,
    band: str,
    options: FitOptions,
    metadata: Mapping[str, Any],
    **recorded: Any,
) -> dict[str, CellCoadd | Image]:
    """Make the images of a patch, in nJy.

    Parameters
    ----------
    fit
        The fit.
    planes
        Their mask planes.
    geometry
        The patch.
    band
        Its band.
    options
        ``cell_size``, ``method``.
    metadata
        How they were made.
    recorded
        What `CellRecorder.finish` returns.

    Returns
    -------
    `dict`
        ``coadd``, ``psf_flux_error`` and, unless the method is linear,
        ``latent``.
    """
    common: dict[str, Any] = dict(
        planes=planes,
        missing=fit.missing,
        geometry=geometry,
        band=band,
        cell_size=options.cell_size,
        **recorded,
    )
    coadd = make_cell_coadd(
        image=fit.coadd,
        variance=fit.coadd_variance,
        psf=fit.coadd_psf,
        noise=[fit.noise],
        metadata={**metadata, **describe_noise(fit)},
        **common,
    )
    no_data = coadd.mask.get("NO_DATA")
    images: dict[str, CellCoadd | Image] = {
        "coadd": coadd,
        "psf_flux_error": make_psf_flux_error(fit.psf_flux_variance, no_data=no_data, geometry=geometry),
    }
    if options.method not in LINEAR_METHODS:
        images["latent"] = make_cell_coadd(
            image=fit.latent, variance=fit.latent_variance, psf=fit.latent_psf, metadata=metadata, **common
        )
    return images
