# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""The mask planes of inputs, as each library spells them.

Nothing else in the package knows these spellings.
"""

from __future__ import annotations

__all__ = ("INPUT_PLANES", "translate_planes")

import logging
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

import numpy as np

from ..core._planes import Plane

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
