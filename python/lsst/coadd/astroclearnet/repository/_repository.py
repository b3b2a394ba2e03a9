# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Make a Butler repository of calibrated exposures without an obs package.

Shared by ``acn demo`` and ``acn ingest``. The repository has an embedded
SQLite registry and holds the dimension records that a coadd needs:
instrument, detectors, filters, visits with their regions, sky map, tract and
patches.
"""

from __future__ import annotations

__all__ = (
    "HSC",
    "InstrumentInfo",
    "RepositoryError",
    "VisitInfo",
    "create_repository",
    "define_chain",
    "make_region",
    "naming_full_disk",
    "put_dataset",
    "register_instrument",
    "write_geometry",
    "write_visit",
)

import contextlib
import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import astropy.time
import numpy as np
import sqlalchemy.exc

from lsst.daf.butler import Butler, CollectionType, DatasetRef, DatasetType, Timespan
from lsst.images import XY, Box, SkyProjection, VisitImage
from lsst.sphgeom import ConvexPolygon, LonLat, UnitVector3d

from ..adapters import GEOMETRY_DATASET, PatchGeometry
from ._dimension_records import HSC, InstrumentInfo, VisitInfo


class RepositoryError(RuntimeError):
    """A repository cannot be made; the text says why and what to do."""


@contextlib.contextmanager
def naming_full_disk(root: Path, *, remark: str = "") -> Iterator[None]:
    """Say in one line that a repository cannot be written, as on a full disk.

    Parameters
    ----------
    root
        Name of the repository, for the text.
    remark
        What became of it, for the end of the text.

    Raises
    ------
    RepositoryError
        Raised in place of what registry and datastore raise.
    """
    try:
        yield
    except sqlalchemy.exc.OperationalError as error:
        raise RepositoryError(f"The registry of {root} cannot be written: {error.orig}{remark}.") from error
    except RuntimeError as error:  # what a datastore raises, whatever the cause
        if not (reasons := list(_find_os_errors(error))):
            raise
        reason = next((one for one in reasons if one.strerror), reasons[0])
        raise RepositoryError(f"{root} cannot be written: {reason.strerror or reason}{remark}.") from error


def _find_os_errors(error: BaseException | None) -> Iterator[OSError]:
    """Yield the errors of the operating system behind another."""
    while error is not None:
        if isinstance(error, OSError):
            yield error
        error = error.__cause__ or error.__context__


def create_repository(root: str | Path, *, ignore: Sequence[str] = ()) -> Butler:
    """Make an empty repository.

    Parameters
    ----------
    root
        Folder to make; it may exist if it is empty.
    ignore
        Names of files that may be there all the same.

    Returns
    -------
    `lsst.daf.butler.Butler`
        Writeable, without default collections.

    Raises
    ------
    RepositoryError
        If the folder holds something, or is a file.
    """
    root = Path(root)
    if root.exists() and (not root.is_dir() or any(path.name not in ignore for path in root.iterdir())):
        raise RepositoryError(f"{root} exists and is not an empty folder; nothing was changed.")
    root.mkdir(parents=True, exist_ok=True)
    Butler.makeRepo(str(root))
    return Butler.from_config(str(root), writeable=True)


def register_instrument(
    butler: Butler,
    instrument: InstrumentInfo,
    *,
    detectors: Mapping[int, str],
    physical_filters: Mapping[str, str],
) -> None:
    """Insert an instrument with its detectors and filters.

    Parameters
    ----------
    butler
        Repository to change.
    instrument
        The instrument.
    detectors
        Full name of each detector by its number; ``raft_name`` is taken
        apart at the underscore, as obs_subaru does.
    physical_filters
        Band of each physical filter.
    """
    insert = butler.registry.insertDimensionData
    with butler.transaction():
        insert(
            "instrument",
            {
                "name": instrument.name,
                "class_name": instrument.class_name,
                "detector_max": instrument.detector_max,
                "visit_max": instrument.visit_max,
                "exposure_max": instrument.visit_max,
                "visit_system": 0,
            },
        )
        for number, full_name in detectors.items():
            raft, _, name_in_raft = full_name.rpartition("_")
            record = {"instrument": instrument.name, "id": number, "full_name": full_name}
            if raft:
                record |= {"raft": raft, "name_in_raft": name_in_raft}
            insert("detector", record | {"purpose": "SCIENCE"})
        for name, band in physical_filters.items():
            insert("physical_filter", {"instrument": instrument.name, "name": name, "band": band})


def write_geometry(butler: Butler, geometry: Mapping[str, Any]) -> None:
    """Insert sky map, tracts and patches, and store the geometry.

    Parameters
    ----------
    butler
        Repository to change.
    geometry
        What `~.adapters.geometry_to_dict` makes.
    """
    skymap, entries = geometry["skymap"], geometry["tracts"]
    tracts = {int(tract): [int(patch) for patch in entry["patches"]] for tract, entry in entries.items()}
    indices = [patch["index"] for entry in entries.values() for patch in entry["patches"].values()]
    columns, rows = (max(along) + 1 for along in zip(*indices, strict=True))
    # As many as the largest id asks for: identifiers of sources are made of
    # them (lsst/skymap 91c88c0 packers.py:247-251).
    columns = max(columns, math.ceil((max(max(patches) for patches in tracts.values()) + 1) / rows))
    digest = hashlib.sha1(json.dumps(geometry, sort_keys=True).encode(), usedforsecurity=False).digest()
    insert = butler.registry.insertDimensionData
    with butler.transaction():
        insert(
            "skymap",
            {
                "name": skymap,
                "hash": digest,
                "tract_max": max(tracts) + 1,
                "patch_nx_max": columns,
                "patch_ny_max": rows,
            },
        )
        for tract, patches in tracts.items():
            places = [PatchGeometry.from_dict(geometry, tract=tract, patch=patch) for patch in patches]
            first = places[0]
            region = make_region(first.sky_projection, first.tract_bbox)
            insert("tract", {"skymap": skymap, "id": tract, "region": region})
            for place in places:
                record = {"skymap": skymap, "tract": tract, "id": place.patch}
                record |= {"cell_x": place.index.x, "cell_y": place.index.y}
                insert("patch", record | {"region": make_region(place.sky_projection, place.outer_bbox)})
    put_dataset(
        butler,
        dict(geometry),
        GEOMETRY_DATASET,
        storage_class="StructuredDataDict",
        dimensions=("skymap",),
        data_id={"skymap": skymap},
        run="skymaps",
    )


def write_visit(
    butler: Butler,
    images: Mapping[int, VisitImage],
    *,
    instrument: str,
    info: VisitInfo,
    run: str,
) -> list[DatasetRef]:
    """Insert a visit with its regions, and put its detector images as
    ``calexp``.

    Parameters
    ----------
    butler
        Repository to change.
    images
        Image of each detector by its number.
    instrument
        Name of the instrument.
    info
        The visit.
    run
        Collection of the images; made if it is not there.

    Returns
    -------
    `list` [`lsst.daf.butler.DatasetRef`]
        What was put, in the order of the detectors.
    """
    regions = {detector: make_region(image.sky_projection, image.bbox) for detector, image in images.items()}
    corners = [vertex for region in regions.values() for vertex in region.getVertices()]
    begin = info.begin.tai
    end = begin + astropy.time.TimeDelta(info.exposure_time, format="sec")
    registry = butler.registry
    with butler.transaction():
        registry.syncDimensionData("day_obs", {"instrument": instrument, "id": info.day_obs})
        registry.insertDimensionData(
            "visit",
            {
                "instrument": instrument,
                "id": info.visit,
                "name": info.name,
                "physical_filter": info.physical_filter,
                "day_obs": info.day_obs,
                "exposure_time": info.exposure_time,
                "target_name": info.target_name,
                "observation_reason": "science",
                "region": ConvexPolygon.convexHull(corners),
                "timespan": Timespan(begin, end),
            },
        )
        for detector, region in regions.items():
            record = {"instrument": instrument, "visit": info.visit, "detector": detector}
            registry.insertDimensionData("visit_detector_region", record | {"region": region})
    return [
        put_dataset(
            butler,
            images[detector],
            "calexp",
            storage_class="VisitImage",
            dimensions=("instrument", "visit", "detector"),
            data_id={"instrument": instrument, "visit": info.visit, "detector": detector},
            run=run,
        )
        for detector in sorted(images)
    ]


def put_dataset(
    butler: Butler,
    content: Any,
    name: str,
    *,
    storage_class: str,
    dimensions: Sequence[str],
    data_id: Mapping[str, Any],
    run: str,
) -> DatasetRef:
    """Put one dataset; make its dataset type and its collection at need.

    Parameters
    ----------
    butler
        Repository to change.
    content
        What to put.
    name
        Name of the dataset type.
    storage_class, dimensions
        What to register the dataset type with.
    data_id
        Value of each dimension.
    run
        Collection.

    Returns
    -------
    `lsst.daf.butler.DatasetRef`
        What was put.
    """
    dataset_type = DatasetType(name, dimensions, storage_class, universe=butler.dimensions)
    butler.registry.registerDatasetType(dataset_type)
    butler.collections.register(run)
    return butler.put(content, dataset_type, dict(data_id), run=run)


def define_chain(butler: Butler, name: str, children: Iterable[str]) -> None:
    """Make or redefine a chained collection."""
    butler.collections.register(name, CollectionType.CHAINED)
    butler.collections.redefine_chain(name, list(children))


def make_region(projection: SkyProjection, bbox: Box) -> ConvexPolygon:
    """Return the region of the sky that the pixels of a box cover.

    Parameters
    ----------
    projection
        Mapping of the pixels.
    bbox
        The box; the outer edges of its pixels count.

    Returns
    -------
    `lsst.sphgeom.ConvexPolygon`
        Its corners and the middles of its sides.
    """
    x = np.linspace(bbox.x.start - 0.5, bbox.x.stop - 0.5, 3)
    y = np.linspace(bbox.y.start - 0.5, bbox.y.stop - 0.5, 3)
    # Middles of the sides, because distortion can bend a side outwards.
    xs, ys = (grid.ravel() for grid in np.meshgrid(x, y))
    sky = projection.pixel_to_sky(XY(xs, ys))
    vertices = [
        UnitVector3d(LonLat.fromDegrees(ra, dec)) for ra, dec in zip(sky.ra.deg, sky.dec.deg, strict=True)
    ]
    return ConvexPolygon.convexHull(vertices)
