# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Make a Butler repository of the described exposures."""

from __future__ import annotations

__all__ = ("ingest",)

import math
import os
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord, UnitSphericalRepresentation
from astropy.time import Time
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_scales

from lsst.images import YX, Box, VisitImage
from lsst.images.psfs import PiffWrapper

from .._progress import StepCounter
from ..adapters._geometry import PatchBoxes, TractDefinition, geometry_to_dict
from ..core._planes import Plane
from ..inputs._sky_level import describe_sky
from ..repository import (
    InstrumentInfo,
    VisitInfo,
    create_repository,
    define_chain,
    naming_full_disk,
    register_instrument,
    write_geometry,
    write_visit,
)
from ..repository._visit_images import DetectorInfo, make_visit_image
from ._config import Exposure, IngestConfig, Instrument, NoSky, SkyMapConfig
from ._errors import IngestError
from ._read import Footprint, PlainExposure, read_footprint, read_plain_exposure

_MOST_PATCHES = 10_000
"""Patches of a tract: more are a mistake, and take minutes to write down."""


def _say_nothing(line: str) -> None:
    pass


def ingest(
    config: IngestConfig,
    root: Path,
    *,
    report: Callable[[str], None] = _say_nothing,
    warn: Callable[[str], None] | None = None,
) -> None:
    """Make a repository that the pipelines can run on.

    It holds a `~lsst.images.VisitImage` named ``calexp`` for each exposure,
    in nJy, a sky map of one tract around them, and the chained collection
    ``<instrument>/defaults``.

    Parameters
    ----------
    config
        The exposures.
    root
        Directory to make; it must not exist or be empty. It appears when it
        is complete.
    report
        Called with a line of text for each step.
    warn
        Called with a line for each exposure whose sky is not subtracted, as
        far as can be seen; by default ``report``.

    Raises
    ------
    IngestError
        If a file cannot be used, or the directory is not empty.
    RepositoryError
        If the disk is full.
    """
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise IngestError(f"{root} exists and is not an empty directory; nothing was changed.")
    footprints = [read_footprint(exposure) for exposure in config.exposures]
    tract = make_tract(config.sky_map, footprints)
    root.parent.mkdir(parents=True, exist_ok=True)
    try:
        work = Path(tempfile.mkdtemp(dir=root.parent, prefix=f".{root.name}."))
    except OSError as error:  # it names the folder that was to be made
        raise IngestError(f"{root} cannot be written: {error.strerror or error}") from error
    try:
        with naming_full_disk(root, remark="; no repository was made"):
            _fill_repository(config, work / "repo", tract, report, warn or report)
        if root.exists():
            root.rmdir()
        os.rename(work / "repo", root)
    finally:
        shutil.rmtree(work)
    height, width = tract.bbox.shape
    first, last = tract.patches[0].id, tract.patches[-1].id
    patches = f"patch {first}" if first == last else f"patches {first} to {last}"
    report(
        f"{root}: skymap {config.sky_map.name}, tract {tract.id} of {width} x {height} px, {patches}; "
        f"collection {config.instrument.name}/defaults"
    )


def _fill_repository(
    config: IngestConfig,
    root: Path,
    tract: TractDefinition,
    report: Callable[[str], None],
    warn: Callable[[str], None],
) -> None:
    instrument = config.instrument
    run = config.run or f"{instrument.name}/runs/ingest"
    butler = create_repository(root)
    detectors = {e.detector: e.detector_name or str(e.detector) for e in config.exposures}
    register_instrument(
        butler,
        InstrumentInfo(
            name=instrument.name,
            class_name=instrument.class_name,
            detector_max=max(InstrumentInfo.detector_max, *detectors) + 1,
            visit_max=max(InstrumentInfo.visit_max, *(e.visit for e in config.exposures)) + 1,
        ),
        detectors=detectors,
        physical_filters={e.physical_filter: e.band for e in config.exposures},
    )
    write_geometry(butler, geometry_to_dict(skymap=config.sky_map.name, tracts=[tract]))
    visits: dict[int, list[Exposure]] = defaultdict(list)
    for exposure in config.exposures:
        visits[exposure.visit].append(exposure)
    count = StepCounter(len(config.exposures), report)
    for visit, exposures in visits.items():
        images: dict[int, VisitImage] = {}
        for exposure in exposures:
            plain = read_plain_exposure(exposure)
            images[exposure.detector] = _make_visit_image(exposure, plain, instrument)
            count(_describe(exposure, plain))
            if isinstance(exposure.sky, NoSky) and (trouble := _describe_sky(exposure, plain)):
                warn(trouble)
        first = exposures[0]
        info = VisitInfo(
            visit=visit,
            name=str(visit),
            physical_filter=first.physical_filter,
            begin=Time(first.mjd, format="mjd", scale="utc"),
            exposure_time=first.exposure_time,
        )
        write_visit(butler, images, instrument=instrument.name, info=info, run=run)
    define_chain(butler, f"{instrument.name}/defaults", [run, "skymaps"])


def _make_visit_image(exposure: Exposure, plain: PlainExposure, instrument: Instrument) -> VisitImage:
    height, width = plain.image.shape
    scale = float(np.mean(proj_plane_pixel_scales(plain.wcs))) * u.deg
    begin = Time(exposure.mjd, format="mjd", scale="utc").tai
    return make_visit_image(
        plain.image,
        plain.variance,
        {
            plane.name or "": (plain.flags & np.uint32(plane)) != 0
            for plane in Plane
            if (plain.flags & np.uint32(plane)).any()
        },
        wcs=plain.wcs,
        psf=PiffWrapper(plain.psf.psf, Box.factory[0:height, 0:width], plain.psf.stamp_size),
        detector=DetectorInfo(
            id=exposure.detector,
            name=exposure.detector_name or str(exposure.detector),
            width=width,
            height=height,
            pixel_size=instrument.pixel_size,
            plate_scale=scale.to_value(u.rad) / instrument.pixel_size,
        ),
        instrument=instrument.name,
        visit=exposure.visit,
        physical_filter=exposure.physical_filter,
        band=exposure.band,
        observation={
            "datetime_begin": begin,
            "datetime_end": begin + exposure.exposure_time * u.s,
            "exposure_time": exposure.exposure_time * u.s,
        },
        metadata={
            "acn_ingest_njy_per_count": plain.njy_per_count,
            "acn_ingest_file": exposure.image.file.name,
        },
    )


def _describe(exposure: Exposure, plain: PlainExposure) -> str:
    sigma = float(np.sqrt(np.nanmedian(plain.variance)))
    masked = np.count_nonzero(plain.flags) / plain.flags.size
    height, width = plain.image.shape
    return (
        f"{exposure.label} {exposure.physical_filter}: {width} x {height} px, noise {sigma:.1f} nJy/px, "
        f"{masked:.2%} masked"
    )


def _describe_sky(exposure: Exposure, plain: PlainExposure) -> str:
    """Say that the sky is still there, and what to write down; or nothing."""
    good = (plain.flags == 0) & np.isfinite(plain.variance)
    trouble = describe_sky(exposure.label, image=plain.image, variance=plain.variance, good=good)
    return trouble and f"{trouble}, or give 'sky: {{kind: median}}'"


def make_tract(config: SkyMapConfig, footprints: Sequence[Footprint]) -> TractDefinition:
    """Lay a tangential grid around exposures and cut it into patches.

    Parameters
    ----------
    config
        What the user asked for.
    footprints
        WCS and shape of each exposure.

    Returns
    -------
    `TractDefinition`
        Patches are equal and do not overlap; their sides are multiples of the
        cell size.
    """
    corners = SkyCoord([f.corners() for f in footprints])
    if config.center is not None:
        center = SkyCoord(*config.center, unit=u.deg)
    else:
        mean = corners.cartesian.mean(axis=None)
        center = SkyCoord(mean.represent_as(UnitSphericalRepresentation))
    scale = config.pixel_scale
    if scale is None:
        scale = 3600 * float(np.median([proj_plane_pixel_scales(f.wcs).mean() for f in footprints]))
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.radesys = "ICRS"
    wcs.wcs.crval = [center.ra.deg, center.dec.deg]
    wcs.wcs.cdelt = [-scale / 3600, scale / 3600]
    wcs.wcs.crpix = [1, 1]
    x, y = wcs.world_to_pixel(corners)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise IngestError("The exposures are spread over more than one hemisphere; ingest them apart.")
    # The reference position stays in the middle, half a tract from each end.
    sides = [_divide(2 * (float(np.abs(a).max()) + 1), config) for a in (x, y)]
    (nx, width), (ny, height) = sides
    if nx * ny > _MOST_PATCHES:
        raise IngestError(
            f"sky_map: the tract would have {nx * width} x {ny * height} pixels in {nx * ny} patches; bring "
            "center nearer to the exposures, or make pixel_scale or max_patch_size larger."
        )
    wcs.wcs.crpix = [nx * width / 2 + 0.5, ny * height / 2 + 0.5]
    patches = []
    for j in range(ny):
        for i in range(nx):
            box = Box.factory[j * height : (j + 1) * height, i * width : (i + 1) * width]
            patches.append(PatchBoxes(id=j * nx + i, index=YX(y=j, x=i), inner=box, outer=box))
    bbox = Box.factory[0 : ny * height, 0 : nx * width]
    return TractDefinition(id=config.tract, wcs=wcs, bbox=bbox, patches=tuple(patches))


def _divide(length: float, config: SkyMapConfig) -> tuple[int, int]:
    """Return number and side of patches that cover a length, in pixels."""
    largest = max(config.max_patch_size // config.cell_size, 1)
    cells = math.ceil(length / config.cell_size)
    number = math.ceil(cells / largest)
    return number, math.ceil(cells / number) * config.cell_size
