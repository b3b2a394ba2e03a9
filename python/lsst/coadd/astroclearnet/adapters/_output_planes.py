# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""The mask planes of results: what each means, and where it is set.

Names and meanings are those of the stack's coadds, so that tasks that flag
or mask by them do the same here. Planes that the table of ``lsst.images`` for
deep coadds does not name keep their name in an ``ExposureF``
(``Mask.to_legacy`` in lsst/images _mask.py); UNMASKED_NAN, too, which the
masks of the stack have as UNMASKEDNAN.
"""

from __future__ import annotations

__all__ = ("OUTPUT_PLANES", "UNTRUSTED", "combine_planes")

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import scipy.ndimage

from lsst.images import MaskPlane

from ..core._planes import Plane
from ..core.warp._register import WarpedExposure

UNTRUSTED = "ACN_UNTRUSTED"
"""Plane of pixels whose latent must not be used."""

SATURATED_FRACTION = 0.1
"""Part of the weight that saturation has taken away above which a pixel
counts as saturated (``maskPropagationThresholds`` in lsst/drp_tasks
assemble_coadd.py:238-248)."""

_PROPAGATED = MappingProxyType(
    {
        # Let in by masks: where clipping then left it out CLIPPED says. None
        # is set where no input is left.
        Plane.BAD: "At least one input used here has a defective pixel.",
        Plane.SUSPECT: "At least one input used here is near saturation.",
        Plane.COSMIC_RAY: "A cosmic ray hit at least one input used here.",
        Plane.INTERPOLATED: "At least one input used here has a value made from neighbours; "
        "with NO_DATA, no input was used and the result itself is made so.",
        Plane.CROSSTALK: "At least one input used here is affected by another amplifier.",
        Plane.STREAK: "A satellite or aeroplane trail crosses at least one input used here.",
        Plane.UNMASKED_NAN: "At least one input used here was NaN for no known reason.",
        Plane.VIGNETTED: "At least one input used here is shadowed by the optics.",
        Plane.PARTLY_VIGNETTED: "At least one input used here is partly shadowed by the optics.",
        Plane.SPIKE: "A diffraction spike is near in at least one input used here.",
        Plane.ITL_DIP: "A dark vertical trail from a bright source, on an ITL CCD, affects at least one "
        "input used here.",
        Plane.INJECTED: "A synthetic source that was injected affects at least one input used here.",
        Plane.INJECTED_CORE: "In the core of a synthetic source that was injected into at least one input "
        "used here.",
        Plane.FAKE: "A synthetic source that insertFakes added affects at least one input used here.",
    }
)

OUTPUT_PLANES: tuple[MaskPlane, ...] = (
    MaskPlane(
        "NO_DATA",
        "No input was used, or the fit of the cell failed; the variance is a fill value. The value is 0, or "
        "in small holes, where INTERPOLATED is set too, what the latent has there.",
    ),
    MaskPlane(
        "SATURATED",
        "More than 10 % of the weight of this pixel was lost to saturation, or saturated values were used "
        "here, as happens where the field bad_planes of the configuration does not leave them out.",
    ),
    MaskPlane("SENSOR_EDGE", "At least one input frame ends within a few pixels."),
    MaskPlane("CLIPPED", "At least one input disagreed with the others and was left out. Implies REJECTED."),
    MaskPlane(
        "REJECTED",
        "At least one input covers the pixel and was left out for its mask or by clipping. "
        "Implies INEXACT_PSF.",
    ),
    MaskPlane(
        "INEXACT_PSF",
        "Not every input of the cell was used here, or one ends nearby.",
    ),
    MaskPlane(
        UNTRUSTED,
        "The latent image must not be used here: saturated or in the halo of saturation, fewer inputs than "
        "the limit or within 5 pixels of where there are none (small holes left aside), in a cell whose fit "
        "did not converge or was too short to tell, at odds with the exposures, or where these are too sharp "
        "or too broad for their pixels. The limits are the fields 'trust' of the configuration; the "
        "metadata say what each has flagged.",
    ),
    MaskPlane(
        "BRIGHT_OBJECT",
        "In a region around a bright object. Left to other tasks: it is here because those that flag by it "
        "(obs_subaru config/measureCoaddSources.py) stop where there is no such plane.",
    ),
    *(MaskPlane(plane.name or "", text) for plane, text in _PROPAGATED.items()),
)
"""Planes of every `CellCoadd` that this package writes, with definitions.

CLIPPED implies REJECTED, as in lsst/images _mask.py; the older
lsst/pipe_tasks coaddBase.py:330-358 keeps them apart. DETECTED is left to
detection."""

_EDGES = Plane.NO_DATA | Plane.DETECTION_EDGE
_EDGE_WIDTH = 3  # pixels inside the end of a frame that are marked


def combine_planes(
    warped: Sequence[WarpedExposure],
    *,
    x0: int,
    y0: int,
    bad: Plane,
    n_image: np.ndarray,
    n_rejected: np.ndarray,
    filled: np.ndarray,
    cell_size: int,
    labels: Mapping[tuple[int, int], Collection[str]] = MappingProxyType({}),
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
    filled
        Holes that have a value all the same, bool ``(y, x)``.
    cell_size
        Side of a cell, in pixels; divides both sides of the patch.
    labels
        Inputs that the fit of a cell was given, by row and column of the cell:
        what is said of others is not passed on there. In a cell that is not
        among them all count.

    Returns
    -------
    `dict`
        For each of `OUTPUT_PLANES` but `UNTRUSTED` and ``BRIGHT_OBJECT`` a
        bool array ``(y, x)``.

    Notes
    -----
    Planes of the inputs are propagated as ``statisticsStack`` does it
    (lsst/afw 714e0ed6d Statistics.cc:215-276, Stack.cc:150-171): the union
    over the pixels let in, and SATURATED by the weight that was lost;
    REJECTED and SENSOR_EDGE as ``setRejectedMaskMapping`` (lsst/pipe_tasks
    coaddBase.py:330-358), INEXACT_PSF as ``setInexactPsf`` (lsst/drp_tasks
    assemble_coadd.py:1221-1240) and where fewer inputs than in the rest of
    the cell were used. As in the stack, a pixel that was left out for its mask
    was so whether or not it has a value or a variance besides.
    """
    height, width = n_image.shape
    used_flags = np.zeros((height, width), np.uint32)
    edge, left_out, clipped = (np.zeros((height, width), bool) for _ in range(3))
    weight_used, weight_saturated = (np.zeros((height, width), np.float32) for _ in range(2))
    n_cells = (height // cell_size, cell_size, width // cell_size, cell_size)
    n_in_cell = np.zeros((n_cells[0], n_cells[2]), int)
    for one in warped:
        box = one.slices_within(x0=x0, y0=y0, height=height, width=width)
        if box is None:
            continue
        here, there = box
        flags = one.flags[here]
        used = np.zeros((height, width), bool)
        used[there] = one.good[here]
        in_cell = used.reshape(n_cells).any(axis=(1, 3))
        refused = in_cell & _find_refused(one.label, labels, shape=in_cell.shape)
        n_in_cell += in_cell & ~refused
        allowed = ~_spread(refused, cell_size)
        frame = ((flags & np.uint32(Plane.NO_DATA)) == 0) | _find_masked(flags, bad)
        edge[there] |= _find_end(frame, within=there, shape=edge.shape) & allowed[there]
        flags = np.where(allowed[there], flags, np.uint32(0))
        good = one.good[here] & allowed[there]
        weight = np.float32(_typical_weight(one))
        used_flags[there] |= np.where(good, flags, 0)
        weight_used[there] += weight * good
        weight_saturated[there] += weight * (~good & ((flags & np.uint32(Plane.SATURATED & bad)) != 0))
        left_out[there] |= _find_masked(flags, bad)
        clipped[there] |= (flags & np.uint32(Plane.CLIPPED)) != 0
        edge[there] |= (flags & np.uint32(Plane.DETECTION_EDGE)) != 0
    # Of a pixel that clipping or a failed cell has left without any input the
    # planes of those let in say nothing.
    used_flags[n_image == 0] = 0
    planes = {plane.name or "": (used_flags & np.uint32(plane)) != 0 for plane in _PROPAGATED}
    planes["NO_DATA"] = n_image == 0
    planes["INTERPOLATED"] |= filled
    planes["SATURATED"] = weight_saturated > SATURATED_FRACTION * (weight_used + weight_saturated)
    planes["SATURATED"] |= (used_flags & np.uint32(Plane.SATURATED)) != 0
    planes["SENSOR_EDGE"] = edge
    planes["CLIPPED"] = (n_rejected > 0) | clipped
    planes["REJECTED"] = left_out | planes["CLIPPED"]
    fewer = n_image < _spread(n_in_cell, cell_size)
    planes["INEXACT_PSF"] = fewer | planes["REJECTED"] | planes["SENSOR_EDGE"]
    return planes


def _find_refused(
    label: str, labels: Mapping[tuple[int, int], Collection[str]], *, shape: tuple[int, int]
) -> np.ndarray:
    """Find the cells whose fit was not given an input, bool of the shape."""
    refused = np.zeros(shape, bool)
    for cell, names in labels.items():
        refused[cell] = label not in names
    return refused


def _spread(cells: np.ndarray, cell_size: int) -> np.ndarray:
    """Give every pixel ``(y, x)`` the value of its cell."""
    return np.repeat(np.repeat(cells, cell_size, axis=0), cell_size, axis=1)


def _find_masked(flags: np.ndarray, bad: Plane) -> np.ndarray:
    """Find the pixels of a frame that were left out for their mask, bool."""
    return (flags & np.uint32(bad & ~_EDGES)) != 0


def _find_end(frame: np.ndarray, *, within: tuple[slice, slice], shape: tuple[int, int]) -> np.ndarray:
    """Find the pixels along the end of a frame, bool ``(y, x)``, that lies
    within a patch: where the patch ends, the frame does not.
    """
    beyond = [(int(part.start > 0), int(part.stop < size)) for part, size in zip(within, shape, strict=True)]
    frame = _fill_holes(np.pad(frame, beyond))
    end = frame & ~scipy.ndimage.binary_erosion(frame, iterations=_EDGE_WIDTH, border_value=1)
    return end[tuple(slice(low, size - high) for (low, high), size in zip(beyond, end.shape, strict=True))]


def _fill_holes(frame: np.ndarray) -> np.ndarray:
    """Fill what lies within a frame: pixels without data are not its end."""
    outside, count = scipy.ndimage.label(~frame)
    is_hole = np.ones(count + 1, bool)
    for side in (outside[0], outside[-1], outside[:, 0], outside[:, -1]):
        is_hole[side] = False
    is_hole[0] = True  # the frame itself
    return is_hole[outside]


def _typical_weight(one: WarpedExposure) -> float:
    """Return 1 / variance of an exposure, from a sample of its pixels."""
    sample = np.s_[::8, ::8]
    good = one.good[sample]
    variance = one.variance[sample][good] if good.any() else one.variance[one.good]
    return float(1 / np.median(variance)) if variance.size else 0.0
