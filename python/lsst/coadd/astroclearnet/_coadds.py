# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Views of coadds as plain arrays, for measurement and pictures."""

from __future__ import annotations

__all__ = (
    "CoaddView",
    "sample_gaussian",
    "view_coadd",
    "view_from_cell_coadd",
    "view_from_exposure",
    "view_from_truth",
)

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import astropy.units as u
import numpy as np
from astropy.stats import gaussian_fwhm_to_sigma

from .core import InputExposure, InvalidExposureError, PixelSkyMap, Plane
from .core.warp._frame import measure_pixel
from .flux_errors import NOISE_AREA

if TYPE_CHECKING:
    from lsst.images import Image
    from lsst.images.cells import CellCoadd


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class CoaddView:
    """One coadd, whatever library it was read with."""

    name: str
    """Name of the plane in tables and pictures, e.g. ``acn_coadd``."""

    image: np.ndarray
    """Flux in nJy per pixel, float32 ``(y, x)``; 0 where `bad`."""

    variance: np.ndarray
    """Declared variance in nJy^2, float32 ``(y, x)``."""

    bad: np.ndarray
    """Pixels without data, bool ``(y, x)``."""

    saturated: np.ndarray
    """Pixels flagged as saturated, bool ``(y, x)``."""

    x0: int
    """Patch pixel x of column 0."""

    y0: int
    """Patch pixel y of row 0."""

    pixel_scale: float
    """Side of a pixel at the centre, in arcsec."""

    psf: Callable[..., np.ndarray | None]
    """``psf(x=, y=)`` returns the attached kernel ``(p, p)`` at a patch pixel,
    or `None` where there is no PSF."""

    mask_fractions: Mapping[str, float] = MappingProxyType({})
    """Share of the pixels in each mask plane, by its name."""

    seams: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())
    """Patch pixel x, and y, of the first column and row of each cell but the
    first; empty if the coadd was not made of cells."""

    noise_area: Mapping[str, float] = MappingProxyType({})
    """What its metadata tell of the correlation of the noise, as
    `describe_noise` does; empty if they tell nothing."""

    configuration: str = ""
    """How it was made, in a few words."""

    wcs: PixelSkyMap | None = None
    """World coordinates of the pixels."""

    def stamp(self, *, x: float, y: float, half: int) -> np.ndarray | None:
        """Return the pixels around a position.

        Parameters
        ----------
        x, y
            Patch pixel.
        half
            Half the side, in pixels.

        Returns
        -------
        `numpy.ndarray` or `None`
            Image ``(2 half + 1, 2 half + 1)`` in nJy; `None` if it is not
            complete, or has a bad or saturated pixel.
        """
        column, row = round(x) - self.x0, round(y) - self.y0
        height, width = self.image.shape
        if not (half <= column < width - half and half <= row < height - half):
            return None
        part = np.s_[row - half : row + half + 1, column - half : column + half + 1]
        if self.bad[part].any() or self.saturated[part].any():
            return None
        return self.image[part]

    def cutout(self, box: tuple[int, int, int, int]) -> CoaddView:
        """Return the part inside ``(x0, y0, width, height)``.

        Parameters
        ----------
        box
            Patch pixels; must lie inside this view.
        """
        x0, y0, width, height = box
        part = (
            slice(y0 - self.y0, y0 - self.y0 + height),
            slice(x0 - self.x0, x0 - self.x0 + width),
        )
        planes = {name: getattr(self, name)[part] for name in ("image", "variance", "bad", "saturated")}
        return dataclasses.replace(self, x0=x0, y0=y0, **planes)

    @property
    def box(self) -> tuple[int, int, int, int]:
        """The area as ``(x0, y0, width, height)`` in patch pixels."""
        height, width = self.image.shape
        return self.x0, self.y0, width, height

    def contains(self, *, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Say which patch pixels lie inside (bool array)."""
        x0, y0, width, height = self.box
        return (x > x0 - 0.5) & (x < x0 + width - 0.5) & (y > y0 - 0.5) & (y < y0 + height - 0.5)


def sample_gaussian(fwhm: float, size: int) -> np.ndarray:
    """Sample a centred Gaussian of unit sum.

    Parameters
    ----------
    fwhm
        Full width at half maximum, in pixels.
    size
        Side of the array, odd, in pixels.

    Returns
    -------
    `numpy.ndarray`
        Kernel ``(size, size)``, float64.
    """
    offset = np.arange(size) - size // 2
    profile = np.exp(-0.5 * (offset / (fwhm * gaussian_fwhm_to_sigma)) ** 2)
    kernel = np.outer(profile, profile)
    return kernel / kernel.sum()


def view_from_cell_coadd(coadd: CellCoadd, *, name: str) -> CoaddView:
    """Look at a coadd of `lsst.images`.

    Parameters
    ----------
    coadd
        Any unit of flux density.
    name
        Name of the plane in tables and pictures.

    Raises
    ------
    ValueError
        If the unit is not one of flux density; the text names the plane.
    """
    from .adapters import SkyProjectionMap

    try:
        scale = coadd.unit.to(u.nJy)
    except u.UnitConversionError:
        raise ValueError(f"{name} has the unit '{coadd.unit}', which cannot be converted to nJy.") from None
    image = np.asarray(coadd.image.array, dtype=np.float32) * np.float32(scale)
    variance = np.asarray(coadd.variance.array, dtype=np.float32) * np.float32(scale**2)
    planes = set(coadd.mask.schema.names)
    nothing = np.zeros(image.shape, dtype=bool)
    bad = ~np.isfinite(image) | (coadd.mask.get("NO_DATA") if "NO_DATA" in planes else nothing)
    grid, bounds = coadd.grid, coadd.bounds

    def psf(*, x: float, y: float) -> np.ndarray | None:
        cell = grid.index_of(x=round(x), y=round(y))
        if cell in bounds.missing or not bounds.contains_cell(cell):
            return None
        return np.asarray(coadd.psf[cell].array, dtype=float)

    box = coadd.bbox
    wcs = SkyProjectionMap(coadd.sky_projection)
    return CoaddView(
        name=name,
        image=np.where(bad, np.float32(0), image),
        variance=variance,
        bad=bad,
        saturated=coadd.mask.get("SATURATED") if "SATURATED" in planes else nothing,
        x0=box.x.start,
        y0=box.y.start,
        pixel_scale=measure_pixel(wcs, x=box.x.center, y=box.y.center),
        psf=psf,
        mask_fractions={plane: float(np.mean(coadd.mask.get(plane))) for plane in sorted(planes)},
        seams=(_inner_edges(box.x, grid.cell_shape.x), _inner_edges(box.y, grid.cell_shape.y)),
        noise_area={key: value for key, value in coadd.metadata.items() if key.startswith(NOISE_AREA)},
        configuration=_describe_configuration(coadd.metadata),
        wcs=wcs,
    )


def _inner_edges(interval: Any, step: int) -> tuple[int, ...]:
    """Return where cells begin, but for the first."""
    return tuple(range(interval.start + step, interval.stop, step))


def _describe_configuration(metadata: Mapping[str, Any]) -> str:
    """Say how a coadd of this package was made; empty for other coadds."""
    words = [str(metadata[name]) for name in ("method", "recipe") if metadata.get(name)]
    if metadata.get("recipe") and "target_fwhm" in metadata:
        words.append(f"target FWHM {float(metadata['target_fwhm']):g} px")
    if "config_sha256" in metadata:
        words.append(f"config {str(metadata['config_sha256'])[:8]}")
    return " ".join(words)


def view_from_exposure(exposure: InputExposure, *, name: str) -> CoaddView:
    """Look at a coadd that came through an adapter (e.g. an ``ExposureF``).

    Parameters
    ----------
    exposure
        The coadd as the adapter gives it, in nJy.
    name
        Name of the plane in tables and pictures.
    """
    bad = ~np.isfinite(exposure.image) | ((exposure.flags & int(Plane.NO_DATA)) != 0)
    height, width = exposure.image.shape

    def psf(*, x: float, y: float) -> np.ndarray | None:
        try:
            return exposure.psf(x=x, y=y)
        except InvalidExposureError:
            # A coadd has no PSF where it has no input.
            return None

    return CoaddView(
        name=name,
        image=np.where(bad, np.float32(0), exposure.image),
        variance=exposure.variance,
        bad=bad,
        saturated=(exposure.flags & int(Plane.SATURATED)) != 0,
        x0=exposure.x0,
        y0=exposure.y0,
        pixel_scale=measure_pixel(exposure.wcs, x=exposure.x0 + width / 2, y=exposure.y0 + height / 2),
        psf=psf,
        mask_fractions={
            str(plane.name): float(np.mean((exposure.flags & int(plane)) != 0)) for plane in Plane
        },
        wcs=exposure.wcs,
    )


def view_coadd(coadd: Any, *, image_model: str, name: str) -> CoaddView:
    """Look at a coadd, whatever library it comes from.

    Parameters
    ----------
    coadd
        ``CellCoadd`` or ``ExposureF``.
    image_model
        One of `~.adapters.IMAGE_MODELS`.
    name
        Name of the plane in tables and pictures.
    """
    if image_model == "images":
        return view_from_cell_coadd(coadd, name=name)
    from .adapters import make_adapter

    # The adapter wants a data id to name an exposure; a coadd has none.
    exposure = make_adapter(image_model).adapt(coadd, data_id={"visit": 0, "detector": 0})
    return view_from_exposure(exposure, name=name)


def view_from_truth(image: Image, *, fwhm: float, like: CoaddView) -> CoaddView:
    """Look at the noiseless image of a simulation.

    Parameters
    ----------
    image
        Flux in nJy per pixel.
    fwhm
        FWHM of its Gaussian PSF, in pixels.
    like
        Coadd on the same pixel grid.
    """
    box = image.bbox
    array = np.asarray(image.array, dtype=np.float32)
    nothing = np.zeros(array.shape, dtype=bool)
    kernel = sample_gaussian(fwhm, 2 * int(np.ceil(3 * fwhm)) + 1)
    return CoaddView(
        name="truth",
        image=array,
        variance=np.ones_like(array),
        bad=nothing,
        saturated=nothing,
        x0=box.x.start,
        y0=box.y.start,
        pixel_scale=like.pixel_scale,
        psf=lambda *, x, y: kernel,
    )
