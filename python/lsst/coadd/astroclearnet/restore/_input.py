# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Exposures that are already on one pixel grid, read from ``.npz``."""

from __future__ import annotations

__all__ = ("GridStack", "RestoreError", "divide_grid", "read_grid_stack")

import dataclasses
import math
import os
import zipfile
import zlib

import numpy as np

from ..core._errors import CoreError
from ..core._options import LEAST_CELL_SIZE
from ..core._stack import CellStack
from ..core.warp._warped_psf import MOST_OFFSET, find_star
from ..inputs._duplicates import SeenPixels

_KEYS = {"image": "(n, h, w)", "variance": "(n, h, w)", "good": "(n, h, w)", "psf": "(n, p, p)"}

_LEAST_NOISE, _MOST_NOISE = 1e-6, 1e6
"""Noise of a pixel, in the unit of the image, with which fits work."""


class RestoreError(CoreError, ValueError):
    """The input cannot be used or the output not be written; one line."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class GridStack:
    """Exposures on one pixel grid and one flux scale, checked."""

    image: np.ndarray
    """Flux per pixel, float32 ``(n, h, w)``; 0 where not good."""

    variance: np.ndarray
    """Noise variance per pixel, float32 ``(n, h, w)``; 1 where not good."""

    good: np.ndarray
    """Pixels to be used, bool ``(n, h, w)``."""

    psf: np.ndarray
    """PSF kernels, float32 ``(n, p, p)``, p odd, each with sum 1."""

    def cut(self, *, x0: int, y0: int, height: int, width: int) -> CellStack | None:
        """Return a box, grown by empty pixels where it leaves the grid.

        Parameters
        ----------
        x0, y0
            Pixel of the box's first column and row; may be negative.
        height, width
            Size of the box, in pixels.

        Returns
        -------
        `CellStack` or `None`
            The exposures with a good pixel in the box; `None` without any.
        """
        n, rows, columns = self.good.shape
        inside = np.s_[max(y0, 0) : min(y0 + height, rows), max(x0, 0) : min(x0 + width, columns)]
        kept = [t for t in range(n) if self.good[t][inside].any()]
        if not kept:
            return None
        into = np.s_[inside[0].start - y0 : inside[0].stop - y0, inside[1].start - x0 : inside[1].stop - x0]
        image = np.zeros((len(kept), height, width), dtype=np.float32)
        variance = np.ones_like(image)
        good = np.zeros(image.shape, dtype=bool)
        for i, t in enumerate(kept):
            image[i][into] = self.image[t][inside]
            variance[i][into] = self.variance[t][inside]
            good[i][into] = self.good[t][inside]
        labels = tuple(f"exposure {t}" for t in kept)
        return CellStack(image=image, variance=variance, good=good, psf=self.psf[kept], labels=labels)


def divide_grid(shape: tuple[int, ...], largest: int) -> int:
    """Choose the side of equal square cells that cover a grid with the least
    padding.

    Parameters
    ----------
    shape
        Height and width of the grid, in pixels.
    largest
        Largest side of a cell.
    """
    return max(LEAST_CELL_SIZE, *(math.ceil(side / math.ceil(side / largest)) for side in shape))


def read_grid_stack(path: str | os.PathLike[str]) -> GridStack:
    """Read and check a stack.

    Parameters
    ----------
    path
        File of `numpy.savez` with ``image``, ``variance``, ``good`` (each
        ``(n, h, w)``, axis order (exposure, y, x)) and ``psf`` ``(n, p, p)``.

    Returns
    -------
    `GridStack`
        The arrays; pixels that are not good are blanked.

    Raises
    ------
    RestoreError
        If the file is not such a stack; the text names the key and exposure.
    """
    arrays = _load(path)
    _check_shapes(path, arrays)
    good = _as_bool(path, arrays["good"])
    _check_pixels(path, arrays, good)
    image, variance = (_as_float32(path, key, arrays[key], good) for key in ("image", "variance"))
    _refuse_duplicates(path, arrays["image"], good)
    psf = _check_psf(path, arrays["psf"])
    return GridStack(
        image=np.where(good, image, np.float32(0)),
        variance=np.where(good, variance, np.float32(1)),
        good=good,
        psf=psf,
    )


def _load(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    try:
        with open(path, "rb") as stream:
            file = np.load(stream, allow_pickle=False)
            if not isinstance(file, np.lib.npyio.NpzFile):
                file = {}
            found = sorted(file)
            arrays = {key: file[key] for key in _KEYS if key in file}
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        reason = str(error)
        if isinstance(error, ValueError) and not zipfile.is_zipfile(path):
            reason = "it is no zip archive"  # numpy takes what it does not know for a pickle
        raise RestoreError(f"{path} cannot be read as a .npz file of numpy.savez: {reason}") from error
    missing = [key for key in _KEYS if key not in arrays]
    if missing:
        raise RestoreError(
            f"{path} lacks the key{'s' if len(missing) > 1 else ''} {', '.join(missing)} "
            f"(needed: {', '.join(_KEYS)}; found: {', '.join(found) or 'none'})."
        )
    return arrays


def _check_shapes(path: str | os.PathLike[str], arrays: dict[str, np.ndarray]) -> None:
    for key, wanted in _KEYS.items():
        array = arrays[key]
        if array.ndim != 3 or not array.size:
            raise RestoreError(f"{path}: {key} must have shape {wanted}; got {array.shape}.")
        if array.dtype.kind not in ("bui" if key == "good" else "iuf"):
            raise RestoreError(f"{path}: {key} has the type {array.dtype}, which it cannot have.")
    shape = arrays["image"].shape
    for key in ("variance", "good"):
        if arrays[key].shape != shape:
            raise RestoreError(f"{path}: {key} has shape {arrays[key].shape}, but image {shape}.")
    n, p, q = arrays["psf"].shape
    if n != shape[0] or p != q or not p % 2:
        raise RestoreError(
            f"{path}: psf must have shape ({shape[0]}, p, p) with p odd, to centre the star on a "
            f"pixel; got {arrays['psf'].shape}."
        )


def _as_bool(path: str | os.PathLike[str], good: np.ndarray) -> np.ndarray:
    if good.dtype != bool and not np.isin(good, (0, 1)).all():
        raise RestoreError(
            f"{path}: good must hold True and False, or 1 and 0; a bit mask is not understood."
        )
    good = good.astype(bool)
    if not good.any():
        raise RestoreError(f"{path}: no pixel of any exposure is good; there is nothing to restore.")
    return good


def _check_pixels(path: str | os.PathLike[str], arrays: dict[str, np.ndarray], good: np.ndarray) -> None:
    """Refuse values that contradict ``good``, naming the first exposure."""
    variance = arrays["variance"]
    wrong = {
        "image is NaN or infinite": ~np.isfinite(arrays["image"]),
        "variance is NaN or infinite": ~np.isfinite(variance),
        "variance is zero or negative": ~(variance > 0) & np.isfinite(variance),
    }
    for what, where in wrong.items():
        count = np.count_nonzero(where & good, axis=(1, 2))
        if count.any():
            t = int(np.argmax(count > 0))
            raise RestoreError(
                f"{path}: {what} in {count[t]} pixels of exposure {t} where good is True; "
                "set good to False there."
            )
    for t in np.flatnonzero(good.any(axis=(1, 2))):
        noise = float(np.median(variance[t][good[t]])) ** 0.5
        # The fits square fluxes, and divide by variances, in float32.
        if not _LEAST_NOISE <= noise <= _MOST_NOISE:
            raise RestoreError(
                f"{path}: the noise of a pixel of exposure {t} is {noise:.1e}; give image and variance in a "
                f"unit in which it lies between {_LEAST_NOISE:.0e} and {_MOST_NOISE:.0e}, such as nJy."
            )


def _as_float32(path: str | os.PathLike[str], key: str, array: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Cast an array, of which single values may be too large or too small."""
    with np.errstate(over="ignore", under="ignore"):
        cast = array.astype(np.float32)
    lost = good & ~(np.isfinite(cast) & ((cast > 0) | (key == "image")))
    if lost.any():
        t = int(np.argmax(lost.any(axis=(1, 2))))
        raise RestoreError(
            f"{path}: {key} is beyond the range of float32 in {np.count_nonzero(lost[t])} pixels of "
            f"exposure {t}; set good to False there."
        )
    return cast


def _refuse_duplicates(path: str | os.PathLike[str], image: np.ndarray, good: np.ndarray) -> None:
    """Refuse an exposure that is there twice."""
    seen = SeenPixels()
    for t in np.flatnonzero(good.any(axis=(1, 2))):
        if first := seen.find(str(t), image[t], good[t]):
            raise RestoreError(f"{path}: exposures {first} and {t} are the same; give each of them once.")


def _check_psf(path: str | os.PathLike[str], psf: np.ndarray) -> np.ndarray:
    for t, stamp in enumerate(psf):
        total = float(stamp.sum(dtype=float))
        if not math.isfinite(total):
            raise RestoreError(f"{path}: the PSF of exposure {t} holds NaN or infinite values.")
        if abs(total - 1.0) >= 0.01:
            raise RestoreError(
                f"{path}: the PSF of exposure {t} sums to {total:.4f}, not to 1 within 1 %; "
                "divide it by its sum or cut a larger stamp."
            )
        x, y = find_star(stamp)
        if np.hypot(x, y) > MOST_OFFSET:
            raise RestoreError(
                f"{path}: the star of the PSF of exposure {t} lies {x:+.1f}, {y:+.1f} pixels (x, y) from the "
                "middle of the stamp; sources would move by as much. Centre it."
            )
    return psf.astype(np.float32)
