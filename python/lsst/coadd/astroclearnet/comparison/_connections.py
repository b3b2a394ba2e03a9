# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Datasets and configuration of the comparison task."""

from __future__ import annotations

__all__ = ("CompareAcnCoaddConfig", "CompareAcnCoaddConnections")

import dataclasses
import logging

import lsst.pipe.base.connectionTypes as cT
from lsst.pex.config import ChoiceField, Field, FieldValidationError, ListField, RangeField
from lsst.pipe.base import PipelineTaskConfig, PipelineTaskConnections

from .._connections import PATCH

_LOG = logging.getLogger(__name__)


_OPTIONAL = ("n_image", "inputs_table", "fit_history", "run_metadata", "calexps")
"""Inputs without which the task runs and leaves out what they tell."""

_ADVICE = {
    "reference": "make it, or name another coadd by connections.reference_type",
    "truth_image": "make it or unset use_truth",
    "truth_catalog": "make it, or unset use_truth or use_catalog",
}
"""What to do about inputs that are needed, but do not constrain the graph."""

_NO_BUNDLE = "It needs lsst.analysis.tools and lsst.verify, which only the full Science Pipelines have."


class CompareAcnCoaddConnections(
    PipelineTaskConnections,
    dimensions=PATCH,
    defaultTemplates={
        "coadd_name": "acn",
        "reference_type": "deepCoadd",
        "calexp_type": "calexp",
        "assemble_label": "assembleAcnCoadd",
    },
):
    """Datasets of `CompareAcnCoaddTask`; YAML can rename each of them."""

    # No existence of the reference or the truth may decide whether a patch
    # is worked at all: the assembly task is in the same graph.
    reference = cT.Input(
        doc="Coadd to compare with.",
        name="{reference_type}",
        storageClass="CellCoadd",
        dimensions=PATCH,
        deferGraphConstraint=True,
    )
    coadd = cT.Input(
        doc="Coadd to be compared: latent image plus matched residual, or any other on the same pixels.",
        name="{coadd_name}_coadd",
        storageClass="CellCoadd",
        dimensions=PATCH,
    )
    latent = cT.Input(
        doc="A third coadd, the latent image; used if use_latent is set.",
        name="{coadd_name}_latent",
        storageClass="CellCoadd",
        dimensions=PATCH,
    )
    n_image = cT.Input(
        doc="Number of inputs used in each pixel; used if it exists and use_tables is set.",
        name="{coadd_name}_coadd_n_image",
        storageClass="ImageV2",
        dimensions=PATCH,
        deferGraphConstraint=True,
    )
    inputs_table = cT.Input(
        doc="What each input gave; used if it exists and use_tables is set.",
        name="{coadd_name}_coadd_inputs",
        storageClass="ArrowAstropy",
        dimensions=PATCH,
        deferGraphConstraint=True,
    )
    fit_history = cT.Input(
        doc="Loss and chi2 of the fit; used if it exists and use_tables is set.",
        name="{coadd_name}_coadd_fit_history",
        storageClass="ArrowAstropy",
        dimensions=PATCH,
        deferGraphConstraint=True,
    )
    run_metadata = cT.Input(
        doc="Run time and memory of the assembly; used if it exists and use_tables is set.",
        name="{assemble_label}_metadata",
        storageClass="TaskMetadata",
        dimensions=PATCH,
        deferGraphConstraint=True,
    )
    calexps = cT.Input(
        doc="Detector images, the sharpest of which is drawn; used if use_exposure is set.",
        name="{calexp_type}",
        storageClass="VisitImage",
        dimensions=("instrument", "visit", "detector"),
        multiple=True,
        deferLoad=True,
        deferGraphConstraint=True,
    )
    truth_image = cT.Input(
        doc="Noiseless image with a Gaussian PSF, in nJy; used if use_truth is set.",
        name="acn_truth_image",
        storageClass="ImageV2",
        dimensions=PATCH,
        deferGraphConstraint=True,
    )
    truth_catalog = cT.Input(
        doc="True or reference sources; used if use_truth or use_catalog is set.",
        name="acn_truth_catalog",
        storageClass="ArrowAstropy",
        dimensions=PATCH,
        deferGraphConstraint=True,
    )
    metrics = cT.Output(
        doc="One row for each figure and plane, with its definition.",
        name="{coadd_name}_coadd_comparison_metrics",
        storageClass="ArrowAstropy",
        dimensions=PATCH,
    )
    metric_bundle = cT.Output(
        doc=f"The metrics as analysis_tools keeps them; written if write_metric_bundle is set. {_NO_BUNDLE}",
        name="{coadd_name}CoaddComparison_metrics",
        storageClass="MetricMeasurementBundle",
        dimensions=PATCH,
    )
    plot = cT.Output(
        doc="The planes side by side at one stretch, with zooms.",
        name="{coadd_name}_coadd_comparison_plot",
        storageClass="Plot",
        dimensions=PATCH,
    )
    flux_plot = cT.Output(
        doc="Ratios of fluxes and differences of positions against brightness.",
        name="{coadd_name}_coadd_comparison_flux_plot",
        storageClass="Plot",
        dimensions=PATCH,
    )
    psf_plot = cT.Output(
        doc="Width and profile of stars against the attached PSF.",
        name="{coadd_name}_coadd_comparison_psf_plot",
        storageClass="Plot",
        dimensions=PATCH,
    )
    fit_plot = cT.Output(
        doc="Loss and chi2 of the fit by stage and step; written if there is a fit history.",
        name="{coadd_name}_coadd_comparison_fit_plot",
        storageClass="Plot",
        dimensions=PATCH,
    )
    exposure_plot = cT.Output(
        doc="Reduced chi2 of each exposure; written if there is a table of inputs.",
        name="{coadd_name}_coadd_comparison_exposure_plot",
        storageClass="Plot",
        dimensions=PATCH,
    )

    def __init__(self, *, config: CompareAcnCoaddConfig | None = None):
        super().__init__(config=config)
        if config is None:
            return
        if config.image_model == "afw":
            self.reference = dataclasses.replace(self.reference, storageClass="ExposureF")
            self.calexps = dataclasses.replace(self.calexps, storageClass="ExposureF")
        if config.coadd_model == "afw":
            self.coadd = dataclasses.replace(self.coadd, storageClass="ExposureF")
            self.latent = dataclasses.replace(self.latent, storageClass="ExposureF")
        wanted = {
            "latent": config.use_latent,
            "n_image": config.use_tables,
            "inputs_table": config.use_tables,
            "exposure_plot": config.use_tables,
            "fit_history": config.use_tables,
            "fit_plot": config.use_tables,
            "run_metadata": config.use_tables,
            "calexps": config.use_exposure,
            "truth_image": config.use_truth,
            "truth_catalog": config.use_truth or config.use_catalog,
            "metric_bundle": config.write_metric_bundle,
        }
        for name, is_wanted in wanted.items():
            if not is_wanted:
                delattr(self, name)

    def adjustQuantum(self, inputs, outputs, label, data_id):  # noqa: N802
        """Let a patch be worked without the inputs that can be missing."""
        needed = {name: value for name, value in inputs.items() if name not in _OPTIONAL}
        for name, advice in _ADVICE.items():
            connection, refs = needed.get(name, (None, ()))
            if connection is not None and not refs:
                # The middleware drops the quantum without saying which
                # dataset it was.
                _LOG.warning("There is no %s for %s %s; %s.", connection.name, label, data_id, advice)
        return super().adjustQuantum(needed, outputs, label, data_id)


class CompareAcnCoaddConfig(PipelineTaskConfig, pipelineConnections=CompareAcnCoaddConnections):
    """Configuration of `CompareAcnCoaddTask`."""

    image_model = ChoiceField[str](
        doc="Library of the reference coadd (and of the exposures). Change it to 'afw' in the full Science "
        "Pipelines.",
        allowed={"images": "CellCoadd, VisitImage of lsst.images.", "afw": "ExposureF of lsst.afw."},
        default="images",
        optional=False,
    )
    coadd_model = ChoiceField[str](
        doc="Library of coadd and latent. Change it to 'afw' to compare two coadds that this package did not "
        "make, e.g. goodSeeingCoadd with deepCoadd.",
        allowed={"images": "CellCoadd of lsst.images.", "afw": "ExposureF of lsst.afw."},
        default="images",
        optional=False,
    )
    use_latent = Field[bool](
        doc="Compare the latent image too. Unset it where none was made (methods 'kaiser' and 'mean').",
        default=True,
    )
    use_tables = Field[bool](
        doc="Use n_image, inputs_table, fit_history and run_metadata, as far as they exist. Unset it for "
        "coadds that this package did not make.",
        default=True,
    )
    use_exposure = Field[bool](
        doc="Draw the sharpest exposure beside the coadds. Set it where calexps exist; it needs "
        "inputs_table.",
        default=False,
    )
    use_truth = Field[bool](
        doc="Measure biases, completeness and purity against the truth of a simulation: truth_image and "
        "truth_catalog. Set it for the demo repository.",
        default=False,
    )
    use_catalog = Field[bool](
        doc="Measure biases and completeness against truth_catalog alone: injected sources, or a reference "
        "catalogue. It needs ra, dec and flux (nJy) or mag (AB).",
        default=False,
    )
    write_metric_bundle = Field[bool](
        doc=f"Write the metrics as a MetricMeasurementBundle too. {_NO_BUNDLE}",
        default=False,
    )
    truth_fwhm = RangeField[float](
        doc="FWHM of the Gaussian PSF of truth_image, in pixels. Change it with the dataset.",
        default=2.5,
        min=0.5,
    )
    detection_sigma = RangeField[float](
        doc="Threshold for the detection of sources, in sigma. Raise it in crowded fields.",
        default=5.0,
        min=1.0,
    )
    aperture_radius = RangeField[float](
        doc="Radius of the apertures, in arcsec. Raise it with poor seeing: beyond half the FWHM of the "
        "common PSF little is gained.",
        default=1.0,
        min=0.1,
    )
    snr_edges = ListField[float](
        doc="Edges of the bins in S/N, ascending (number); the last bin is open upwards.",
        default=[6.0, 20.0, 100.0],
        minLength=1,
    )
    star_snr = RangeField[float](
        doc="Lowest S/N of a star whose width is measured (number). Lower it in poor fields.",
        default=50.0,
        min=5.0,
    )
    isolation = RangeField[float](
        doc="Radius within which a star whose width is measured has no neighbour of more than 2 % of its "
        "flux, in arcsec.",
        default=3.0,
        min=0.0,
    )

    def validate(self) -> None:
        """Check that the fields fit together.

        Raises
        ------
        lsst.pex.config.FieldValidationError
            If the bins do not ascend, or if both kinds of truth are wanted.
        """
        super().validate()
        edges = list(self.snr_edges)
        if any(not low < high for low, high in zip(edges[:-1], edges[1:], strict=True)):
            raise FieldValidationError(type(self).snr_edges, self, f"snr_edges must ascend; got {edges}.")
        if self.use_truth and self.use_catalog:
            text = "use_truth includes the catalogue: set one of use_truth and use_catalog."
            raise FieldValidationError(type(self).use_catalog, self, text)
        if self.use_exposure and not self.use_tables:
            text = "use_exposure needs inputs_table to choose the exposure: set use_tables."
            raise FieldValidationError(type(self).use_exposure, self, text)
