# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Datasets that `AssembleAcnCoaddTask` reads and writes."""

from __future__ import annotations

__all__ = ("PATCH", "AssembleAcnCoaddConnections")

import dataclasses
import logging
from typing import TYPE_CHECKING

import lsst.pipe.base.connectionTypes as cT
from lsst.pipe.base import NoWorkFound, PipelineTaskConnections

from .core._options import LINEAR_METHODS

if TYPE_CHECKING:
    from ._assemble_config import AssembleAcnCoaddConfig

_LOG = logging.getLogger(__name__)

_WANTED_BY = {
    "visit_summaries": "use_visit_summary",
    "background_reverts": "revert_background",
    "background_applies": "apply_background",
    "background_ratios": "apply_background_ratio",
    "selected_visits": "use_selected_visits",
    "artifact_masks": "use_artifact_masks",
}
"""Field of the configuration that asks for each optional input."""

PATCH = ("skymap", "tract", "patch", "band")
_WARP = ("instrument", "visit", "skymap", "tract", "patch")


class AssembleAcnCoaddConnections(
    PipelineTaskConnections,
    dimensions=PATCH,
    defaultTemplates={"calexp_type": "calexp", "coadd_name": "acn"},
):
    """Datasets of `AssembleAcnCoaddTask`; YAML can rename each of them.

    What goes with an image does not constrain the graph: an image that lacks
    it is left out by the task, which says so, and not by the query.
    """

    calexps = cT.Input(
        doc="Calibrated, sky-subtracted detector images.",
        name="{calexp_type}",
        storageClass="VisitImage",
        dimensions=("instrument", "visit", "detector"),
        multiple=True,
        deferLoad=True,
    )
    warps = cT.Input(
        doc="Visits on the grid of the tract, in nJy, in the place of calexps; used if inputs is 'warps'.",
        name="deepCoadd_directWarp",
        storageClass="ExposureF",
        dimensions=_WARP,
        multiple=True,
        deferLoad=True,
    )
    artifact_masks = cT.Input(
        doc="Masks whose plane CLIPPED marks the artifacts of a visit; used if use_artifact_masks is set.",
        name="compare_warp_artifact_mask",
        storageClass="Mask",
        dimensions=_WARP,
        multiple=True,
        deferLoad=True,
        deferGraphConstraint=True,
    )
    background_reverts = cT.Input(
        doc="Backgrounds to be added to calexps; used if revert_background is set.",
        name="calexpBackground",
        storageClass="Background",
        dimensions=("instrument", "visit", "detector"),
        multiple=True,
        deferLoad=True,
        deferGraphConstraint=True,
    )
    background_applies = cT.Input(
        doc="Backgrounds to be subtracted from calexps; used if apply_background is set.",
        name="skyCorr",
        storageClass="Background",
        dimensions=("instrument", "visit", "detector"),
        multiple=True,
        deferLoad=True,
        deferGraphConstraint=True,
    )
    background_ratios = cT.Input(
        doc="Images by which these backgrounds are divided; used if apply_background_ratio is set.",
        name="background_to_photometric_ratio",
        storageClass="Image",
        dimensions=("instrument", "visit", "detector"),
        multiple=True,
        deferLoad=True,
        deferGraphConstraint=True,
    )
    selected_visits = cT.Input(
        doc="Visits that may be used, as keys; used if use_selected_visits is set.",
        name="deepCoaddVisits",
        storageClass="StructuredDataDict",
        dimensions=("instrument", *PATCH),
        multiple=True,
    )
    visit_summaries = cT.Input(
        doc="Statistics, final PSF, WCS and calibration of each detector; used if use_visit_summary is set.",
        name="finalVisitSummary",
        storageClass="ExposureCatalog",
        dimensions=("instrument", "visit"),
        multiple=True,
        deferLoad=True,
        deferGraphConstraint=True,
    )
    sky_map = cT.Input(
        doc="Sky map; used if image_model is 'afw'.",
        name="skyMap",
        storageClass="SkyMap",
        dimensions=("skymap",),
    )
    geometry = cT.Input(
        doc="Tracts and patches where lsst.skymap is not installed; used if image_model is 'images'.",
        name="acn_sky_geometry",
        storageClass="StructuredDataDict",
        dimensions=("skymap",),
    )
    latent = cT.Output(
        doc="Latent image, >= 0, at the target PSF, in nJy; not made by methods 'kaiser' and 'mean'.",
        name="{coadd_name}_latent",
        storageClass="CellCoadd",
        dimensions=PATCH,
    )
    coadd = cT.Output(
        doc="Latent image plus matched residual (methods 'kaiser', 'mean': the coadd), in nJy.",
        name="{coadd_name}_coadd",
        storageClass="CellCoadd",
        dimensions=PATCH,
    )
    psf_flux_error = cT.Output(
        doc="Standard error of a flux measured with the PSF of the coadd about each pixel, in nJy; 1e6 where "
        "NO_DATA is set, and not exact within 3 pixels of large gaps and of the end of coverage.",
        name="{coadd_name}_coadd_psf_flux_error",
        storageClass="ImageV2",
        dimensions=PATCH,
    )
    n_image = cT.Output(
        doc="Number of inputs used in each pixel.",
        name="{coadd_name}_coadd_n_image",
        storageClass="ImageV2",
        dimensions=PATCH,
    )
    inputs_table = cT.Output(
        doc="One row for each (visit, detector): what it gave, or why it was dropped.",
        name="{coadd_name}_coadd_inputs",
        storageClass="ArrowAstropy",
        dimensions=PATCH,
    )
    fit_history = cT.Output(
        doc="Loss and chi2 of the fit by stage and step.",
        name="{coadd_name}_coadd_fit_history",
        storageClass="ArrowAstropy",
        dimensions=PATCH,
    )

    def __init__(self, *, config: AssembleAcnCoaddConfig | None = None):
        super().__init__(config=config)
        if config is None:
            return
        if config.image_model == "afw":
            self.calexps = dataclasses.replace(self.calexps, storageClass="ExposureF")
            del self.geometry
        else:
            del self.sky_map
            self.artifact_masks = dataclasses.replace(self.artifact_masks, storageClass="MaskV2")
        wanted = {
            "calexps": config.inputs == "visits",
            "warps": config.inputs == "warps",
            "artifact_masks": config.use_artifact_masks,
            "selected_visits": config.use_selected_visits,
            "visit_summaries": config.use_visit_summary,
            # A VisitImage carries its backgrounds.
            "background_reverts": config.revert_background and config.image_model == "afw",
            "background_applies": config.apply_background and config.image_model == "afw",
            "background_ratios": config.apply_background_ratio,
        }
        for name, is_wanted in wanted.items():
            if not is_wanted:
                delattr(self, name)
        if config.method in LINEAR_METHODS:
            del self.latent

    def adjustQuantum(self, inputs, outputs, label, data_id):  # noqa: N802
        """Skip patches with too few inputs before anything is read."""
        _, refs = inputs["calexps" if self.config.inputs == "visits" else "warps"]
        visits = {ref.dataId["visit"] for ref in refs}
        if len(visits) < self.config.min_inputs:
            # The graph builder tells nobody why a quantum is not there.
            text = f"visits that reach this patch: {len(visits)}; min_inputs is {self.config.min_inputs}"
            _LOG.warning("Nothing to do for %s %s: %s.", label, data_id, text)
            raise NoWorkFound(text)
        for name, field in _WANTED_BY.items():
            connection, refs = inputs.get(name, (None, ()))
            if connection is not None and not refs:
                # The middleware drops the quantum without saying which
                # dataset it was; graphs of nothing are hard to explain.
                _LOG.warning(
                    "There is no %s for %s %s; make it or unset %s.", connection.name, label, data_id, field
                )
        return super().adjustQuantum(inputs, outputs, label, data_id)
