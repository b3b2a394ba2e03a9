# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which input gave what to which cell."""

from __future__ import annotations

__all__ = ("ProvenanceRecorder",)

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import galsim
import numpy as np
import shapely

from lsst.images import Box, Polygon
from lsst.images.cells import CoaddProvenance

from ..core._stack import CellStack
from ..core.warp._register import WarpedExposure
from ._geometry import PatchGeometry


class ProvenanceRecorder:
    """Collect, cell by cell, what `~lsst.images.cells.CoaddProvenance` keeps.

    Parameters
    ----------
    warped
        The inputs on the pixel grid of the patch.
    geometry
        The patch.
    instrument
        Name of the instrument.
    day_obs
        Night of each visit, an integer such as 20250131.
    """

    def __init__(
        self,
        warped: Sequence[WarpedExposure],
        *,
        geometry: PatchGeometry,
        instrument: str,
        day_obs: Mapping[int, int],
    ):
        self._warped = {one.label: one for one in warped}
        self._outlines = {one.label: shapely.Polygon(one.outline) for one in warped}
        self._bbox = geometry.outer_bbox
        self._instrument = instrument
        self._day_obs = day_obs
        self._rows: list[dict[str, Any]] = []

    def record(self, stack: CellStack, *, i: int, j: int, cell: Box) -> None:
        """Record one cell.

        Parameters
        ----------
        stack
            What the fit of the cell gets; its halo is the same on all sides.
        i, j
            Row and column of the cell.
        cell
            Pixels of the cell, without halo.
        """
        halo = (stack.image.shape[1] - cell.y.size) // 2
        inner = slice(halo, halo + cell.y.size), slice(halo, halo + cell.x.size)
        region = shapely.box(cell.x.min - 0.5, cell.y.min - 0.5, cell.x.max + 0.5, cell.y.max + 0.5)
        for n, label in enumerate(stack.labels):
            good = stack.good[n][inner]
            if not good.any():
                continue
            outline = self._outlines[label]
            moments = _second_moments(stack.psf[n])
            self._rows.append(
                {
                    "label": label,
                    "cell_i": i,
                    "cell_j": j,
                    "overlaps_center": outline.contains(region.centroid),
                    "overlap_fraction": outline.intersection(region).area / region.area,
                    "unmasked_fraction": good.mean(),
                    "weight": 1 / np.median(stack.variance[n][inner][good]),
                    "psf_shape_xx": moments[0] if moments else np.nan,
                    "psf_shape_yy": moments[1] if moments else np.nan,
                    "psf_shape_xy": moments[2] if moments else np.nan,
                    "psf_shape_flag": moments is None,
                }
            )

    def finish(self, *, noise_scale: Mapping[str, float] = MappingProxyType({})) -> CoaddProvenance | None:
        """Make the tables; `None` if no input was used.

        Parameters
        ----------
        noise_scale
            What the fit has multiplied the variances of an input by, mean over
            its cells; 1 for those that are not there. Weights are less by it,
            as they were in the fit.
        """
        used = sorted({row["label"] for row in self._rows}, key=list(self._warped).index)
        if not used:
            return None
        inputs = CoaddProvenance.make_empty_input_table(len(used))
        for n, label in enumerate(used):
            self._fill_identity(inputs, n, label)
            one = self._warped[label]
            inputs["physical_filter"][n] = one.physical_filter
            inputs["day_obs"][n] = self._day_obs[one.visit]
            inputs["polygon"][n] = self._overlap(label)
        contributions = CoaddProvenance.make_empty_contribution_table(len(self._rows))
        for n, row in enumerate(self._rows):
            self._fill_identity(contributions, n, row["label"])
            for name, value in row.items():
                if name != "label":
                    contributions[name][n] = value
            contributions["weight"][n] /= noise_scale.get(row["label"], 1.0)
        return CoaddProvenance(inputs, contributions)

    def _fill_identity(self, table: Any, n: int, label: str) -> None:
        table["instrument"][n] = self._instrument
        table["visit"][n] = self._warped[label].visit
        table["detector"][n] = self._warped[label].detector

    def _overlap(self, label: str) -> Polygon:
        """Return the part of the patch inside a frame, in patch pixels."""
        patch = shapely.box(
            self._bbox.x.min - 0.5, self._bbox.y.min - 0.5, self._bbox.x.max + 0.5, self._bbox.y.max + 0.5
        )
        # The hull drops slivers and collinear points; frames are convex.
        hull = self._outlines[label].intersection(patch).convex_hull
        if hull.geom_type != "Polygon":  # they share a side or a corner at most
            hull = patch
        x, y = np.array(hull.exterior.coords)[:-1].T
        return Polygon(x_vertices=x, y_vertices=y)


def _second_moments(kernel: np.ndarray) -> tuple[float, float, float] | None:
    """Return adaptive moments xx, yy, xy of a kernel; `None` if they do not
    converge.
    """
    shape = galsim.hsm.FindAdaptiveMom(galsim.Image(kernel.astype(float)), strict=False)
    if shape.moments_status != 0:
        return None
    e1, e2 = shape.observed_shape.e1, shape.observed_shape.e2
    # moments_sigma is the fourth root of the determinant of the moments.
    half_trace = shape.moments_sigma**2 / np.sqrt(1 - e1**2 - e2**2)
    return half_trace * (1 + e1), half_trace * (1 - e1), half_trace * e2
