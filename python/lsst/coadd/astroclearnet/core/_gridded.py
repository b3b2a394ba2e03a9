# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Exposures that come on the pixel grid of the tract already."""

from __future__ import annotations

__all__ = ("place_exposure", "variance_share")

import re
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from ._exposure import PsfModel, ScalarField
from ._grid_psf import GridPsf, sample_positions
from ._planes import Plane
from ._register import WarpedExposure
from ._warped_psf import kernel_fwhm


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
    aperture_corrections: Mapping[str, ScalarField] = MappingProxyType({}),
) -> WarpedExposure | None:
    """Take the pixels of one detector out of an image on the grid.

    Parameters
    ----------
    visit, detector, physical_filter, label
        Identity of the exposure.
    image, variance
        nJy per pixel and power of its noise at low spatial frequency, nJy^2,
        ``(y, x)``.
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
    model = GridPsf(label=label, psf=psf, positions=sample_positions(covered, x0=x0, y0=y0))
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
        psf_fwhm=kernel_fwhm(model(x=x0 + (width - 1) / 2, y=y0 + (height - 1) / 2)),
        outline=outline,
        aperture_corrections=aperture_corrections,
    )


def variance_share(kernel: str) -> float:
    """Return how much of the variance of a pixel an interpolation leaves.

    The rest is in the correlation with the neighbours; the power of the noise
    at low spatial frequency does not change.

    Parameters
    ----------
    kernel
        ``bilinear`` or ``lanczos`` with its order, e.g. ``lanczos3``.

    Returns
    -------
    `float`
        Mean over shifts of the sum of the squared weights: 1 for none.

    Raises
    ------
    ValueError
        If the kernel is not known.
    """
    shift = (np.arange(64) + 0.5)[:, None] / 64
    if kernel == "bilinear":
        weights = np.concatenate([1 - shift, shift], axis=1)
    elif match := re.fullmatch(r"lanczos([2-9])", kernel):
        order = int(match[1])
        offset = np.arange(1 - order, order + 1) - shift
        weights = np.sinc(offset) * np.sinc(offset / order)
        weights /= weights.sum(axis=1, keepdims=True)
    else:
        raise ValueError(f"Interpolation {kernel!r} is not known; known: bilinear, lanczos2 to lanczos9.")
    return float(np.mean(np.sum(weights**2, axis=1)) ** 2)
