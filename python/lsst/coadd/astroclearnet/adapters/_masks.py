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

__all__ = ("ALWAYS_LEFT_OUT", "FROM_NEIGHBOURS", "INPUT_PLANES", "PlaneTranslator", "parse_input_planes")

import dataclasses
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
        "CLIPPED": Plane.CLIPPED,
        "PARTLY_VIGNETTED": Plane.PARTLY_VIGNETTED,
        "SPIKE": Plane.SPIKE,
        "ITL_DIP": Plane.ITL_DIP,
        "INJECTED": Plane.INJECTED,
        "INJECTED_CORE": Plane.INJECTED_CORE,
        "FAKE": Plane.FAKE,
        # Known, and of no use for a coadd.
        "DETECTED": None,
        "DETECTED_NEGATIVE": None,
        "NOT_DEBLENDED": None,
        "BRIGHT_OBJECT": None,
        "REJECTED": None,
        "SENSOR_EDGE": None,
        "INEXACT_PSF": None,
        "CELL_EDGE": None,
        # Our own: a process that has read one of our coadds as an ExposureF
        # has it in all masks from then on (lsst/afw 714e0ed6d Mask.h:
        # planes are added to one dictionary).
        "ACN_UNTRUSTED": None,
    }
)
"""Planes of an input, as `lsst.afw` and `lsst.images` spell them (the pairs
are those of ``get_legacy_visit_image_mask_planes`` in lsst/images _mask.py),
and what each becomes; `None` is left out silently."""

ALWAYS_LEFT_OUT = Plane.NO_DATA | Plane.UNREPAIRED | Plane.CLIPPED
"""Planes whose pixels hold nothing of the sky, whatever the policy."""

FROM_NEIGHBOURS = Plane.COSMIC_RAY | Plane.INTERPOLATED
"""Planes whose values were replaced by some made from neighbours.

Coadds of the Science Pipelines use them (``badMaskPlanes``: lsst/drp_tasks
dc28b94 assemble_coadd.py:299; lsst/meas_algorithms 4a7591d6 CR.cc:691 sets
``CR`` and ``INTRP`` together)."""


def parse_input_planes(names: Iterable[str]) -> Plane:
    """Combine the names of planes of an input into one set of bits.

    Parameters
    ----------
    names
        Keys of `INPUT_PLANES`: names of either library.

    Returns
    -------
    `Plane`
        The union; empty for no names.

    Raises
    ------
    ValueError
        If a name is not known, or is that of a plane that is not read.
    """
    planes = Plane(0)
    for name in names:
        plane = INPUT_PLANES.get(name)
        if plane is None:
            known = ", ".join(name for name, plane in INPUT_PLANES.items() if plane)
            if name in INPUT_PLANES:
                raise ValueError(f"Mask plane {name!r} says nothing of bad pixels; those that do: {known}.")
            raise ValueError(f"Unknown mask plane {name!r}; known planes: {known}.")
        planes |= plane
    return planes


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlaneTranslator:
    """Translates the masks of input images; what it does not know it names in
    one warning.
    """

    extra_bad: frozenset[str] = frozenset()
    """Planes that `INPUT_PLANES` does not know and whose pixels hold nothing
    of the sky."""

    reported: set[str] = dataclasses.field(default_factory=set, init=False, repr=False, compare=False)
    """Unknown planes that the warning has named."""

    seen: set[str] = dataclasses.field(default_factory=set, init=False, repr=False, compare=False)
    """All planes of the masks that were translated."""

    def __call__(
        self, names: Iterable[str], get: Callable[[str], np.ndarray], *, shape: tuple[int, int]
    ) -> np.ndarray:
        """Translate a mask.

        Parameters
        ----------
        names
            Planes that it defines.
        get
            Returns a plane as a bool array ``(y, x)``.
        shape
            Shape of the image.

        Returns
        -------
        `numpy.ndarray`
            Bits of `Plane`, uint32 ``(y, x)``. A pixel hit by a cosmic ray
            that was not interpolated becomes ``UNREPAIRED`` too, as are those
            of `extra_bad`; other planes that `INPUT_PLANES` does not know are
            left out.
        """
        flags = np.zeros(shape, np.uint32)
        for name in names:
            self.seen.add(name)
            if name in self.extra_bad:
                flags[get(name)] |= np.uint32(Plane.UNREPAIRED)
            elif name not in INPUT_PLANES:
                if name not in self.reported:
                    self.reported.add(name)
                    _LOG.warning("Mask plane %s of an input is not known; it is ignored.", name)
            elif plane := INPUT_PLANES[name]:
                flags[get(name)] |= np.uint32(plane)
        unrepaired = (flags & np.uint32(FROM_NEIGHBOURS)) == np.uint32(Plane.COSMIC_RAY)
        flags[unrepaired] |= np.uint32(Plane.UNREPAIRED)
        return flags

    def find_absent(self) -> list[str]:
        """Return those of `extra_bad` that no mask had, if one was seen."""
        return sorted(self.extra_bad - self.seen) if self.seen else []
