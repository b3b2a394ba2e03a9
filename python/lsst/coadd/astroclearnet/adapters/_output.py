# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Results of the core to `~lsst.images.cells.CellCoadd`."""

from __future__ import annotations

__all__ = ("NO_DATA_VARIANCE", "choose_cell_size", "make_cell_coadd", "make_n_image", "make_psf_flux_error")

import math
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType

import astropy.units as u
import numpy as np

from lsst.images import YX, Box, Image, Mask, MaskSchema
from lsst.images.cells import (
    CellCoadd,
    CellField,
    CellGrid,
    CellGridBounds,
    CellIJ,
    CellPointSpreadFunction,
    CoaddProvenance,
    PatchDefinition,
)

from ..core._options import LEAST_CELL_SIZE
from ._geometry import PatchGeometry
from ._output_planes import OUTPUT_PLANES

NO_DATA_VARIANCE = 1e12
"""Variance written where there are no data, in nJy^2: finite, so that no
reader trips over it, and so large (sigma 1 mJy) that its weight vanishes."""


def choose_cell_size(*, height: int, width: int, largest: int) -> int:
    """Choose the side of square cells that tile a patch.

    Patches at the edge of a tract are smaller than the others where the tract
    ends at their inner region: 4100 instead of 4200 pixels in an HSC tract
    (``LegacyTractBuilder.getPatchInfo`` clips them, lsst/skymap 91c88c0
    tractBuilder.py).

    Parameters
    ----------
    height, width
        Size of the patch in pixels.
    largest
        Upper limit in pixels.

    Returns
    -------
    `int`
        The largest size up to the limit that divides both sides.

    Raises
    ------
    ValueError
        If that is less than a quarter of the limit; the text lists the sizes
        that divide both sides.
    """
    common = math.gcd(height, width)
    sizes = [size for size in range(1, common + 1) if common % size == 0]
    fitting = [size for size in sizes if max(largest / 4, LEAST_CELL_SIZE) <= size <= largest]
    if not fitting:
        known = ", ".join(str(size) for size in sizes if size >= LEAST_CELL_SIZE) or "none"
        raise ValueError(
            f"No cells of {largest // 4} to {largest} pixels (cell_size={largest}) tile the patch of "
            f"{width} x {height} pixels; sizes that do: {known}."
        )
    return fitting[-1]


def make_cell_coadd(
    *,
    image: np.ndarray,
    variance: np.ndarray,
    planes: Mapping[str, np.ndarray],
    psf: np.ndarray,
    missing: Collection[tuple[int, int]],
    geometry: PatchGeometry,
    band: str,
    cell_size: int,
    noise: Sequence[np.ndarray] = (),
    provenance: CoaddProvenance | None = None,
    aperture_corrections: Mapping[str, np.ndarray] = MappingProxyType({}),
    metadata: Mapping[str, str | int | float | bool | None] | None = None,
) -> CellCoadd:
    """Make the dataset of one result.

    Parameters
    ----------
    image
        Flux in nJy per pixel on the outer bounding box, ``(y, x)``.
    variance
        Its variance in nJy^2, ``(y, x)``.
    planes
        Mask planes, bool ``(y, x)``, by names of `OUTPUT_PLANES`; those left
        out stay empty.
    psf
        Kernels ``(cell_y, cell_x, p, p)``, each with sum 1; ignored for
        missing cells.
    missing
        Cells ``(i, j)``, row and column, without data.
    geometry
        The patch.
    band
        Name of the band.
    cell_size
        Side of a cell, in pixels.
    noise
        Realizations of the noise of the image, nJy, each ``(y, x)``.
    provenance
        The inputs and what each gave to each cell.
    aperture_corrections
        Factor by which a flux of each algorithm is multiplied, by the names
        of the stack's maps, ``(cell_y, cell_x)``; NaN where it is not known.
    metadata
        Anything else to keep with the image.

    Returns
    -------
    `~lsst.images.cells.CellCoadd`
        The image in nJy on the outer bounding box, without NaN. Where there
        are no data the image and its noise are 0, the variance is
        `NO_DATA_VARIANCE` and the plane NO_DATA is set; so too where a value
        is not finite or a variance not positive. Where INTERPOLATED is set
        with NO_DATA, the image keeps its value; the plane is cleared where it
        has none to keep.

    Raises
    ------
    ValueError
        If shapes disagree, a plane is not known, a kernel is not normalised,
        or ``cell_size`` does not divide the patch.

    Notes
    -----
    The full stack reads it as an ``ExposureF`` (``CellCoadd.to_legacy``,
    lsst/images 30.2026.4300 cells/_coadd.py:654-715) with PSF, WCS, band,
    ``PhotoCalib(1)``, BUNIT and all planes, and as a ``MultipleCellCoadd``
    (:556-652) with the inputs of each cell and aperture corrections, too:
    those have no place in the former. A transmission curve has none in
    either: take it from the inputs that the provenance names.
    """
    bbox = geometry.outer_bbox
    height, width = bbox.shape
    if height % cell_size or width % cell_size:
        raise ValueError(f"Cells of {cell_size} px do not divide a patch of {width} x {height} px.")
    for name, array in {"image": image, "variance": variance, **planes}.items():
        if array.shape != (height, width):
            raise ValueError(f"{name} has shape {array.shape}; the patch has {(height, width)}.")
    grid = CellGrid(bbox=bbox, cell_shape=YX(y=cell_size, x=cell_size))
    bounds = CellGridBounds(grid=grid, bbox=bbox, missing=frozenset(CellIJ(i, j) for i, j in missing))
    with np.errstate(invalid="ignore"):
        empty = ~(np.isfinite(image) & np.isfinite(variance) & (variance > 0))
    for box in bounds.missing_boxes():
        empty[box.slice_within(bbox)] = True
    no_data = empty | planes.get("NO_DATA", False)
    # Small holes have a value, though no data.
    interpolated = planes.get("INTERPOLATED", np.zeros_like(empty)) & ~empty
    empty |= no_data & ~interpolated
    coadd = CellCoadd(
        _image(image, empty, 0.0, bbox, u.nJy),
        mask=_mask({**planes, "NO_DATA": no_data, "INTERPOLATED": interpolated}, bbox),
        variance=_image(variance, no_data, NO_DATA_VARIANCE, bbox, u.nJy**2),
        noise_realizations=[_image(plane, no_data, 0.0, bbox, u.nJy) for plane in noise],
        sky_projection=geometry.sky_projection,
        band=band,
        psf=CellPointSpreadFunction(_kernels(psf, bounds), bounds),
        patch=PatchDefinition(
            id=geometry.patch, index=geometry.index, inner_bbox=geometry.inner_bbox, cells=grid
        ),
        provenance=provenance,
        aperture_corrections={
            name: _cell_field(values, bounds) for name, values in aperture_corrections.items()
        },
    )
    coadd.metadata = dict(metadata or {})
    return coadd


def make_n_image(n_image: np.ndarray, *, geometry: PatchGeometry) -> Image:
    """Make the image of the number of inputs used for each pixel.

    Parameters
    ----------
    n_image
        Counts ``(y, x)``, integer.
    geometry
        The patch.
    """
    return Image(n_image.astype(np.uint16), bbox=geometry.outer_bbox, sky_projection=geometry.sky_projection)


def make_psf_flux_error(variance: np.ndarray, *, no_data: np.ndarray, geometry: PatchGeometry) -> Image:
    """Make the image of the standard errors of PSF fluxes.

    Parameters
    ----------
    variance
        Variance in nJy^2 of a PSF flux measured about each pixel, ``(y, x)``.
    no_data
        Where there are no data, bool ``(y, x)``: the error is the square root
        of `NO_DATA_VARIANCE` there.
    geometry
        The patch.

    Returns
    -------
    `~lsst.images.Image`
        In nJy, float32, on the outer bounding box.
    """
    error = np.sqrt(np.where(no_data, NO_DATA_VARIANCE, variance)).astype(np.float32)
    return Image(error, bbox=geometry.outer_bbox, unit=u.nJy, sky_projection=geometry.sky_projection)


def _image(array: np.ndarray, no_data: np.ndarray, fill: float, bbox: Box, unit: u.UnitBase) -> Image:
    return Image(np.where(no_data, fill, array).astype(np.float32), bbox=bbox, unit=unit)


def _mask(planes: Mapping[str, np.ndarray], bbox: Box) -> Mask:
    mask = Mask(0, schema=MaskSchema(OUTPUT_PLANES), bbox=bbox)
    for name, array in planes.items():
        if name not in mask.schema.names:
            raise ValueError(f"Mask plane {name!r} is not one of {', '.join(sorted(mask.schema.names))}.")
        mask.set(name, array.astype(bool))
    return mask


def _cell_field(values: np.ndarray, bounds: CellGridBounds) -> CellField:
    """Make a field of one value a cell; those without one are missing."""
    unknown = {CellIJ(int(i), int(j)) for i, j in np.argwhere(~np.isfinite(values))}
    return CellField(
        CellGridBounds(grid=bounds.grid, bbox=bounds.bbox, missing=bounds.missing | unknown), values
    )


def _kernels(psf: np.ndarray, bounds: CellGridBounds) -> np.ndarray:
    """Check the kernels; those of missing cells become NaN."""
    size = bounds.grid.grid_size
    if psf.ndim != 4 or psf.shape[:2] != (size.i, size.j) or psf.shape[2] != psf.shape[3]:
        raise ValueError(f"psf has shape {psf.shape}; ({size.i}, {size.j}, p, p) is needed.")
    # The afw side of a cell PSF holds images of double precision.
    kernels = np.full(psf.shape, np.nan, np.float64)
    for cell in bounds.cell_indices():
        total = psf[cell.i, cell.j].sum(dtype=float)
        if not abs(total - 1) < 0.005:
            raise ValueError(f"The PSF of cell ({cell.i}, {cell.j}) sums to {total:.4f}, not to 1.")
        kernels[cell.i, cell.j] = psf[cell.i, cell.j] / total
    return kernels
