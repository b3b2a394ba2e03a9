# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""The task that tells what the coadds of injected exposures should hold."""

from __future__ import annotations

__all__ = ("GatherAcnInjectedConfig", "GatherAcnInjectedConnections", "GatherAcnInjectedTask")

from collections.abc import Sequence
from typing import Any

from astropy.table import Table

import lsst.pipe.base.connectionTypes as cT
from lsst.pex.config import ChoiceField, RangeField
from lsst.pipe.base import (
    PipelineTask,
    PipelineTaskConfig,
    PipelineTaskConnections,
    QuantumContext,
    Struct,
)
from lsst.utils.timer import timeMethod

from ._connections import PATCH
from .adapters import PatchGeometry
from .inputs._collect import read_geometry


class GatherAcnInjectedConnections(
    PipelineTaskConnections,
    dimensions=PATCH,
    defaultTemplates={"injected_prefix": "injected_", "calexp_type": "calexp"},
):
    """Datasets of `GatherAcnInjectedTask`."""

    injected_catalogs = cT.Input(
        doc="What was injected into each exposure, by injectAcnSources or by lsst.source_injection.",
        name="{injected_prefix}{calexp_type}_catalog",
        storageClass="ArrowAstropy",
        dimensions=("instrument", "visit", "detector"),
        multiple=True,
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
    truth_catalog = cT.Output(
        doc="Injected sources on the patch, for compareAcnCoadd.",
        name="{injected_prefix}truth_catalog",
        storageClass="ArrowAstropy",
        dimensions=PATCH,
    )
    truth_image = cT.Output(
        doc="Their light without noise at a Gaussian PSF, in nJy.",
        name="{injected_prefix}truth_image",
        storageClass="ImageV2",
        dimensions=PATCH,
    )

    def __init__(self, *, config: GatherAcnInjectedConfig | None = None):
        super().__init__(config=config)
        if config is not None:
            delattr(self, "geometry" if config.image_model == "afw" else "sky_map")


class GatherAcnInjectedConfig(PipelineTaskConfig, pipelineConnections=GatherAcnInjectedConnections):
    """Configuration of `GatherAcnInjectedTask`."""

    image_model = ChoiceField[str](
        doc="Where tracts and patches are described. Change it to 'afw' in the full Science Pipelines.",
        allowed={"images": "The geometry dataset.", "afw": "The skyMap dataset."},
        default="images",
        optional=False,
    )
    truth_fwhm = RangeField[float](
        doc="FWHM of the Gaussian PSF of truth_image, in pixels. Change it with that of compareAcnCoadd.",
        default=2.5,
        min=1.0,
    )


class GatherAcnInjectedTask(PipelineTask):
    """Gather the injected sources of a patch as a truth to compare with.

    Processing summary: join the catalogues of all exposures; keep the sources
    that were drawn and lie on the patch; draw them without noise.
    """

    ConfigClass = GatherAcnInjectedConfig
    _DefaultName = "gatherAcnInjected"
    config: GatherAcnInjectedConfig

    def runQuantum(  # noqa: N802
        self,
        butlerQC: QuantumContext,  # noqa: N803
        inputRefs: Any,  # noqa: N803
        outputRefs: Any,  # noqa: N803
    ) -> None:
        """Fetch datasets, run, put what came out."""
        geometry = read_geometry(butlerQC, inputRefs, image_model=self.config.image_model)
        outputs = self.run(injected_catalogs=butlerQC.get(inputRefs.injected_catalogs), geometry=geometry)
        butlerQC.put(outputs, outputRefs)

    @timeMethod
    def run(self, *, injected_catalogs: Sequence[Table], geometry: PatchGeometry) -> Struct:
        """Gather the sources of a patch; needs no Butler.

        Parameters
        ----------
        injected_catalogs
            What was injected into each exposure, in any order.
        geometry
            The patch.

        Returns
        -------
        `lsst.pipe.base.Struct`
            ``truth_catalog`` (`~astropy.table.Table`) and ``truth_image``
            (`~lsst.images.Image`), as `~.injection.make_truth` says.
        """
        from .injection import make_truth, merge_injected

        injected = merge_injected(injected_catalogs)
        catalog, image = make_truth(injected, geometry, target_fwhm=self.config.truth_fwhm)
        self.metadata["n_sources"] = len(catalog)
        self.log.info("%d injected sources are on the patch.", len(catalog))
        return Struct(truth_catalog=catalog, truth_image=image)
