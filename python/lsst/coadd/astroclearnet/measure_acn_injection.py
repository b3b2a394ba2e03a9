# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""The task that looks for injected sources in the coadds."""

from __future__ import annotations

__all__ = (
    "InjectionNotMeasurableError",
    "MeasureAcnInjectionConfig",
    "MeasureAcnInjectionConnections",
    "MeasureAcnInjectionTask",
)

import dataclasses
from collections.abc import Mapping
from typing import Any

from astropy.table import Table

import lsst.pipe.base.connectionTypes as cT
from lsst.images import Image
from lsst.pex.config import ChoiceField, Field, FieldValidationError, ListField, RangeField
from lsst.pipe.base import (
    AlgorithmError,
    AnnotatedPartialOutputsError,
    PipelineTask,
    PipelineTaskConfig,
    PipelineTaskConnections,
    QuantumContext,
    Struct,
)
from lsst.utils.timer import timeMethod

from ._connections import PATCH
from ._errors import ReasonError

_PLANES = ("reference", "coadd", "latent")


class InjectionNotMeasurableError(ReasonError):
    """Coadds with and without injected sources do not go together."""


def _coadd(doc: str, name: str) -> cT.Input:
    return cT.Input(doc=doc, name=name, storageClass="CellCoadd", dimensions=PATCH, deferGraphConstraint=True)


class MeasureAcnInjectionConnections(
    PipelineTaskConnections,
    dimensions=PATCH,
    defaultTemplates={"injected_prefix": "injected_", "coadd_name": "acn", "reference_type": "deepCoadd"},
):
    """Datasets of `MeasureAcnInjectionTask`."""

    truth_catalog = cT.Input(
        doc="Injected sources on the patch.",
        name="{injected_prefix}truth_catalog",
        storageClass="ArrowAstropy",
        dimensions=PATCH,
    )
    truth_image = cT.Input(
        doc="Their light without noise at a Gaussian PSF, in nJy.",
        name="{injected_prefix}truth_image",
        storageClass="ImageV2",
        dimensions=PATCH,
    )
    reference = _coadd("Standard coadd with sources.", "{injected_prefix}{reference_type}")
    coadd = cT.Input(
        doc="Coadd with sources: latent image plus matched residual.",
        name="{injected_prefix}{coadd_name}_coadd",
        storageClass="CellCoadd",
        dimensions=PATCH,
    )
    latent = _coadd(
        "Latent image with sources; used if use_latent is set.", "{injected_prefix}{coadd_name}_latent"
    )
    reference_before = _coadd("Standard coadd without sources; used if it exists.", "{reference_type}")
    coadd_before = _coadd("Coadd without sources; used if it exists.", "{coadd_name}_coadd")
    latent_before = _coadd("Latent image without sources; used if it exists.", "{coadd_name}_latent")
    metrics = cT.Output(
        doc="One row for each figure and plane, with its definition.",
        name="{injected_prefix}{coadd_name}_injection_metrics",
        storageClass="ArrowAstropy",
        dimensions=PATCH,
    )
    sources = cT.Output(
        doc="Each injected source: whether it was found in each plane, and its flux there.",
        name="{injected_prefix}{coadd_name}_injection_sources",
        storageClass="ArrowAstropy",
        dimensions=PATCH,
    )

    def __init__(self, *, config: MeasureAcnInjectionConfig | None = None):
        super().__init__(config=config)
        if config is None:
            return
        if config.image_model == "afw":
            for name in ("reference", "reference_before"):
                setattr(self, name, dataclasses.replace(getattr(self, name), storageClass="ExposureF"))
        if not config.use_latent:
            del self.latent
            del self.latent_before

    def adjustQuantum(self, inputs, outputs, label, data_id):  # noqa: N802
        """Let a patch be worked without the coadds that can be missing."""
        needed = {name: value for name, value in inputs.items() if not name.endswith("_before")}
        return super().adjustQuantum(needed, outputs, label, data_id)


class MeasureAcnInjectionConfig(PipelineTaskConfig, pipelineConnections=MeasureAcnInjectionConnections):
    """Configuration of `MeasureAcnInjectionTask`."""

    image_model = ChoiceField[str](
        doc="Library of the standard coadds. Change it to 'afw' in the full Science Pipelines.",
        allowed={"images": "CellCoadd of lsst.images.", "afw": "ExposureF of lsst.afw."},
        default="images",
        optional=False,
    )
    use_latent = Field[bool](
        doc="Measure on the latent image too. Unset it where none was made (methods 'kaiser' and 'mean').",
        default=True,
    )
    truth_fwhm = RangeField[float](
        doc="FWHM of the Gaussian PSF of truth_image, in pixels. Change it with that of gatherAcnInjected.",
        default=2.5,
        min=1.0,
    )
    detection_sigma = RangeField[float](
        doc="Threshold for detection, in sigma. Change it to that of your own catalogues.",
        default=5.0,
        min=1.0,
    )
    match_radius = RangeField[float](
        doc="Largest distance between a detection and its source, in arcsec. Lower it in crowded fields.",
        default=0.7,
        min=0.05,
    )
    aperture_radius = RangeField[float](
        doc="Radius of the apertures, in arcsec. Raise it with poor seeing.",
        default=1.0,
        min=0.1,
    )
    mag_edges = ListField[float](
        doc="Edges of the bins in magnitude (AB), ascending. Set them about the depth of your data.",
        default=[20.0, 22.0, 23.0, 24.0, 25.0, 26.0],
        minLength=2,
    )

    def validate(self) -> None:
        """Check that the bins ascend.

        Raises
        ------
        lsst.pex.config.FieldValidationError
            If they do not.
        """
        super().validate()
        edges = list(self.mag_edges)
        if any(not low < high for low, high in zip(edges[:-1], edges[1:], strict=True)):
            raise FieldValidationError(type(self).mag_edges, self, f"mag_edges must ascend; got {edges}.")


class MeasureAcnInjectionTask(PipelineTask):
    """Measure completeness, flux bias and false positives on real data.

    Processing summary: detect sources in each coadd with and without the
    injected ones; match the new detections with what was injected; measure
    fluxes as differences of both at one PSF.

    Notes
    -----
    Without coadds from before, sources that are on the sky anyway cannot be
    told from false positives, which are NaN then, and add to the fluxes.
    """

    ConfigClass = MeasureAcnInjectionConfig
    _DefaultName = "measureAcnInjection"
    config: MeasureAcnInjectionConfig

    def runQuantum(  # noqa: N802
        self,
        butlerQC: QuantumContext,  # noqa: N803
        inputRefs: Any,  # noqa: N803
        outputRefs: Any,  # noqa: N803
    ) -> None:
        """Fetch datasets, run, put what came out."""
        inputs = {name: value for name, value in butlerQC.get(inputRefs).items() if value is not None}
        names = {name: getattr(inputRefs, name).datasetType.name for name in _PLANES if name in inputs}
        try:
            outputs = self.run(**inputs, names=names)
        except AlgorithmError as error:
            raise AnnotatedPartialOutputsError.annotate(error, self, log=self.log) from error
        butlerQC.put(outputs, outputRefs)

    @timeMethod
    def run(
        self,
        *,
        truth_catalog: Table,
        truth_image: Image,
        coadd: Any,
        names: Mapping[str, str] | None = None,
        **coadds: Any,
    ) -> Struct:
        """Measure one patch; needs no Butler.

        Parameters
        ----------
        truth_catalog, truth_image
            What `GatherAcnInjectedTask` makes.
        coadd
            Latent image plus matched residual, with the sources.
        names
            Names of the planes ``reference``, ``coadd`` and ``latent``.
        **coadds
            The other coadds, by the names of the connections; each may be
            missing.

        Returns
        -------
        `lsst.pipe.base.Struct`
            ``metrics`` and ``sources`` (`~astropy.table.Table`), as
            `~.injection.measure_injection` says.

        Raises
        ------
        InjectionNotMeasurableError
            If the coadds do not share their pixels.
        """
        from ._coadds import view_from_truth
        from .injection import measure_injection

        names = {"reference": "deepCoadd", "coadd": "acn_coadd", "latent": "acn_latent"} | dict(names or {})
        coadds = {**coadds, "coadd": coadd}
        try:
            pairs = [
                self._pair(coadds[plane], coadds.get(f"{plane}_before"), names[plane], plane)
                for plane in _PLANES
                if coadds.get(plane) is not None
            ]
            like = next(pair.after for pair in pairs if pair.after.name == names["coadd"])
            truth = view_from_truth(truth_image, fwhm=self.config.truth_fwhm, like=like)
            metrics, sources = measure_injection(
                pairs,
                truth,
                truth_catalog,
                detection_sigma=self.config.detection_sigma,
                match_radius=self.config.match_radius,
                aperture_radius=self.config.aperture_radius,
                mag_edges=list(self.config.mag_edges),
            )
        except ValueError as error:
            raise InjectionNotMeasurableError(str(error)) from error
        self.metadata["n_injected"] = len(sources)
        return Struct(metrics=metrics, sources=sources)

    def _pair(self, after: Any, before: Any | None, name: str, plane: str) -> Any:
        """Look at a coadd with and, if there is one, without sources."""
        from .injection import Pair, list_differences

        if before is None:
            self.log.warning("There is no %s without sources: false positives are not known.", name)
            return Pair(after=self._view(after, name, plane))
        told = [getattr(image, "metadata", None) or {} for image in (after, before)]
        differences = list_differences(*told)
        if differences:
            self.log.warning(
                "%s without sources was made otherwise (%s): make it anew, or leave it out of the input.",
                name,
                ", ".join(differences),
            )
        return Pair(
            after=self._view(after, name, plane),
            before=self._view(before, f"{name} before", plane),
            differences=differences,
        )

    def _view(self, image: Any, name: str, plane: str) -> Any:
        """Look at a coadd, whatever library it comes from."""
        from ._coadds import view_coadd

        model = self.config.image_model if plane == "reference" else "images"
        return view_coadd(image, image_model=model, name=name)
