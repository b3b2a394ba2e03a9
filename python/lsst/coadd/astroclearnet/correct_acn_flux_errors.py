# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""The task that corrects the errors of PSF fluxes in catalogues."""

from __future__ import annotations

__all__ = (
    "ColumnsMissingError",
    "CorrectAcnFluxErrorsConfig",
    "CorrectAcnFluxErrorsConnections",
    "CorrectAcnFluxErrorsTask",
)

from collections.abc import Mapping
from typing import Any

import numpy as np

import lsst.pipe.base.connectionTypes as cT
from lsst.images import Image
from lsst.images.cells import CellField
from lsst.pex.config import Field
from lsst.pipe.base import PipelineTask, PipelineTaskConfig, PipelineTaskConnections, QuantumContext, Struct
from lsst.utils.timer import timeMethod

from ._connections import PATCH
from ._errors import ReasonError


class ColumnsMissingError(ReasonError):
    """A catalogue lacks columns that the configuration names."""


class CorrectAcnFluxErrorsConnections(
    PipelineTaskConnections, dimensions=PATCH, defaultTemplates={"coadd_name": "acn"}
):
    """Datasets of `CorrectAcnFluxErrorsTask`."""

    input_catalog = cT.Input(
        doc="Sources measured on the coadd, by tasks that take the noise of its pixels for independent.",
        name="{coadd_name}Coadd_meas_uncorrected",
        storageClass="SourceCatalog",
        dimensions=PATCH,
    )
    psf_flux_error = cT.Input(
        doc="Standard error of a flux measured with the PSF of the coadd about each pixel, in nJy.",
        name="{coadd_name}_coadd_psf_flux_error",
        storageClass="ImageV2",
        dimensions=PATCH,
    )
    coadd = cT.Input(
        doc="The coadd, of which the aperture corrections are read.",
        name="{coadd_name}_coadd",
        storageClass="CellCoadd",
        dimensions=PATCH,
        # Named as a component, it would need a registered dataset type even
        # to be drawn in a graph.
        deferLoad=True,
    )
    output_catalog = cT.Output(
        doc="The same sources with the true errors of their PSF fluxes.",
        name="{coadd_name}Coadd_meas",
        storageClass="SourceCatalog",
        dimensions=PATCH,
    )


class CorrectAcnFluxErrorsConfig(PipelineTaskConfig, pipelineConnections=CorrectAcnFluxErrorsConnections):
    """Configuration of `CorrectAcnFluxErrorsTask`."""

    centroid = Field[str](
        doc="Columns of the places at which fluxes were measured, without '_x' and '_y'.",
        default="slot_Centroid",
    )
    flux = Field[str](
        doc="Columns of the PSF flux, without '_instFluxErr'.",
        default="base_PsfFlux",
    )


class CorrectAcnFluxErrorsTask(PipelineTask):
    """Write the true errors of PSF fluxes into a catalogue of a coadd.

    Processing summary: read the error at the place of each source from the
    image of errors; write it, times the aperture correction of the coadd, in
    the place of what measurement has made of the variance of single pixels.
    """

    ConfigClass = CorrectAcnFluxErrorsConfig
    _DefaultName = "correctAcnFluxErrors"
    config: CorrectAcnFluxErrorsConfig

    def runQuantum(  # noqa: N802
        self,
        butlerQC: QuantumContext,  # noqa: N803
        inputRefs: Any,  # noqa: N803
        outputRefs: Any,  # noqa: N803
    ) -> None:
        """Fetch datasets, run, put what came out."""
        inputs = butlerQC.get(inputRefs)
        outputs = self.run(
            catalog=inputs["input_catalog"],
            psf_flux_error=inputs["psf_flux_error"],
            aperture_corrections=inputs["coadd"].get(component="aperture_corrections"),
        )
        butlerQC.put(outputs, outputRefs)

    @timeMethod
    def run(
        self, *, catalog: Any, psf_flux_error: Image, aperture_corrections: Mapping[str, CellField]
    ) -> Struct:
        """Correct the errors of a catalogue; needs no Butler.

        Parameters
        ----------
        catalog
            Sources, changed in place: a ``lsst.afw.table.SourceCatalog``, or
            an `~astropy.table.Table` with the same columns.
        psf_flux_error
            Standard error of a PSF flux about each pixel, in nJy.
        aperture_corrections
            Those of the coadd, by the name of the flux (`flux` with
            ``_instFlux``).

        Returns
        -------
        `lsst.pipe.base.Struct`
            ``output_catalog``: `catalog`. The error of a source that has no
            place on the image is NaN.

        Raises
        ------
        ColumnsMissingError
            If the catalogue has no such columns.

        Notes
        -----
        Fluxes of a coadd of nJy are nJy as ``instFlux``, too. An aperture
        correction multiplies a flux and its error alike, and unsets a flag
        (lsst/meas_base 3e17d70 applyApCorr.py:230-283). It is read from the
        coadd, as in that version the column ``_apCorr`` is NaN.
        """
        flux, places = self.config.flux, [f"{self.config.centroid}_{axis}" for axis in "xy"]
        missing = [name for name in (*places, f"{flux}_instFluxErr") if not _has(catalog, name)]
        if missing:
            raise ColumnsMissingError(
                f"The catalogue has no {' nor '.join(missing)}: set flux and centroid to columns that it has."
            )
        x, y = (np.asarray(catalog[name]) for name in places)
        error = read_at(psf_flux_error, x=x, y=y)
        correction = aperture_corrections.get(f"{flux}_instFlux")
        if correction is not None and _has(catalog, f"{flux}_flag_apCorr"):
            factor = read_at(correction.render(psf_flux_error.bbox), x=x, y=y)
            applied = ~np.asarray(catalog[f"{flux}_flag_apCorr"]) & np.isfinite(factor)
            error[applied] *= factor[applied]
        name = f"{flux}_instFluxErr"
        before = np.array(catalog[name])
        catalog[name] = error
        self._report(before, error)
        return Struct(output_catalog=catalog)

    def _report(self, before: np.ndarray, after: np.ndarray) -> None:
        """Log what has changed, and note it in the metadata of the task."""
        known = np.isfinite(after)
        ratios = (after / np.where(before > 0, before, np.nan))[known & (before > 0)]
        self.metadata["n_sources"], self.metadata["n_corrected"] = len(after), int(known.sum())
        if len(ratios):
            self.metadata["median_ratio"] = float(np.median(ratios))
            self.log.info(
                "Errors of PSF fluxes of %d of %d sources corrected; in the median by a factor of %.2f.",
                known.sum(),
                len(after),
                self.metadata["median_ratio"],
            )
        else:
            self.log.info("None of %d sources has an error of its PSF flux.", len(after))


def read_at(image: Image, *, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the values of the pixels nearest to places.

    Parameters
    ----------
    image
        Any image.
    x, y
        Places, ``(k,)``, in the pixels of its bounding box.

    Returns
    -------
    `numpy.ndarray`
        ``(k,)``; NaN at places that are not finite or beyond the image.
    """
    box = image.bbox
    inside = np.ones(len(x), dtype=bool)
    for places, side in ((x, box.x), (y, box.y)):
        inside &= (places > side.start - 0.5) & (places < side.stop - 0.5)
    rows, columns = (
        np.rint(places[inside]).astype(int) - side.start for places, side in ((y, box.y), (x, box.x))
    )
    values = np.full(len(x), np.nan)
    values[inside] = image.array[rows, columns]
    return values


def _has(catalog: Any, name: str) -> bool:
    """Tell whether a catalogue of either library has a column, or an alias of
    one (``name in schema``: afw/table/_schema.cc:481).
    """
    return name in (catalog.schema if hasattr(catalog, "schema") else catalog.colnames)
