# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Resample exposures to the pixel grid of a patch, and their PSFs alike."""

from __future__ import annotations

__all__ = ("WarpedExposure", "WarpedField", "WarpPlan")

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np

from .._exposure import InputExposure, PixelSkyMap, PsfModel, ScalarField
from .._planes import Plane
from ._frame import Frame, overlap_box
from ._grid_map import GridMap
from ._holed_psf import find_kernel, sample_positions
from ._psf_trend import PsfTrend
from ._resample import GROWTH, resample
from ._warped_psf import WarpedPsf, kernel_fwhm


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class WarpedField:
    """A number that varies over a detector, on the pixel grid of a patch."""

    field: ScalarField
    frame: Frame
    patch_wcs: PixelSkyMap

    def __call__(self, *, x: float, y: float) -> float:
        """Return the value at a pixel of the patch grid; off the frame, that
        of the nearest point of the frame.
        """
        native_x, native_y = self.frame.nearest(self.patch_wcs, x=x, y=y)
        return float(self.field(x=native_x, y=native_y))


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class WarpedExposure:
    """One exposure on the pixel grid of a patch, where they overlap."""

    visit: int
    detector: int
    physical_filter: str
    label: str

    x0: int
    """Pixel x of column 0 of the arrays, on the patch grid."""

    y0: int
    """Pixel y of row 0 of the arrays, on the patch grid."""

    image: np.ndarray
    """Flux in nJy per pixel of the patch, float32 ``(y, x)``; 0 outside the
    frame."""

    variance: np.ndarray
    """Power of the noise at low spatial frequency, nJy^2, float32 ``(y, x)``.
    The interpolation smooths noise; this figure does not follow it down."""

    flags: np.ndarray
    """Bits of `Plane`, uint32 ``(y, x)``; planes that are left out are grown
    by what the interpolation smears."""

    good: np.ndarray
    """On the frame and in none of the planes that are left out, ``(y, x)``."""

    psf: PsfModel
    """PSF at a position of the patch grid, float32, sum 1, anywhere."""

    psf_trend: PsfTrend | None = None
    """How it changes over the overlap; `None` if that is not known."""

    psf_fwhm: float
    """FWHM of the PSF at the centre of the overlap, or near it where the model
    has no value there, in pixels of the patch."""

    outline: np.ndarray
    """Vertices ``(n, 2)`` of the edge of the whole frame, x and y, in pixels
    of the patch grid."""

    aperture_corrections: Mapping[str, ScalarField] = MappingProxyType({})
    """Factor by which a flux of each photometry algorithm is multiplied, at a
    position of the patch grid."""

    def with_artifacts(self, clipped: np.ndarray, *, x0: int, y0: int) -> WarpedExposure:
        """Return the same exposure with pixels left out as artifacts.

        Parameters
        ----------
        clipped
            The artifacts, bool ``(y, x)``.
        x0, y0
            Pixel of element [0, 0] on the patch grid.
        """
        box = self.slices_within(x0=x0, y0=y0, height=clipped.shape[0], width=clipped.shape[1])
        if box is None or not clipped[box[1]].any():
            return self
        here, there = box
        flags, good = self.flags.copy(), self.good.copy()
        marked = clipped[there] & ((flags[here] & np.uint32(Plane.NO_DATA)) == 0)
        flags[here][marked] |= np.uint32(Plane.CLIPPED)
        good[here][marked] = False
        return dataclasses.replace(self, flags=flags, good=good)

    def moved_to(self, folder: Path) -> WarpedExposure:
        """Return the same exposure with its arrays in files of a folder.

        The system keeps in memory what is in use, which is one cell at a
        time, instead of the whole patch. The files have no name any more, so
        that their space is free again whatever ends the process; nor are they
        open, of which a process may have some hundred.
        """
        import torch

        moved = {}
        for name in ("image", "variance", "flags", "good"):
            array = np.ascontiguousarray(getattr(self, name))
            path = folder / f"{self.visit}-{self.detector}-{name}"
            path.write_bytes(array.data)
            content = torch.from_file(str(path), shared=True, size=array.nbytes, dtype=torch.uint8).numpy()
            path.unlink()
            moved[name] = content.view(array.dtype).reshape(array.shape)
            moved[name].setflags(write=False)
        return dataclasses.replace(self, **moved)

    def slices_within(
        self, *, x0: int, y0: int, height: int, width: int
    ) -> tuple[tuple[slice, slice], tuple[slice, slice]] | None:
        """Return where a box lies in the arrays, and they in the box.

        Parameters
        ----------
        x0, y0, height, width
            The box, in pixels of the patch grid.

        Returns
        -------
        `tuple` or `None`
            Slices ``(y, x)`` of the arrays here, and of an array of the box;
            `None` if they do not overlap.
        """
        here, there = [], []
        for mine, size, start, length in zip(
            (self.y0, self.x0), self.image.shape, (y0, x0), (height, width), strict=True
        ):
            low, high = max(mine, start), min(mine + size, start + length)
            if high <= low:
                return None
            here.append(slice(low - mine, high - mine))
            there.append(slice(low - start, high - start))
        return (here[0], here[1]), (there[0], there[1])


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class WarpPlan:
    """Where an exposure lies on the pixel grid of a patch, to resample it.

    `warp` does all that is left at once. Of its two steps `resample`, the
    long one, asks neither WCS nor PSF: these may be objects of other libraries
    that are for one thread.

    Notes
    -----
    The image is interpolated with a quintic spline through its pixels and
    multiplied by the local ratio of pixel areas, so that sums of pixels are
    conserved. Where pixels of the patch are more than 1.5 native ones wide,
    each is the mean of several such values, and the PSF likewise. Pixels that
    are left out are first filled from their neighbours: the spline never sees
    their values. Stars of FWHM 3 native pixels or more match the resampled
    PSF to 1 % of their peak; at 2.5 pixels, where the frame itself is
    undersampled, to 2 %.
    """

    exposure: InputExposure
    wcs: PixelSkyMap
    bad: Plane
    frame: Frame
    grid: GridMap
    outline: np.ndarray

    x0: int
    y0: int
    height: int
    width: int
    """Where they overlap, in pixels of the patch."""

    @classmethod
    def make(
        cls,
        exposure: InputExposure,
        *,
        wcs: PixelSkyMap,
        x0: int,
        y0: int,
        height: int,
        width: int,
        bad: Plane,
    ) -> WarpPlan | None:
        """Find where an exposure lies.

        Parameters
        ----------
        exposure
            Image on its native pixels, nJy per pixel.
        wcs
            World coordinates of the patch grid.
        x0, y0, height, width
            The patch, in pixels of its grid.
        bad
            Planes whose pixels must not be used. Pixels with NaN, infinite or
            no positive variance are left out in any case.

        Returns
        -------
        `WarpPlan` or `None`
            `None` if the exposure does not overlap the patch, or with no more
            than the border that is lost to the interpolation.

        Raises
        ------
        InvalidExposureError
            If the WCS cannot be followed.
        """
        frame = Frame.of(exposure)
        outline, usable = (frame.outline(wcs, border=border) for border in (0, GROWTH))
        box = None if usable is None else overlap_box(usable, x0=x0, y0=y0, height=height, width=width)
        if outline is None or box is None:
            return None
        place = dict(zip(("x0", "y0", "height", "width"), box, strict=True))
        grid = GridMap.fit(wcs, frame, **place)
        return cls(exposure=exposure, wcs=wcs, bad=bad, frame=frame, grid=grid, outline=outline, **place)

    def warp(self) -> WarpedExposure:
        """Return the exposure where it overlaps the patch.

        Raises
        ------
        InvalidExposureError
            If the PSF is no proper kernel anywhere.
        """
        return self.finish(*self.resample())

    def resample(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return image, variance and flags on the grid, ``(y, x)``."""
        bad = self.bad | Plane.NO_DATA
        return resample(self.exposure, self.grid, height=self.height, width=self.width, bad=bad)

    def finish(self, image: np.ndarray, variance: np.ndarray, flags: np.ndarray) -> WarpedExposure:
        """Add what does not depend on pixels to what was resampled."""
        exposure, frame = self.exposure, self.frame
        psf = WarpedPsf(psf=exposure.psf, frame=frame, patch_wcs=self.wcs, divisions=self.grid.divisions)
        # A model may have a hole at the centre: that costs a cell at most.
        place = {"x0": self.x0, "y0": self.y0}
        kernel = find_kernel(
            psf,
            sample_positions(np.ones(image.shape, bool), **place),
            x=self.x0 + (self.width - 1) / 2,
            y=self.y0 + (self.height - 1) / 2,
            label=exposure.label,
        )
        return WarpedExposure(
            visit=exposure.visit,
            detector=exposure.detector,
            physical_filter=exposure.physical_filter,
            label=exposure.label,
            **place,
            image=image,
            variance=variance,
            flags=flags,
            good=(flags & np.uint32(self.bad | Plane.NO_DATA)) == 0,
            psf=psf,
            psf_trend=PsfTrend.fit(psf, outline=self.outline, height=self.height, width=self.width, **place),
            psf_fwhm=kernel_fwhm(kernel),
            outline=self.outline,
            aperture_corrections={
                name: WarpedField(field=field, frame=frame, patch_wcs=self.wcs)
                for name, field in exposure.aperture_corrections.items()
            },
        )
