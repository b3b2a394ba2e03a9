# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""The task that compares a latent coadd with a standard one."""

from __future__ import annotations

__all__ = (
    "CompareAcnCoaddConfig",
    "CompareAcnCoaddConnections",
    "CompareAcnCoaddTask",
    "IncomparableCoaddsError",
)

import dataclasses
import math
from typing import Any

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.table import Table

import lsst.pipe.base.connectionTypes as cT
from lsst.images import Image
from lsst.images.cells import CellCoadd
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

_PATCH = ("skymap", "tract", "patch", "band")


class IncomparableCoaddsError(AlgorithmError):
    """The coadds of a patch cannot be compared."""

    @property
    def metadata(self) -> dict[str, str]:
        return {"reason": str(self)}


class CompareAcnCoaddConnections(
    PipelineTaskConnections,
    dimensions=_PATCH,
    defaultTemplates={"coadd_name": "acn", "reference_type": "deepCoadd"},
):
    """Datasets of `CompareAcnCoaddTask`; YAML can rename each of them."""

    # No existence of the reference or the truth may decide whether a patch
    # is worked at all: the assembly task is in the same graph.
    reference = cT.Input(
        doc="Standard coadd to compare with.",
        name="{reference_type}",
        storageClass="CellCoadd",
        dimensions=_PATCH,
        deferGraphConstraint=True,
    )
    coadd = cT.Input(
        doc="Latent image plus matched residual.",
        name="{coadd_name}_coadd",
        storageClass="CellCoadd",
        dimensions=_PATCH,
    )
    latent = cT.Input(
        doc="Latent image; used if use_latent is set.",
        name="{coadd_name}_latent",
        storageClass="CellCoadd",
        dimensions=_PATCH,
    )
    n_image = cT.Input(
        doc="Number of inputs used in each pixel.",
        name="{coadd_name}_coadd_n_image",
        storageClass="ImageV2",
        dimensions=_PATCH,
    )
    truth_image = cT.Input(
        doc="Noiseless image with a Gaussian PSF, in nJy; used if use_truth is set.",
        name="acn_truth_image",
        storageClass="ImageV2",
        dimensions=_PATCH,
        deferGraphConstraint=True,
    )
    truth_catalog = cT.Input(
        doc="True positions and kinds of sources; used if use_truth is set.",
        name="acn_truth_catalog",
        storageClass="ArrowAstropy",
        dimensions=_PATCH,
        deferGraphConstraint=True,
    )
    metrics = cT.Output(
        doc="One row for each figure and plane, with its definition.",
        name="{coadd_name}_coadd_comparison_metrics",
        storageClass="ArrowAstropy",
        dimensions=_PATCH,
    )
    plot = cT.Output(
        doc="The planes side by side at one stretch.",
        name="{coadd_name}_coadd_comparison_plot",
        storageClass="Plot",
        dimensions=_PATCH,
    )

    def __init__(self, *, config: CompareAcnCoaddConfig | None = None):
        super().__init__(config=config)
        if config is None:
            return
        if config.image_model == "afw":
            self.reference = dataclasses.replace(self.reference, storageClass="ExposureF")
        if not config.use_latent:
            del self.latent
        if not config.use_truth:
            del self.truth_image
            del self.truth_catalog


class CompareAcnCoaddConfig(PipelineTaskConfig, pipelineConnections=CompareAcnCoaddConnections):
    """Configuration of `CompareAcnCoaddTask`."""

    image_model = ChoiceField[str](
        doc="Library of the reference coadd. Change it to 'afw' in the full Science Pipelines.",
        allowed={"images": "CellCoadd of lsst.images.", "afw": "ExposureF of lsst.afw."},
        default="images",
        optional=False,
    )
    use_latent = Field[bool](
        doc="Compare the latent image too. Unset it where none was made (methods 'kaiser' and 'mean').",
        default=True,
    )
    use_truth = Field[bool](
        doc="Measure flux biases against the truth of a simulation. Set it for the demo repository.",
        default=False,
    )
    truth_fwhm = RangeField[float](
        doc="FWHM of the Gaussian PSF of truth_image, in pixels. Change it with the dataset.",
        default=2.5,
        min=0.5,
    )
    detection_sigma = RangeField[float](
        doc="Threshold for the detection of sources in the reference, in sigma. Raise it in crowded fields.",
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
        doc="Radius within which such a star has no neighbour of more than 2 % of its flux, in arcsec.",
        default=3.0,
        min=0.0,
    )

    def validate(self) -> None:
        """Check that the bins ascend.

        Raises
        ------
        lsst.pex.config.FieldValidationError
            If they do not.
        """
        super().validate()
        edges = list(self.snr_edges)
        if any(not low < high for low, high in zip(edges[:-1], edges[1:], strict=True)):
            raise FieldValidationError(type(self).snr_edges, self, f"snr_edges must ascend; got {edges}.")


class CompareAcnCoaddTask(PipelineTask):
    """Compare the coadds of a patch: star widths, sky, fluxes, a picture.

    Processing summary: bring all planes to one PSF; measure the same sources
    in each; measure stars and sky on the planes as they are; draw them.
    """

    ConfigClass = CompareAcnCoaddConfig
    _DefaultName = "compareAcnCoadd"
    config: CompareAcnCoaddConfig

    def runQuantum(  # noqa: N802
        self,
        butlerQC: QuantumContext,  # noqa: N803
        inputRefs: Any,  # noqa: N803
        outputRefs: Any,  # noqa: N803
    ) -> None:
        """Fetch datasets, run, put what came out."""
        inputs = butlerQC.get(inputRefs)
        names = {name: getattr(inputRefs, name).datasetType.name for name in inputs}
        data_id = butlerQC.quantum.dataId
        title = "  ".join(f"{key}={data_id[key]}" for key in _PATCH)
        try:
            outputs = self.run(**inputs, names=names, title=title)
        except AlgorithmError as error:
            raise AnnotatedPartialOutputsError.annotate(error, self, log=self.log) from error
        butlerQC.put(outputs, outputRefs)

    @timeMethod
    def run(
        self,
        *,
        reference: Any,
        coadd: CellCoadd,
        latent: CellCoadd | None = None,
        n_image: Image,
        truth_image: Image | None = None,
        truth_catalog: Table | None = None,
        names: dict[str, str] | None = None,
        title: str = "",
    ) -> Struct:
        """Compare coadds; needs no Butler.

        Parameters
        ----------
        reference
            Standard coadd, ``CellCoadd`` or ``ExposureF`` as `image_model`
            says.
        coadd
            Latent image plus matched residual.
        latent
            Latent image.
        n_image
            Number of inputs used in each pixel.
        truth_image
            Noiseless image, in nJy.
        truth_catalog
            Columns ``ra`` and ``dec`` in degrees, ``type`` (``star`` or not).
        names
            Name of each plane in the table and the picture, by the names of
            these parameters; those of the connections by default.
        title
            Written over the picture.

        Returns
        -------
        `lsst.pipe.base.Struct`
            ``metrics`` (`~astropy.table.Table`) and ``plot``
            (`~matplotlib.figure.Figure`).

        Raises
        ------
        IncomparableCoaddsError
            If the planes do not share their pixels, have no PSF, or have a
            unit that is not of flux density.
        """
        from ._coadds import view_from_cell_coadd
        from ._metrics import compare_views
        from ._plots import make_comparison_figure

        names = {"reference": "deepCoadd", "coadd": "acn_coadd", "latent": "acn_latent"} | (names or {})
        try:
            views = [self._view_reference(reference, names["reference"])]
            views.append(view_from_cell_coadd(coadd, name=names["coadd"]))
            if latent is not None:
                views.append(view_from_cell_coadd(latent, name=names["latent"]))
            truth = None
            if truth_image is not None and truth_catalog is not None:
                truth = self._view_truth(truth_image, truth_catalog, coadd)
            comparison = compare_views(
                views,
                truth=truth,
                detection_sigma=self.config.detection_sigma,
                aperture_radius=self.config.aperture_radius,
                snr_edges=[*self.config.snr_edges, math.inf],
                star_snr=self.config.star_snr,
                isolation=self.config.isolation,
            )
        except ValueError as error:
            raise IncomparableCoaddsError(str(error)) from error
        self.log.info(
            "Measured %d sources and %d stars in %d planes.",
            *(len(comparison.sources.x), int(np.sum(comparison.stars)), len(views)),
        )
        self.metadata["n_sources"] = len(comparison.sources.x)
        self.metadata["n_stars"] = int(np.sum(comparison.stars))
        shown = [*views, truth.view] if truth else views
        figure = make_comparison_figure(shown, comparison, n_image=np.asarray(n_image.array), title=title)
        return Struct(metrics=comparison.metrics, plot=figure)

    def _view_reference(self, reference: Any, name: str) -> Any:
        """Look at the reference, whatever library it comes from."""
        from ._coadds import view_from_cell_coadd, view_from_exposure

        if self.config.image_model == "images":
            return view_from_cell_coadd(reference, name=name)
        from .adapters import make_adapter

        # The adapter wants a data id to name an exposure; a coadd has none.
        exposure = make_adapter("afw").adapt(reference, data_id={"visit": 0, "detector": 0})
        return view_from_exposure(exposure, name=name)

    def _view_truth(self, image: Image, catalog: Table, coadd: CellCoadd) -> Any:
        """Put the truth on the pixels of the coadd."""
        from ._coadds import view_from_truth
        from ._metrics import Truth

        view = view_from_truth(image, fwhm=self.config.truth_fwhm, like=coadd, name="truth")
        ra, dec = (np.asarray(catalog[name], dtype=float) for name in ("ra", "dec"))
        place = coadd.sky_projection.sky_to_pixel(SkyCoord(ra=ra, dec=dec, unit="deg"))
        inside = view.contains(x=place.x, y=place.y)
        return Truth(
            x=place.x[inside],
            y=place.y[inside],
            is_star=np.asarray(catalog["type"])[inside] == "star",
            view=view,
        )
