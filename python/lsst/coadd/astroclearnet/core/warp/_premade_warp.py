# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Exposures that come on the pixel grid of the tract already."""

from __future__ import annotations

__all__ = ("find_gain", "place_exposure", "variance_share")

import re
from collections.abc import Mapping

import numpy as np

from .._exposure import PsfModel, ScalarField
from .._planes import Plane
from ._grid_map import GridMap
from ._holed_psf import HoledPsf, sample_positions
from ._psf_trend import PsfTrend
from ._register import WarpedExposure
from ._warped_psf import kernel_fwhm

_PHASES = 1024  # parts of a pixel to which a shift is known: the share then to 0.1 %
_BLOCK = 256  # rows that are worked at a time


def place_exposure(
    *,
    visit: int,
    detector: int,
    physical_filter: str,
    label: str,
    image: np.ndarray,
    variance: np.ndarray,
    flags: np.ndarray,
    inside: np.ndarray,
    x0: int,
    y0: int,
    psf: PsfModel,
    outline: np.ndarray,
    bad: Plane,
    aperture_corrections: Mapping[str, ScalarField],
) -> WarpedExposure | None:
    """Take the pixels of one detector out of an image on the grid.

    Parameters
    ----------
    visit, detector, physical_filter, label
        Identity of the exposure.
    image, variance
        nJy per pixel and nJy^2, ``(y, x)``.
    flags
        Bits of `Plane`, uint32 ``(y, x)``.
    inside
        Pixels that come from the detector, bool ``(y, x)``.
    x0, y0
        Pixel of element [0, 0].
    psf
        Model in pixels of the grid.
    outline
        Vertices ``(n, 2)`` of the edge of its frame, x and y, in pixels of
        the grid.
    bad
        Planes whose pixels must not be used.
    aperture_corrections
        Factor by which a flux of each photometry algorithm is multiplied, at
        a pixel of the grid.

    Returns
    -------
    `WarpedExposure` or `None`
        The exposure where it has data, nothing resampled; `None` if it has
        none.

    Raises
    ------
    InvalidExposureError
        If the PSF is no proper kernel.
    """
    with np.errstate(invalid="ignore"):
        usable = inside & np.isfinite(image) & np.isfinite(variance) & (variance > 0)
    covered = usable & ((flags & np.uint32(Plane.NO_DATA)) == 0)
    rows, columns = np.flatnonzero(covered.any(axis=1)), np.flatnonzero(covered.any(axis=0))
    if not rows.size:
        return None
    cut = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    covered = covered[cut]
    x0, y0 = x0 + int(columns[0]), y0 + int(rows[0])
    flags = np.where(covered, flags[cut], np.uint32(Plane.NO_DATA)).astype(np.uint32)
    model = HoledPsf(label=label, psf=psf, positions=sample_positions(covered, x0=x0, y0=y0))
    height, width = covered.shape
    return WarpedExposure(
        visit=visit,
        detector=detector,
        physical_filter=physical_filter,
        label=label,
        x0=x0,
        y0=y0,
        image=np.where(covered, image[cut], 0).astype(np.float32),
        variance=np.where(covered, variance[cut], 0).astype(np.float32),
        flags=flags,
        good=(flags & np.uint32(bad | Plane.NO_DATA)) == 0,
        psf=model,
        psf_trend=PsfTrend.fit(model, outline=outline, x0=x0, y0=y0, height=height, width=width),
        psf_fwhm=kernel_fwhm(model(x=x0 + (width - 1) / 2, y=y0 + (height - 1) / 2)),
        outline=outline,
        aperture_corrections=aperture_corrections,
    )


def find_gain(grid: GridMap, *, kernel: str, height: int, width: int) -> np.ndarray:
    """Return by what a variance plane that was interpolated with the image
    is to be divided.

    Parameters
    ----------
    grid
        Native coordinates of a box.
    kernel
        The interpolation; `variance_share` says which are known.
    height, width
        The box, in pixels.

    Returns
    -------
    `numpy.ndarray`
        Variance of a pixel in units of the power of the noise at low spatial
        frequency, float32 ``(y, x)``.

    Notes
    -----
    With an area A of native pixels of variance V in a pixel, fluxes are
    multiplied by A. Of the variance of the pixel, the weights w leave
    ``A**2 * V * sum(w**2)``; a sum over many pixels has A times V for each of
    them, whatever the weights are. How much they leave goes with the position
    of the pixel between those of the detector, which makes a moire.
    """
    share = variance_share(kernel, (np.arange(_PHASES) + 0.5) / _PHASES)
    gain = np.empty((height, width), np.float32)
    columns = np.arange(width)
    for first in range(0, height, _BLOCK):
        rows = np.arange(first, min(first + _BLOCK, height))
        x, y = (
            share[np.floor(position(rows, columns) * _PHASES).astype(np.int64) % _PHASES]
            for position in (grid.x, grid.y)
        )
        gain[rows] = grid.area(rows, columns) * x * y
    return gain


def variance_share(kernel: str, shift: np.ndarray) -> np.ndarray:
    """Return how much of the variance of pixels an interpolation leaves.

    The rest is in the correlation with the neighbours.

    Parameters
    ----------
    kernel
        ``bilinear`` or ``lanczos`` with its order, e.g. ``lanczos3``.
    shift
        Distances ``(n,)`` from a pixel to where the image is wanted, along one
        axis, from 0 to 1 pixel.

    Returns
    -------
    `numpy.ndarray`
        Sum of the squared weights ``(n,)``, those of the other axis left out:
        1 where there is no shift.

    Raises
    ------
    ValueError
        If the kernel is not known.
    """
    shift = np.asarray(shift, float)[:, None]
    if kernel == "bilinear":
        weights = np.concatenate([1 - shift, shift], axis=1)
    elif match := re.fullmatch(r"lanczos([2-9])", kernel):
        order = int(match[1])
        offset = np.arange(1 - order, order + 1) - shift
        weights = np.sinc(offset) * np.sinc(offset / order)
        weights /= weights.sum(axis=1, keepdims=True)
    else:
        raise ValueError(f"Interpolation {kernel!r} is not known; known: bilinear, lanczos2 to lanczos9.")
    return np.sum(weights**2, axis=1)
