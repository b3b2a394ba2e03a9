# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Catalogues of ``acn demo`` by the tasks of the Science Pipelines.

Needs the full stack. Its tasks ask for the sky map as an object of
``lsst.skymap``, which such a repository does not have: without the full stack
nothing could make it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lsst.geom
from lsst.coadd.astroclearnet.demo._demo import PATCH, SKYMAP, TRACT
from lsst.daf.butler import Butler, DatasetType, MissingCollectionError, MissingDatasetTypeError
from lsst.pipe.base import LabelSpecifier, Pipeline
from lsst.pipe.base.simple_pipeline_executor import SimplePipelineExecutor
from lsst.skymap import BaseSkyMap, PatchInfo

_PIPELINES = "resource://lsst.coadd.astroclearnet/resources/pipelines"
_PATCH = f"skymap='{SKYMAP}' AND tract={TRACT} AND patch={PATCH} AND band='i'"
_SKY_MAP_RUN = "u/benchmark/skymap"

_COADDS = {
    "detectAcnCoadd": "exposure_cells",
    "deconvolveAcnCoadd": "coadd_cell",
    "deblendAcnCoadd": "coadds_cell",
    "measureAcnCoadd": "exposure_cells",
}
"""Tasks that read a coadd, and their connections for it."""

_PLUGINS = """
import lsst.meas.extensions.photometryKron
import lsst.meas.modelfit
config.measurement.plugins.names |= [
    "ext_photometryKron_KronFlux", "modelfit_DoubleShapeletPsfApprox", "modelfit_CModel"
]
"""
"""Fluxes that instruments add (lsst/obs_subaru d4a8abe config/kron.py and
config/cmodel.py)."""


class PatchSkyMap(BaseSkyMap):
    """A sky map of one patch, which is its own tract.

    Parameters
    ----------
    data_id
        Numbers of tract and patch.
    wcs
        WCS of the tract, ``lsst.afw.geom.SkyWcs``.
    box
        Outer bounding box of the patch, ``lsst.geom.Box2I``.
    """

    def __init__(self, data_id: dict[str, int], wcs: Any, box: Any) -> None:
        super().__init__()
        self._arguments = data_id, wcs, box
        self._tract = _Tract(*self._arguments)

    def __reduce__(self) -> tuple[type[PatchSkyMap], tuple]:
        return PatchSkyMap, self._arguments

    def __getitem__(self, tract: int) -> _Tract:
        return self._tract

    def __len__(self) -> int:
        return 1

    def findTract(self, coord: Any) -> _Tract:  # noqa: N802
        """Return the tract, wherever a place is."""
        return self._tract


class _Tract:
    """What the tasks ask of a ``lsst.skymap.TractInfo``."""

    def __init__(self, data_id: dict[str, int], wcs: Any, box: Any) -> None:
        self._id, self._wcs = data_id["tract"], wcs
        self._patch = PatchInfo(lsst.geom.Extent2I(0, 0), box, box, data_id["patch"], wcs)

    def getId(self) -> int:  # noqa: N802
        """Return its number."""
        return self._id

    def getWcs(self) -> Any:  # noqa: N802
        """Return its WCS."""
        return self._wcs

    def getPatchInfo(self, patch: int) -> PatchInfo:  # noqa: N802
        """Return its patch."""
        return self._patch

    __getitem__ = getPatchInfo


def make_halves(repo: str) -> list[Butler]:
    """Make coadds of every other visit and measure ``acn_coadd``, twice,
    where that has not been done.

    Parameters
    ----------
    repo
        Repository of ``acn demo``.

    Returns
    -------
    `list` [`~lsst.daf.butler.Butler`]
        What reads the results of each half, and the truth.
    """
    with Butler.from_config(repo, collections="HSC/defaults") as butler:
        visits = sorted({ref.dataId["visit"] for ref in butler.query_datasets("calexp")})
    return [_make_half(repo, number, visits[number::2]) for number in (0, 1)]


def _make_half(repo: str, number: int, visits: Sequence[int]) -> Butler:
    coadds = f"u/benchmark/coadd{number}"
    if not _is_there(repo, "acn_coadd", coadds):
        label = LabelSpecifier(labels={"assembleAcnCoadd"})
        pipeline = Pipeline.from_uri(f"{_PIPELINES}/acn.yaml").subsetFromLabels(label)
        where = f"{_PATCH} AND instrument='HSC' AND visit IN ({', '.join(map(str, visits))})"
        _execute(repo, pipeline, ["HSC/defaults"], coadds, where)
    return make_catalog(repo, coadds, "acn_coadd", f"u/benchmark/catalog{number}")


def make_catalog(repo: str, coadds: str, name: str, output: str) -> Butler:
    """Run ``acn-measure.yaml`` where that has not been done.

    Parameters
    ----------
    repo
        Repository of ``acn demo``.
    coadds
        Collection of the coadds.
    name
        The coadd to measure. Errors of fluxes are corrected if it is
        ``acn_coadd``; there are no forced fluxes of another.
    output
        Collection to write to.

    Returns
    -------
    `~lsst.daf.butler.Butler`
        What reads the catalogues, the coadds and the truth.
    """
    last = "acnCoadd_forced_src" if name == "acn_coadd" else "acnCoadd_meas_uncorrected"
    if not _is_there(repo, last, output):
        _put_sky_map(repo, coadds)
        pipeline = Pipeline.from_uri(f"{_PIPELINES}/acn-measure.yaml")
        if name != "acn_coadd":
            for label, connection in _COADDS.items():
                pipeline.addConfigOverride(label, f"connections.{connection}", name)
            pipeline = pipeline.subsetFromLabels(LabelSpecifier(labels={*_COADDS, "mergeAcnDetections"}))
        pipeline.addConfigPython("measureAcnCoadd", _PLUGINS)
        if "forcedPhotAcnCoadd" in pipeline.task_labels:
            pipeline.addConfigPython("forcedPhotAcnCoadd", _PLUGINS)
        _execute(repo, pipeline, [coadds, _SKY_MAP_RUN], output, _PATCH)
    return Butler.from_config(repo, collections=[output, coadds, "HSC/truth/demo"])


def _execute(repo: str, pipeline: Pipeline, inputs: Sequence[str], output: str, where: str) -> None:
    butler = SimplePipelineExecutor.prep_butler(repo, inputs=inputs, output=output)
    executor = SimplePipelineExecutor.from_pipeline(pipeline, where=where, butler=butler)
    executor.run(register_dataset_types=True)


def _is_there(repo: str, name: str, collection: str) -> bool:
    """Tell whether a run has written a dataset; not when it was interrupted
    before.
    """
    with Butler.from_config(repo) as butler:
        try:
            return bool(butler.query_datasets(name, collections=collection, explain=False))
        except (MissingCollectionError, MissingDatasetTypeError):
            return False


def _put_sky_map(repo: str, coadds: str) -> None:
    """Write the sky map of a coadd, once."""
    if _is_there(repo, "skyMap", _SKY_MAP_RUN):
        return
    with Butler.from_config(repo, writeable=True) as butler:
        (ref,) = butler.query_datasets("acn_coadd", collections=coadds)
        exposure = butler.get(ref, storageClass="ExposureF")
        sky_map = PatchSkyMap(dict(ref.dataId.required), exposure.getWcs(), exposure.getBBox())
        butler.registry.registerDatasetType(
            DatasetType("skyMap", ("skymap",), "SkyMap", universe=butler.dimensions)
        )
        butler.collections.register(_SKY_MAP_RUN)
        butler.put(sky_map, "skyMap", skymap=ref.dataId["skymap"], run=_SKY_MAP_RUN)
