# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where a patch lies: boxes, pixel grid and projection of its tract."""

from __future__ import annotations

__all__ = (
    "GEOMETRY_DATASET",
    "PatchBoxes",
    "PatchGeometry",
    "SkyProjectionMap",
    "TractDefinition",
    "geometry_to_dict",
)

import dataclasses
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import astropy.io.fits
import astropy.wcs
import numpy as np

from lsst.images import YX, Box, SkyProjection, TractFrame

GEOMETRY_DATASET = "acn_sky_geometry"
"""Dataset type that holds `geometry_to_dict` where there is no `lsst.skymap`:
dimensions ``skymap``, storage class ``StructuredDataDict``."""


@dataclasses.dataclass(frozen=True, eq=False)
class SkyProjectionMap:
    """A `lsst.images.SkyProjection` as a `~..core.PixelSkyMap`."""

    projection: SkyProjection

    def pixel_to_sky(self, *, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return right ascension and declination, in degrees, of pixels."""
        # The transform itself, in radians: SkyCoord costs ten times as much.
        x, y = np.asarray(x, float), np.asarray(y, float)
        if not x.size:  # which the transform refuses
            return x, y
        sky = self.projection.pixel_to_sky_transform.apply_forward(x=x, y=y)
        return np.degrees(sky.x), np.degrees(sky.y)

    def sky_to_pixel(self, *, ra: np.ndarray, dec: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return pixel x and y of ICRS positions, in degrees."""
        x, y = np.radians(ra), np.radians(dec)
        if not x.size:
            return x, y
        pixel = self.projection.pixel_to_sky_transform.apply_inverse(x=x, y=y)
        return pixel.x, pixel.y


@dataclasses.dataclass(frozen=True, kw_only=True)
class PatchBoxes:
    """Place of one patch in its tract."""

    id: int
    """Number of the patch, as in a data id."""

    index: YX[int]
    """Row and column of the patch in its tract."""

    inner: Box
    """Pixels that belong to this patch alone."""

    outer: Box
    """Pixels of its coadds: `inner` grown by the overlap with neighbours."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class TractDefinition:
    """Pixel grid of one tract and its patches."""

    id: int
    """Number of the tract, as in a data id."""

    wcs: astropy.wcs.WCS
    """FITS WCS; FITS pixel (1, 1) is tract pixel (0, 0)."""

    bbox: Box
    """Pixels of the tract."""

    patches: tuple[PatchBoxes, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class PatchGeometry:
    """One patch of a sky map, whatever library described it."""

    skymap: str
    tract: int
    patch: int
    index: YX[int]
    """Row and column of the patch in its tract."""

    inner_bbox: Box
    outer_bbox: Box
    """Pixels of the results; its start is their ``xy0``."""

    tract_bbox: Box

    sky_projection: SkyProjection[TractFrame]
    """Tract pixels to ICRS; its frame names sky map and tract."""

    @property
    def wcs(self) -> SkyProjectionMap:
        """Mapping between tract pixels and ICRS (`SkyProjectionMap`)."""
        return SkyProjectionMap(self.sky_projection)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], *, tract: int, patch: int) -> PatchGeometry:
        """Read a patch from what `geometry_to_dict` made.

        Parameters
        ----------
        content
            The dataset, plain JSON types.
        tract, patch
            Numbers, as in a data id.

        Raises
        ------
        ValueError
            If the tract or the patch is not there, or an entry is missing;
            the text says which and what there is.
        """
        try:
            entry = _entry(content["tracts"], tract, f"tract in the geometry of {content['skymap']!r}")
            boxes = _entry(entry["patches"], patch, f"patch in tract {tract} of {content['skymap']!r}")
            tract_bbox = _read_box(entry["bbox"])
            frame = TractFrame(skymap=content["skymap"], tract=tract, bbox=tract_bbox)
            index_x, index_y = boxes["index"]
            return cls(
                skymap=content["skymap"],
                tract=tract,
                patch=patch,
                index=YX(y=index_y, x=index_x),
                inner_bbox=_read_box(boxes["inner"]),
                outer_bbox=_read_box(boxes["outer"]),
                tract_bbox=tract_bbox,
                sky_projection=SkyProjection.from_fits_wcs(_read_wcs(entry["wcs"]), frame),
            )
        except KeyError as error:
            raise ValueError(f"The {GEOMETRY_DATASET} dataset has no entry {error}.") from error

    @classmethod
    def from_sky_map(cls, sky_map: Any, *, skymap: str, tract: int, patch: int) -> PatchGeometry:
        """Read a patch from a `lsst.skymap.BaseSkyMap`.

        Parameters
        ----------
        sky_map
            The ``skyMap`` dataset.
        skymap
            Name of the sky map, as in a data id.
        tract, patch
            Numbers, as in a data id.

        Notes
        -----
        The calls are those of ``makeSkyInfo`` (lsst/pipe_tasks 5b638a48
        coaddBase.py:144-160) and of lsst/skymap 91c88c0: baseSkyMap.py:299,
        tractInfo.py:270, 387, 415, patchInfo.py:89, 125, 137.
        """
        tract_info = sky_map[tract]
        patch_info = tract_info[patch]
        index = patch_info.getIndex()
        tract_bbox = Box.from_legacy(tract_info.getBBox())
        frame = TractFrame(skymap=skymap, tract=tract, bbox=tract_bbox)
        return cls(
            skymap=skymap,
            tract=tract,
            patch=patch,
            index=YX(y=index[1], x=index[0]),
            inner_bbox=Box.from_legacy(patch_info.getInnerBBox()),
            outer_bbox=Box.from_legacy(patch_info.getOuterBBox()),
            tract_bbox=tract_bbox,
            sky_projection=SkyProjection.from_legacy(tract_info.getWcs(), frame),
        )


def geometry_to_dict(*, skymap: str, tracts: Iterable[TractDefinition]) -> dict[str, Any]:
    """Describe a sky map in plain JSON types.

    Parameters
    ----------
    skymap
        Name of the sky map, as in a data id.
    tracts
        Its tracts with their patches.

    Returns
    -------
    `dict`
        What `PatchGeometry.from_dict` reads; boxes are
        ``[x0, y0, width, height]``, patch indices ``[x, y]``.
    """
    return {
        "skymap": skymap,
        "tracts": {
            str(tract.id): {
                "wcs": _write_wcs(tract.wcs),
                "bbox": _write_box(tract.bbox),
                "patches": {
                    str(patch.id): {
                        "index": [int(patch.index.x), int(patch.index.y)],
                        "inner": _write_box(patch.inner),
                        "outer": _write_box(patch.outer),
                    }
                    for patch in tract.patches
                },
            }
            for tract in tracts
        },
    }


def _entry(entries: Mapping[str, Any], number: int, what: str) -> Mapping[str, Any]:
    """Return one entry, or say which there are."""
    try:
        return entries[str(number)]
    except KeyError:
        known = ", ".join(sorted(entries, key=int)) or "none"
        raise ValueError(f"There is no {number} {what}; there is: {known}.") from None


def _read_box(values: Iterable[int]) -> Box:
    x0, y0, width, height = values
    return Box.factory[y0 : y0 + height, x0 : x0 + width]


def _write_box(box: Box) -> list[int]:
    return [int(box.x.start), int(box.y.start), int(box.x.size), int(box.y.size)]


def _read_wcs(cards: Mapping[str, Any]) -> astropy.wcs.WCS:
    with warnings.catch_warnings():
        # Remarks on dates and on a SIP suffix do not touch the positions.
        warnings.simplefilter("ignore", astropy.wcs.FITSFixedWarning)
        return astropy.wcs.WCS(astropy.io.fits.Header(dict(cards)))


def _write_wcs(wcs: astropy.wcs.WCS) -> dict[str, Any]:
    return {card.keyword: card.value for card in wcs.to_header(relax=True).cards if card.keyword != "COMMENT"}
