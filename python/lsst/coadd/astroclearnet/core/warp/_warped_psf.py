# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""The PSF of an exposure on the pixel grid of a patch."""

from __future__ import annotations

__all__ = ("MOST_OFFSET", "WarpedPsf", "find_star", "kernel_fwhm", "normalise_kernel", "pad_kernels")

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np
import scipy.ndimage

from .._errors import InvalidExposureError
from .._exposure import PixelSkyMap, PsfModel
from ._frame import Frame, transform_pixels
from ._grid_map import divide_pixel

ORDER = 5
"""Order of the interpolating spline, for images and PSFs alike."""

MOST_OFFSET = 1.0
"""Pixels by which the star of a PSF may lie off the middle of its stamp: an
asymmetric one does by less."""

_MARGIN = 8  # zeros around a kernel, after which the spline has died away


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class WarpedPsf:
    """PSF of one exposure on the pixel grid of a patch."""

    psf: PsfModel
    frame: Frame
    patch_wcs: PixelSkyMap

    divisions: int
    """As of the `GridMap` by which the image was resampled."""

    def __call__(self, *, x: float, y: float) -> np.ndarray:
        """Return the PSF at a position.

        Parameters
        ----------
        x, y
            Position in pixels of the patch grid. Off the frame, the PSF of
            the nearest point of the frame is returned.

        Returns
        -------
        `numpy.ndarray`
            Kernel ``(p, p)``, float32, p odd, star on the central pixel,
            sum 1.

        Raises
        ------
        InvalidExposureError
            If the model yields no proper kernel there.
        """
        native_x, native_y = self.frame.nearest(self.patch_wcs, x=x, y=y)
        kernel = normalise_kernel(self.psf(x=native_x, y=native_y), label=self.frame.label)
        return _warp_kernel(kernel, self._native_to_patch(native_x, native_y), self.divisions)

    def _native_to_patch(self, x: float, y: float) -> np.ndarray:
        """Return d(patch x, y) / d(native x, y) at a native position."""
        step = 4.0  # pixels: short on the scale of distortions
        patch_x, patch_y = transform_pixels(
            self.frame.wcs,
            self.patch_wcs,
            x=x + step * np.array([1, -1, 0, 0]),
            y=y + step * np.array([0, 0, 1, -1]),
        )
        corners = np.stack([patch_x, patch_y])
        return np.stack([corners[:, 0] - corners[:, 1], corners[:, 2] - corners[:, 3]], axis=1) / (2 * step)


def normalise_kernel(kernel: np.ndarray, *, label: str) -> np.ndarray:
    """Check a PSF kernel and scale it to sum 1.

    Parameters
    ----------
    kernel
        Kernel ``(y, x)`` with an odd number of pixels on each side.
    label
        Data id for the error.

    Returns
    -------
    `numpy.ndarray`
        Square kernel ``(p, p)``, float64.

    Raises
    ------
    InvalidExposureError
        If the kernel has NaN or infinite pixels, an even side, a sum that
        differs from 1 by more than 5 %, or a star that is not in its middle.
    """
    kernel = np.asarray(kernel, float)
    if kernel.ndim != 2 or not all(side % 2 for side in kernel.shape):
        raise InvalidExposureError(
            f"The PSF of {label} is an array of shape {kernel.shape}; two odd sides are needed."
        )
    if not np.all(np.isfinite(kernel)):
        raise InvalidExposureError(
            f"The PSF of {label} has NaN or infinite pixels; refit its PSF or leave the exposure out."
        )
    total = kernel.sum()
    if not abs(total - 1) <= 0.05:
        raise InvalidExposureError(
            f"The PSF of {label} sums to {total:.4f}, not to 1; refit its PSF or leave the exposure out."
        )
    x, y = find_star(kernel)
    if np.hypot(x, y) > MOST_OFFSET:
        raise InvalidExposureError(
            f"The star of the PSF of {label} lies {x:+.1f}, {y:+.1f} pixels (x, y) from the middle of its "
            "stamp: sources would move by as much; refit its PSF or leave the exposure out."
        )
    size = max(kernel.shape)
    return np.pad(kernel / total, [((size - side) // 2,) * 2 for side in kernel.shape])


def find_star(stamp: np.ndarray) -> tuple[float, float]:
    """Find x and y of a star relative to the middle of its stamp: the centroid
    of what is brighter than half of the brightest pixel.
    """
    core = np.where(stamp > 0.5 * stamp.max(), stamp, 0.0)
    y, x = (np.arange(side) - side // 2 for side in stamp.shape)
    return float((core.sum(axis=0) * x).sum() / core.sum()), float((core.sum(axis=1) * y).sum() / core.sum())


def _warp_kernel(kernel: np.ndarray, native_to_patch: np.ndarray, divisions: int) -> np.ndarray:
    """Resample a kernel as `WarpPlan` resamples images."""
    radius = len(kernel) // 2
    scale = np.sqrt(abs(np.linalg.det(native_to_patch)))  # patch pixels per native pixel
    warped_radius = int(np.ceil(radius * scale))
    offsets = np.arange(-warped_radius, warped_radius + 1.0)
    patch = np.stack(np.meshgrid(offsets, offsets))
    padded = np.pad(kernel, _MARGIN)
    centre = len(padded) // 2
    warped = np.zeros(patch.shape[1:])
    for shift in itertools.product(divide_pixel(divisions), repeat=2):
        native = np.tensordot(np.linalg.inv(native_to_patch), patch + np.reshape(shift, (2, 1, 1)), axes=1)
        warped += scipy.ndimage.map_coordinates(padded, native[::-1] + centre, order=ORDER, mode="constant")
    return (warped / warped.sum()).astype(np.float32)


def kernel_fwhm(kernel: np.ndarray) -> float:
    """Return the diameter of the circle with the area above half maximum."""
    fine = scipy.ndimage.zoom(kernel.astype(float), 5, order=3)
    step = (len(kernel) - 1) / (len(fine) - 1)
    return float(2 * step * np.sqrt(np.count_nonzero(fine > fine.max() / 2) / np.pi))


def pad_kernels(kernels: Sequence[np.ndarray]) -> np.ndarray:
    """Stack kernels ``(..., p, p)`` with odd sides of their own to ``(n, ...,
    p, p)``, the smaller ones with zeros around them.
    """
    size = max(kernel.shape[-1] for kernel in kernels)
    frames = [(size - kernel.shape[-1]) // 2 for kernel in kernels]
    return np.stack(
        [
            np.pad(kernel, [(0, 0)] * (kernel.ndim - 2) + [(frame, frame)] * 2)
            for kernel, frame in zip(kernels, frames, strict=True)
        ]
    )
