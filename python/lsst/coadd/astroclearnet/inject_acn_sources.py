# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""The task that adds synthetic sources to visit images."""

from __future__ import annotations

__all__ = (
    "InjectAcnSourcesConfig",
    "InjectAcnSourcesConnections",
    "InjectAcnSourcesTask",
    "InjectionFailedError",
)

from collections.abc import Mapping, Sequence
from typing import Any

import astropy.units as u
import numpy as np
from astropy.table import Table, vstack

import lsst.pipe.base.connectionTypes as cT
from lsst.images import MaskPlane, VisitImage
from lsst.pex.config import Field, RangeField
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

from ._errors import ReasonError
from .core import InvalidExposureError

_DETECTOR = ("instrument", "visit", "detector")


class InjectionFailedError(ReasonError):
    """Sources cannot be injected into an exposure."""


class InjectAcnSourcesConnections(
    PipelineTaskConnections,
    dimensions=_DETECTOR,
    defaultTemplates={
        "injection_prefix": "injection_",
        "injected_prefix": "injected_",
        "calexp_type": "calexp",
    },
):
    """Datasets of `InjectAcnSourcesTask`.

    Names and dimensions of connections and dataset types are those of
    ``VisitInjectTask`` (lsst/source_injection 8da8778 inject_base.py:75,
    inject_visit.py:47).
    """

    injection_catalogs = cT.PrerequisiteInput(
        doc="Catalogues to draw sources from.",
        name="{injection_prefix}catalog",
        storageClass="ArrowAstropy",
        dimensions=("htm7", "band"),
        minimum=0,
        multiple=True,
    )
    input_exposure = cT.Input(
        doc="Calibrated, sky-subtracted detector image.",
        name="{calexp_type}",
        storageClass="VisitImage",
        dimensions=_DETECTOR,
    )
    output_exposure = cT.Output(
        doc="The image with the sources.",
        name="{injected_prefix}{calexp_type}",
        storageClass="VisitImage",
        dimensions=_DETECTOR,
    )
    output_catalog = cT.Output(
        doc="The sources near the image: pixel position, and a flag where one was not drawn.",
        name="{injected_prefix}{calexp_type}_catalog",
        storageClass="ArrowAstropy",
        dimensions=_DETECTOR,
    )


class InjectAcnSourcesConfig(PipelineTaskConfig, pipelineConnections=InjectAcnSourcesConnections):
    """Configuration of `InjectAcnSourcesTask`."""

    trim_padding = RangeField[int](
        doc="Border around the image from which sources are drawn too, in pixels. Raise it for very bright "
        "or large ones.",
        default=100,
        min=0,
    )
    add_noise = Field[bool](
        doc="Add the photon noise of the injected light. Unset it to test what draws the sources.",
        default=True,
    )
    inject_variance = Field[bool](
        doc="Add the variance of that noise to the variance plane. Unset it only where that plane is of the "
        "sky alone.",
        default=True,
    )
    noise_seed = RangeField[int](
        doc="Seed of the noise (number); visit and detector are added to it. Change it for another "
        "realization.",
        default=0,
        min=0,
    )
    gain = RangeField[float](
        doc="Electrons per unit of the image; 0 infers it from how the variance grows with the flux. Set it "
        "where the variance plane is of the sky alone.",
        default=0.0,
        min=0.0,
    )
    mask_plane_name = Field[str](
        doc="Name of the mask plane of pixels with injected light; with _CORE appended, of the cores.",
        default="INJECTED",
    )


class InjectAcnSourcesTask(PipelineTask):
    """Add synthetic sources to a visit image of `lsst.images`.

    Processing summary: draw the sources near the image through its own WCS
    and PSF; add their photon noise; convert to the units of the image by its
    photometric calibration; add them to a copy, and their variance to its
    variance plane; mark the pixels.

    Notes
    -----
    Images of `lsst.afw` have ``VisitInjectTask`` of lsst.source_injection; it
    reads the same catalogues and fits the same place in a pipeline. Unlike
    it, an image without a source is written all the same (there:
    ``process_all_data_ids``), because coadds need it.
    """

    ConfigClass = InjectAcnSourcesConfig
    _DefaultName = "injectAcnSources"
    config: InjectAcnSourcesConfig

    def runQuantum(  # noqa: N802
        self,
        butlerQC: QuantumContext,  # noqa: N803
        inputRefs: Any,  # noqa: N803
        outputRefs: Any,  # noqa: N803
    ) -> None:
        """Fetch datasets, run, put what came out."""
        inputs = butlerQC.get(inputRefs)
        data_id = dict(butlerQC.quantum.dataId.required)
        try:
            outputs = self.run(**inputs, data_id=data_id)
        except AlgorithmError as error:
            raise AnnotatedPartialOutputsError.annotate(error, self, log=self.log) from error
        butlerQC.put(outputs, outputRefs)

    @timeMethod
    def run(
        self,
        *,
        injection_catalogs: Sequence[Table],
        input_exposure: VisitImage,
        data_id: Mapping[str, Any],
    ) -> Struct:
        """Inject sources; needs no Butler.

        Parameters
        ----------
        injection_catalogs
            Catalogues of `~.injection.make_injection_catalog`, or of
            lsst.source_injection; their order does not matter.
        input_exposure
            The image; it is not changed.
        data_id
            Values of ``visit`` and ``detector``; they seed the noise.

        Returns
        -------
        `lsst.pipe.base.Struct`
            ``output_exposure`` (`~lsst.images.VisitImage`) and
            ``output_catalog`` (`~astropy.table.Table`).

        Raises
        ------
        InjectionFailedError
            If the image has no usable PSF, WCS or calibration, or the
            catalogue lacks a column.
        """
        from .adapters import exposure_from_visit_image
        from .core.warp._frame import Frame
        from .injection import InjectionError, draw_light

        try:
            exposure = exposure_from_visit_image(input_exposure, data_id=data_id)
            drawn = draw_light(
                _join(injection_catalogs),
                Frame.of(exposure),
                psf=exposure.psf,
                padding=self.config.trim_padding,
            )
        except (InvalidExposureError, InjectionError) as error:
            raise InjectionFailedError(str(error)) from error
        scale = _njy_per_unit(input_exposure)
        gain = self._choose_gain(exposure, scale)
        light, variance = drawn.light, np.zeros_like(drawn.light)
        if np.isfinite(gain):
            light, variance = self._add_noise(light, gain=gain, data_id=data_id)
        injected = self._add(input_exposure, light / scale, variance / scale**2, drawn)
        n_drawn = int(np.count_nonzero(drawn.catalog["injection_flag"] == 0))
        self.metadata["n_injected"] = n_drawn
        self.metadata["gain"] = float(gain)
        self.log.info("Injected %d of %d sources into %s.", n_drawn, len(drawn.catalog), exposure.label)
        return Struct(output_exposure=injected, output_catalog=drawn.catalog)

    def _choose_gain(self, exposure: Any, scale: np.ndarray) -> float:
        """Return electrons per nJy; NaN if there shall be no noise."""
        from .injection import estimate_gain

        if not (self.config.add_noise or self.config.inject_variance):
            return float("nan")
        if self.config.gain:
            return self.config.gain / float(np.median(scale))
        gain = estimate_gain(exposure)
        if not np.isfinite(gain):
            self.log.warning(
                "The variance of %s does not grow with the flux, so that its gain is not known: the injected "
                "light has no photon noise. Set the field gain.",
                exposure.label,
            )
        return gain

    def _add_noise(
        self, light: np.ndarray, *, gain: float, data_id: Mapping[str, Any]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return light with its noise, and the variance of the noise."""
        from .injection import add_photon_noise

        variance = np.maximum(light, 0) / gain if self.config.inject_variance else np.zeros_like(light)
        if self.config.add_noise:
            seed = [self.config.noise_seed, int(data_id["visit"]), int(data_id["detector"])]
            light = add_photon_noise(light, gain=gain, rng=np.random.default_rng(seed))
        return light, variance

    def _add(self, original: VisitImage, light: np.ndarray, variance: np.ndarray, drawn: Any) -> VisitImage:
        """Return a copy of the image with the sources."""
        copy = original.copy()
        copy.image.array[...] += light.astype(copy.image.array.dtype)
        copy.variance.array[...] += variance.astype(copy.variance.array.dtype)
        name = self.config.mask_plane_name
        planes = {name: drawn.touched, f"{name}_CORE": drawn.cores}
        texts = {name: "Injected light is in this pixel.", f"{name}_CORE": "Centre of an injected source."}
        new = [MaskPlane(plane, texts[plane]) for plane in planes if plane not in copy.mask.schema.names]
        mask = copy.mask.add_planes(new) if new else copy.mask
        for plane, marked in planes.items():
            mask.set(plane, mask.get(plane) | marked)
        metadata = dict(copy.metadata) | {"INJECTED": self.config.connections.calexp_type}
        return VisitImage(
            copy.image,
            mask=mask,
            variance=copy.variance,
            sky_projection=copy.sky_projection,
            bounds=copy.bounds,
            obs_info=copy.obs_info,
            summary_stats=copy.summary_stats,
            photometric_scaling=copy.photometric_scaling,
            psf=copy.psf,
            detector=copy.detector,
            aperture_corrections=copy.aperture_corrections,
            backgrounds=copy.backgrounds,
            band=copy.band,
            metadata=metadata,
        )


def _join(catalogs: Sequence[Table]) -> Table:
    """Join catalogues to one that does not depend on their order."""
    filled = [catalog for catalog in catalogs if len(catalog)]
    if not filled:
        return Table({name: [] for name in ("injection_id", "ra", "dec", "mag")} | {"source_type": [""][:0]})
    table = vstack(filled, metadata_conflicts="silent")
    if "injection_id" not in table.colnames:
        # Numbers made here would be others in the next exposure.
        raise InjectionFailedError(
            "The injection catalogue has no column injection_id, without which a source is not known again "
            "in another exposure; acn inject --catalog adds it."
        )
    table.sort("injection_id")
    return table


def _njy_per_unit(image: VisitImage) -> np.ndarray:
    """Return what one unit of each pixel is in nJy, float64 ``(y, x)``."""
    ones = image.copy()
    ones.image.array[...] = 1
    return ones.convert_unit(u.nJy, copy="as-needed").image.array.astype(float)
