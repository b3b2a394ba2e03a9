# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Put catalogues of synthetic sources into a repository."""

from __future__ import annotations

__all__ = (
    "InjectionSite",
    "find_site",
    "label_exposure",
    "make_catalog_for_site",
    "put_injected",
    "put_injection_catalog",
)

import dataclasses
import functools
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from astropy.table import Table

from lsst.daf.butler import Butler, DatasetRef, DatasetType, EmptyQueryResultError, MissingDatasetTypeError
from lsst.sphgeom import HtmPixelization, LonLat, UnitVector3d

from .._progress import StepCounter
from ..adapters import GEOMETRY_DATASET, PatchGeometry, make_adapter
from ..core import InvalidExposureError
from ..repository import put_dataset
from ._area import CoverageMap, map_coverage
from ._catalog import make_injection_catalog
from ._errors import InjectionError
from ._options import InjectionConfig
from ._profiles import check_catalog

if TYPE_CHECKING:
    from ..inject_acn_sources import InjectAcnSourcesTask

"""Dataset type of the catalogues: dimensions ``htm7`` and ``band``, storage
class ``ArrowAstropy`` (lsst/source_injection 8da8778
_ingest_injection_catalog.py:81)."""

_EXPOSURE = {"instrument", "visit", "detector"}
"""Required dimensions of what sources are injected into."""

_HTM = HtmPixelization(7)

_LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class InjectionSite:
    """Part of a repository that sources are injected into."""

    exposures: tuple[DatasetRef, ...]
    """Exposures that overlap the patches, by visit and detector."""

    patches: tuple[PatchGeometry, ...]
    """Patches, by tract and number."""

    bands: tuple[str, ...]
    """Bands, sorted."""

    image_model: str
    """Library of the exposures: ``images`` or ``afw``."""


def find_site(butler: Butler, *, inputs: Sequence[str], where: str, dataset_type: str) -> InjectionSite:
    """Find exposures and the patches that they cover.

    Parameters
    ----------
    butler
        Repository.
    inputs
        Collections with the exposures and the sky map.
    where
        Query that chooses patches, visits or bands; empty for all.
    dataset_type
        Dataset type of the exposures.

    Raises
    ------
    InjectionError
        If there are none, if each of them is not of one detector of a visit,
        or if there is no sky map.
    """
    try:
        dimensions = set(butler.get_dataset_type(dataset_type).dimensions.required)
        if dimensions != _EXPOSURE:
            raise InjectionError(
                f"{dataset_type} is not a dataset of single detectors: its dimensions are "
                f"{', '.join(sorted(dimensions)) or 'none'}, not {', '.join(sorted(_EXPOSURE))}."
            )
        with butler.query() as query:
            query = query.join_dimensions(["visit", "detector", "patch"])
            query = query.join_dataset_search(dataset_type, inputs)
            query = query.where(where) if where else query
            places = {
                (str(one["skymap"]), int(one["tract"]), int(one["patch"]))
                for one in query.data_ids(["patch"])
            }
            refs = list(query.datasets(dataset_type, inputs, find_first=True).with_dimension_records())
    except (EmptyQueryResultError, MissingDatasetTypeError) as error:
        raise InjectionError(f"There is no dataset type {dataset_type} to inject into.") from error
    if not refs or not places:
        raise InjectionError(
            f"No {dataset_type} in {', '.join(inputs)} overlaps a patch of a sky map"
            + (f" where {where}." if where else ".")
        )
    refs = sorted(set(refs), key=lambda ref: (str(ref.dataId["instrument"]), *_number(ref)))
    return InjectionSite(
        exposures=tuple(refs),
        patches=_read_geometries(butler, inputs, sorted(places)),
        bands=tuple(sorted({str(ref.dataId["band"]) for ref in refs})),
        image_model="images" if refs[0].datasetType.storageClass_name == "VisitImage" else "afw",
    )


def label_exposure(ref: DatasetRef) -> str:
    """Name an exposure in a line for users."""
    return "visit={} detector={}".format(*_number(ref))


def _read_exposure(butler: Butler, ref: DatasetRef) -> object:
    """Read an exposure, whose file may be missing or spoiled."""
    try:
        return butler.get(ref)
    except (OSError, RuntimeError, ValueError, LookupError) as error:
        reason = " ".join(str(error.__cause__ or error).split())
        raise InjectionError(
            f"{ref.datasetType.name} of {label_exposure(ref)} cannot be read: {reason}"
        ) from error


def _number(ref: DatasetRef) -> tuple[int, int]:
    return int(ref.dataId["visit"]), int(ref.dataId["detector"])


def _read_geometries(
    butler: Butler, inputs: Sequence[str], places: Iterable[tuple[str, int, int]]
) -> tuple[PatchGeometry, ...]:
    """Read patches; a sky map of many is read once."""
    sky_maps: dict[str, Callable[..., PatchGeometry]] = {}
    geometries = []
    for skymap, tract, patch in places:
        if skymap not in sky_maps:
            sky_maps[skymap] = _read_sky_map(butler, inputs, skymap)
        geometries.append(sky_maps[skymap](tract=tract, patch=patch))
    return tuple(geometries)


def _read_sky_map(butler: Butler, inputs: Sequence[str], skymap: str) -> Callable[..., PatchGeometry]:
    """Read whichever description of the sky map is there; return what makes
    a patch of it.
    """
    for name in (GEOMETRY_DATASET, "skyMap"):
        try:
            ref = butler.find_dataset(name, skymap=skymap, collections=inputs)
        except MissingDatasetTypeError:
            continue
        if ref is None:
            continue
        if name == GEOMETRY_DATASET:
            return functools.partial(PatchGeometry.from_dict, butler.get(ref))
        return functools.partial(PatchGeometry.from_sky_map, butler.get(ref), skymap=skymap)
    raise InjectionError(f"No {GEOMETRY_DATASET} or skyMap of {skymap!r} in {', '.join(inputs)}.")


def make_catalog_for_site(
    butler: Butler,
    site: InjectionSite,
    config: InjectionConfig,
    *,
    report: Callable[[str], None],
) -> Table:
    """Read all exposures of a site and place sources on it.

    Parameters
    ----------
    butler
        Repository.
    site
        Exposures and patches.
    config
        What to inject.
    report
        Takes a line of progress for each exposure.

    Returns
    -------
    `~astropy.table.Table`
        As `make_injection_catalog` says.

    Raises
    ------
    InjectionError
        If there is room for none.
    """
    coverage = _map_exposures(butler, site, config, StepCounter(len(site.exposures), report))
    return make_injection_catalog(config, patches=site.patches, coverage=coverage)


def _map_exposures(
    butler: Butler, site: InjectionSite, config: InjectionConfig, count: StepCounter
) -> Iterator[CoverageMap]:
    """Yield what each exposure covers: one at a time, because all planes of
    a tract do not fit into memory.
    """
    adapter = make_adapter(site.image_model)
    for ref in site.exposures:
        data_id = dict(ref.dataId.required)
        try:
            exposure = adapter.adapt(_read_exposure(butler, ref), data_id=data_id)
        except InvalidExposureError as error:
            _LOG.warning("Left out: %s", error)
        else:
            yield map_coverage(exposure, band=str(ref.dataId["band"]), avoid=config.avoid)
            del exposure  # before the next is read
        count(f"Free sky of {label_exposure(ref)}")


def put_injection_catalog(
    butler: Butler, catalog: Table, *, bands: Sequence[str], run: str
) -> list[DatasetRef]:
    """Store a catalogue, the same for each band.

    Parameters
    ----------
    butler
        Repository to change.
    catalog
        Injection catalogue.
    bands
        Bands; a source has the same magnitude in all of them, unless the
        table has columns ``mag_g``, ``mag_r`` and so on.
    run
        Collection; made if it is not there.

    Returns
    -------
    `list` [`~lsst.daf.butler.DatasetRef`]
        One dataset for each trixel of HTM level 7 and band.

    Raises
    ------
    InjectionError
        If the catalogue lacks a column, or a place, or has no sources.
    """
    refs: list[DatasetRef] = []
    if not len(catalog):
        raise InjectionError("The injection catalogue has no sources.")
    kind = DatasetType("injection_catalog", ("htm7", "band"), "ArrowAstropy", universe=butler.dimensions)
    trixels = np.array(
        [
            _HTM.index(UnitVector3d(LonLat.fromDegrees(float(row["ra"]), float(row["dec"]))))
            for row in _checked(catalog, bands[0])
        ]
    )
    butler.registry.registerDatasetType(kind)
    butler.collections.register(run)
    with butler.transaction():
        for band in bands:
            table = _checked(catalog, band)
            for trixel in sorted(set(trixels.tolist())):
                data_id = {"htm7": trixel, "band": band}
                refs.append(butler.put(table[trixels == trixel], kind, data_id, run=run))
    return refs


def _checked(catalog: Table, band: str) -> Table:
    """Return the catalogue of one band, with ids."""
    table = catalog.copy()
    if f"mag_{band}" in table.colnames:
        table["mag"] = table[f"mag_{band}"]
    if "injection_id" not in table.colnames:
        table.add_column(np.arange(len(table), dtype=np.int64), name="injection_id", index=0)
    check_catalog(table)
    ra, dec = (np.ma.filled(np.ma.asarray(table[name], dtype=float), np.nan) for name in ("ra", "dec"))
    nowhere = np.count_nonzero(~(np.isfinite(ra) & (np.abs(dec) <= 90)))
    if nowhere:
        raise InjectionError(
            f"The injection catalogue has no place on the sky in {nowhere} of {len(table)} rows: ra and dec "
            "are degrees, -90 <= dec <= 90."
        )
    return table


def put_injected(
    butler: Butler, ref: DatasetRef, catalog: Table, *, task: InjectAcnSourcesTask, run: str
) -> DatasetRef:
    """Put an exposure with sources under its own name into another run.

    Parameters
    ----------
    butler
        Repository to change.
    ref
        The exposure; it is only read.
    catalog
        Injection catalogue.
    task
        Injects the sources.
    run
        Collection; made if it is not there.

    Returns
    -------
    `~lsst.daf.butler.DatasetRef`
        The new exposure; what was injected is beside it, as the pipeline
        names it.
    """
    data_id = dict(ref.dataId.required)
    outputs = task.run(
        injection_catalogs=[_checked(catalog, str(ref.dataId["band"]))],
        input_exposure=_read_exposure(butler, ref),
        data_id=data_id,
    )
    place = {"dimensions": tuple(data_id), "data_id": data_id, "run": run}
    name = ref.datasetType.name
    put_dataset(
        butler, outputs.output_catalog, f"injected_{name}_catalog", storage_class="ArrowAstropy", **place
    )
    return put_dataset(butler, outputs.output_exposure, name, storage_class="VisitImage", **place)
