# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""The tables of mask planes: what is read, and what is written.

Nothing else in the package knows how a library spells a plane.
"""

from __future__ import annotations

__all__ = ("INPUT_PLANES", "OUTPUT_PLANES", "combine_planes", "translate_planes")

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import scipy.ndimage

from lsst.images import MaskPlane

from ..core._planes import Plane
from ..core._register import WarpedExposure

_LOG = logging.getLogger(__name__)

INPUT_PLANES: Mapping[str, Plane | None] = MappingProxyType(
    {
        "NO_DATA": Plane.NO_DATA,
        "BAD": Plane.BAD,
        "SAT": Plane.SATURATED,
        "SATURATED": Plane.SATURATED,
        "SUSPECT": Plane.SUSPECT,
        "CR": Plane.COSMIC_RAY,
        "COSMIC_RAY": Plane.COSMIC_RAY,
        "INTRP": Plane.INTERPOLATED,
        "INTERPOLATED": Plane.INTERPOLATED,
        "EDGE": Plane.DETECTION_EDGE,
        "DETECTION_EDGE": Plane.DETECTION_EDGE,
        "CROSSTALK": Plane.CROSSTALK,
        "STREAK": Plane.STREAK,
        "UNMASKEDNAN": Plane.UNMASKED_NAN,
        "UNMASKED_NAN": Plane.UNMASKED_NAN,
        "VIGNETTED": Plane.VIGNETTED,
        # Known, and no reason to leave a pixel out.
        "PARTLY_VIGNETTED": None,
        "DETECTED": None,
        "DETECTED_NEGATIVE": None,
        "NOT_DEBLENDED": None,
        "SPIKE": None,
        "ITL_DIP": None,
        "FAKE": None,
        "INJECTED": None,
        "INJECTED_CORE": None,
        "BRIGHT_OBJECT": None,
    }
)
"""Planes of an input, as `lsst.afw` and `lsst.images` spell them (the pairs
are those of ``get_legacy_visit_image_mask_planes`` in lsst/images _mask.py),
and what each becomes; `None` is left out silently."""

SATURATED_FRACTION = 0.1
"""Part of the inputs of a pixel above which the result counts as saturated
(``maskPropagationThresholds`` in lsst/drp_tasks assemble_coadd.py:238-248)."""

_PROPAGATED = MappingProxyType(
    {
        Plane.BAD: "At least one input has a defective pixel here.",
        Plane.SUSPECT: "At least one input is near saturation here.",
        Plane.COSMIC_RAY: "A cosmic ray hit at least one input here.",
        Plane.INTERPOLATED: "At least one input has a value made from neighbours here.",
        Plane.CROSSTALK: "At least one input is affected by another amplifier here.",
        Plane.STREAK: "A satellite or aeroplane trail crosses at least one input here.",
        Plane.UNMASKED_NAN: "At least one input was NaN here for no known reason.",
        Plane.VIGNETTED: "At least one input is shadowed by the optics here.",
    }
)

OUTPUT_PLANES: tuple[MaskPlane, ...] = (
    MaskPlane("NO_DATA", "No input was used; the value is 0 and the variance a fill value."),
    MaskPlane("SATURATED", "More than 10 % of the inputs that cover the pixel are saturated there."),
    MaskPlane("SENSOR_EDGE", "At least one input frame ends within a few pixels."),
    MaskPlane("CLIPPED", "At least one input disagreed with the others and was left out. Implies REJECTED."),
    MaskPlane(
        "REJECTED",
        "At least one input covers the pixel and was left out for its mask or by clipping. "
        "Implies INEXACT_PSF.",
    ),
    MaskPlane("INEXACT_PSF", "Not every input that the PSF of the cell was made from was used here."),
    *(MaskPlane(plane.name or "", text) for plane, text in _PROPAGATED.items()),
)
"""Planes of every `CellCoadd` that this package writes, with definitions.

CLIPPED implies REJECTED, as in lsst/images _mask.py; the older
lsst/pipe_tasks coaddBase.py:330-358 keeps them apart."""

_EDGES = Plane.NO_DATA | Plane.DETECTION_EDGE
_EDGE_WIDTH = 3  # pixels inside the end of a frame that are marked

_reported: set[str] = set()


def translate_planes(
    names: Iterable[str], get: Callable[[str], np.ndarray], *, shape: tuple[int, int]
) -> np.ndarray:
    """Translate the mask of an input image.

    Parameters
    ----------
    names
        Planes that its mask defines.
    get
        Returns a plane as a bool array ``(y, x)``.
    shape
        Shape of the image.

    Returns
    -------
    `numpy.ndarray`
        Bits of `Plane`, uint32 ``(y, x)``. Planes that `INPUT_PLANES` does
        not know are left out; each is named once in a warning.
    """
    flags = np.zeros(shape, np.uint32)
    for name in names:
        if name not in INPUT_PLANES:
            if name not in _reported:
                _reported.add(name)
                _LOG.warning("Mask plane %s of an input is not known; it is ignored.", name)
        elif plane := INPUT_PLANES[name]:
            flags[get(name)] |= np.uint32(plane)
    return flags


def combine_planes(
    warped: Sequence[WarpedExposure],
    *,
    x0: int,
    y0: int,
    bad: Plane,
    n_image: np.ndarray,
    n_rejected: np.ndarray,
    cell_size: int,
) -> dict[str, np.ndarray]:
    """Make the mask planes of a result from those of its inputs.

    Parameters
    ----------
    warped
        The inputs on the pixel grid of the patch.
    x0, y0
        Pixel of element [0, 0] of the patch.
    bad
        Planes whose pixels were left out.
    n_image
        Inputs used for each pixel, ``(y, x)``.
    n_rejected
        Inputs clipped at each pixel, ``(y, x)``.
    cell_size
        Side of a cell, in pixels; divides both sides of the patch.

    Returns
    -------
    `dict`
        For each of `OUTPUT_PLANES` a bool array ``(y, x)``.
    """
    height, width = n_image.shape
    union = np.zeros((height, width), np.uint32)
    edge = np.zeros((height, width), bool)
    n_covering, n_saturated, n_left_out = (np.zeros((height, width), np.uint16) for _ in range(3))
    n_cells = (height // cell_size, cell_size, width // cell_size, cell_size)
    n_in_cell = np.zeros((n_cells[0], n_cells[2]), int)
    for one in warped:
        box = one.slices_within(x0=x0, y0=y0, height=height, width=width)
        if box is None:
            continue
        here, there = box
        flags = one.flags[here]
        covering = (flags & np.uint32(Plane.NO_DATA)) == 0
        union[there] |= np.where(covering, flags, 0) | (flags & np.uint32(Plane.DETECTION_EDGE))
        n_covering[there] += covering
        n_saturated[there] += covering & ((flags & np.uint32(Plane.SATURATED)) != 0)
        n_left_out[there] += covering & ((flags & np.uint32(bad & ~_EDGES)) != 0)
        used, frame = (np.zeros((height, width), bool) for _ in range(2))
        used[there] = one.good[here]
        n_in_cell += used.reshape(n_cells).any(axis=(1, 3))
        frame[there] = covering
        edge |= frame & ~scipy.ndimage.binary_erosion(frame, iterations=_EDGE_WIDTH, border_value=1)
    expected = np.repeat(np.repeat(n_in_cell, cell_size, axis=0), cell_size, axis=1)
    planes = {plane.name or "": (union & np.uint32(plane)) != 0 for plane in _PROPAGATED}
    planes["NO_DATA"] = n_image == 0
    planes["SATURATED"] = n_saturated > SATURATED_FRACTION * n_covering
    planes["SENSOR_EDGE"] = edge | ((union & np.uint32(Plane.DETECTION_EDGE)) != 0)
    planes["CLIPPED"] = n_rejected > 0
    planes["REJECTED"] = (n_left_out > 0) | planes["CLIPPED"]
    planes["INEXACT_PSF"] = (n_image < expected) | planes["REJECTED"]
    return planes
