# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""The task that corrects the errors of fluxes in catalogues."""

from __future__ import annotations

__all__ = (
    "ColumnsMissingError",
    "CorrectAcnFluxErrorsConfig",
    "CorrectAcnFluxErrorsConnections",
    "CorrectAcnFluxErrorsTask",
)

from typing import Any

import numpy as np

import lsst.pipe.base.connectionTypes as cT
from lsst.images import Box, Image
from lsst.images.cells import CellCoadd
from lsst.pex.config import Field, ListField
from lsst.pipe.base import PipelineTask, PipelineTaskConfig, PipelineTaskConnections, QuantumContext, Struct
from lsst.utils.timer import timeMethod

from ._connections import PATCH
from ._errors import ReasonError
from .adapters import find_apertures, has_column, make_writable
from .flux_errors import NOISE_AREA, aperture_flux_error, noise_area, variance_between_sources

_UNDEBLENDED = "undeblended_"
"""Forced fluxes that neighbours are left in; they get the aperture corrections
of those without (lsst/obs_subaru d4a8abe config/forcedPhotCoadd.py:39)."""


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
    coadd = cT.Input(
        doc="The coadd.",
        name="{coadd_name}_coadd",
        storageClass="CellCoadd",
        dimensions=PATCH,
    )
    psf_flux_error = cT.Input(
        doc="Standard error of a flux measured with the PSF of the coadd about each pixel, in nJy.",
        name="{coadd_name}_coadd_psf_flux_error",
        storageClass="ImageV2",
        dimensions=PATCH,
    )
    output_catalog = cT.Output(
        doc="The same sources with the true errors of their fluxes.",
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
    psf_fluxes = ListField[str](
        doc="Columns of PSF fluxes, without '_instFluxErr'; not slots, whose aperture corrections are not "
        "known. Those that a catalogue has not are left out.",
        default=["base_PsfFlux", f"{_UNDEBLENDED}base_PsfFlux"],
        minLength=1,
    )
    aperture_fluxes = ListField[str](
        doc="Columns of fluxes in circular apertures, without their radii in pixels and '_instFluxErr'; "
        "not slots. Those that a catalogue has not are left out.",
        default=["base_CircularApertureFlux", f"{_UNDEBLENDED}base_CircularApertureFlux"],
    )
    kron_fluxes = ListField[str](
        doc="Columns of fluxes in Kron's elliptical apertures, without '_instFluxErr'; not slots. Those that "
        "a catalogue has not are left out.",
        default=["ext_photometryKron_KronFlux", f"{_UNDEBLENDED}ext_photometryKron_KronFlux"],
    )
    kron_radii = Field[float](
        doc="Radius of these apertures over that in the column '_radius': nRadiusForFlux of the plugin.",
        default=2.5,
        check=lambda value: value > 0,
    )


class CorrectAcnFluxErrorsTask(PipelineTask):
    """Write the true errors of fluxes into a catalogue of a coadd.

    Processing summary: read the error of the PSF flux at the place of each
    source from the image of errors; add to the errors of aperture fluxes what
    the correlation of the noise of the sky makes; apply the aperture
    corrections of the coadd to both.
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
            catalog=inputs["input_catalog"], coadd=inputs["coadd"], psf_flux_error=inputs["psf_flux_error"]
        )
        butlerQC.put(outputs, outputRefs)

    @timeMethod
    def run(self, *, catalog: Any, coadd: CellCoadd, psf_flux_error: Image) -> Struct:
        """Correct the errors of a catalogue; needs no Butler.

        Parameters
        ----------
        catalog
            Sources: a ``lsst.afw.table.SourceCatalog``, or an
            `~astropy.table.Table` with the same columns. It is changed in
            place, unless it is a catalogue of afw that is not contiguous.
        coadd
            The coadd on which they were measured, in nJy.
        psf_flux_error
            Standard error of a PSF flux about each pixel, in nJy.

        Returns
        -------
        `lsst.pipe.base.Struct`
            ``output_catalog``: the sources. The error of one that has no
            place on the image, or had no error, is NaN.

        Raises
        ------
        ColumnsMissingError
            If the catalogue has no places, or none of the PSF fluxes.

        Notes
        -----
        Fluxes of a coadd of nJy are nJy as ``instFlux``, too. An aperture
        correction multiplies a flux and its error alike, and unsets a flag
        (lsst/meas_base 3e17d70 applyApCorr.py:230-283). It is read from the
        coadd, as in that version the column ``_apCorr`` is NaN.
        """
        catalog = make_writable(catalog)
        places = [f"{self.config.centroid}_{axis}" for axis in "xy"]
        fluxes = [name for name in self.config.psf_fluxes if has_column(catalog, f"{name}_instFluxErr")]
        missing = [name for name in places if not has_column(catalog, name)]
        missing += [] if fluxes else list(self.config.psf_fluxes)
        if missing:
            raise ColumnsMissingError(
                f"The catalogue has no {' nor '.join(missing)}: set centroid and psf_fluxes to its columns."
            )
        x, y = (np.asarray(catalog[name]) for name in places)
        error = read_at(psf_flux_error.array, psf_flux_error.bbox, x=x, y=y)
        self.metadata["n_sources"], self.metadata["n_placed"] = len(x), int(np.isfinite(error).sum())
        self.log.info("%d of %d sources lie on the image.", self.metadata["n_placed"], len(x))
        errors = {flux: error * self._correction(catalog, coadd, flux, x=x, y=y) for flux in fluxes}
        errors |= self._correct_apertures(catalog, coadd, x=x, y=y)
        # The stack puts empty places where there are no data, too.
        data = read_at(~coadd.mask.get("NO_DATA"), coadd.bbox, x=x, y=y) == 1
        for flux, values in errors.items():
            self._replace(catalog, flux, values, counted=data)
        return Struct(output_catalog=catalog)

    def _correct_apertures(
        self, catalog: Any, coadd: CellCoadd, *, x: np.ndarray, y: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Return the corrected errors of fluxes in apertures."""
        apertures = self._find_apertures(catalog)
        if not apertures:
            names = ", ".join([*self.config.aperture_fluxes, *self.config.kron_fluxes])
            self.log.warning("The catalogue has no fluxes in apertures (%s).", names)
            return {}
        if not any(key.startswith(NOISE_AREA) for key in coadd.metadata):
            text = "The coadd does not tell the correlation of its noise: errors of %s stay."
            self.log.warning(text, ", ".join(apertures))
            return {}
        good = ~coadd.mask.get("NO_DATA")
        variance = (
            variance_between_sources(coadd.variance.array, good) if good.any() else coadd.variance.array
        )
        sky = read_at(variance, coadd.bbox, x=x, y=y)
        errors = {}
        for flux, radius in apertures.items():
            area = noise_area(coadd.metadata, np.sqrt(np.pi) * radius)
            correction = self._correction(catalog, coadd, flux, x=x, y=y)
            before = np.asarray(catalog[f"{flux}_instFluxErr"])
            errors[flux] = aperture_flux_error(
                before, radius=radius, sky_variance=sky * correction**2, area=area
            )
        return errors

    def _find_apertures(self, catalog: Any) -> dict[str, np.ndarray]:
        """Return the radii in pixels of the apertures of a catalogue, one for
        all sources or one for each.
        """
        found = find_apertures(catalog, self.config.aperture_fluxes)
        radii = {flux: np.asarray(radius) for flux, radius in found}
        for flux in self.config.kron_fluxes:
            if has_column(catalog, f"{flux}_instFluxErr"):
                radius = np.asarray(catalog[f"{flux}_radius"], dtype=float)
                radii[flux] = np.where(radius > 0, self.config.kron_radii * radius, np.nan)
        return radii

    @staticmethod
    def _correction(catalog: Any, coadd: CellCoadd, flux: str, *, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the aperture correction that measurement has applied to each
        source, 1 where it has applied none.
        """
        flag = f"{flux}_flag_apCorr"
        field = coadd.aperture_corrections.get(f"{flux.removeprefix(_UNDEBLENDED)}_instFlux")
        if field is None or not has_column(catalog, flag):
            return np.ones(len(x))
        values = read_at(field.render(coadd.bbox).array, coadd.bbox, x=x, y=y)
        return np.where(~np.asarray(catalog[flag]) & np.isfinite(values), values, 1.0)

    def _replace(self, catalog: Any, flux: str, error: np.ndarray, *, counted: np.ndarray) -> None:
        """Write errors into a catalogue, where it had some, and tell by what
        factor those that count have changed.
        """
        name = f"{flux}_instFluxErr"
        before = np.array(catalog[name])
        catalog[name] = np.where(np.isfinite(before), error, np.nan)
        known = counted & np.isfinite(error) & (before > 0)
        if known.any():
            ratio = float(np.median(error[known] / before[known]))
            self.metadata[f"{flux}_ratio"] = ratio
            self.log.info("Errors of %s are %.2f times what they were (median).", flux, ratio)


def read_at(array: np.ndarray, box: Box, *, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the values of the pixels nearest to places.

    Parameters
    ----------
    array
        Pixels, ``(y, x)``.
    box
        Their bounding box.
    x, y
        Places, ``(k,)``, in the same pixels as the box.

    Returns
    -------
    `numpy.ndarray`
        ``(k,)``; NaN at places that are not finite or beyond the image.
    """
    inside = np.ones(len(x), dtype=bool)
    for places, side in ((x, box.x), (y, box.y)):
        inside &= (places > side.start - 0.5) & (places < side.stop - 0.5)
    rows, columns = (
        np.rint(places[inside]).astype(int) - side.start for places, side in ((y, box.y), (x, box.x))
    )
    values = np.full(len(x), np.nan)
    values[inside] = array[rows, columns]
    return values
