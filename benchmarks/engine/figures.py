# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Figures of a summary, looked up and formatted for tables."""

from __future__ import annotations

__all__ = ("Figures",)

from collections.abc import Callable

import astropy.table
import numpy as np

from .summary import ALL


class Figures:
    """Looks up figures of a summary."""

    def __init__(self, summary: astropy.table.Table):
        columns = (summary[name] for name in ("peer", "plane", "group", "scene", "quantity"))
        keys = zip(*columns, strict=True)
        values = zip(summary["value"], summary["error"], strict=True)
        self._known = {tuple(map(str, key)): value for key, value in zip(keys, values, strict=True)}
        self.planes = [key for key in dict.fromkeys((k[0], k[1]) for k in self._known) if key[1]]
        self._scenes: dict[str, list[str]] = {}
        for key in self._known:
            scenes = self._scenes.setdefault(key[2], [])
            if key[3] not in (ALL, *scenes):
                scenes.append(key[3])

    def scenes(self, group: str) -> list[str]:
        """Return the scenes of a group, in order."""
        return self._scenes.get(group, [])

    def show(
        self,
        peer: str,
        plane: str,
        group: str,
        scene: str,
        quantity: str,
        *,
        scale: float = 1.0,
        digits: int = 2,
    ) -> str:
        """Format one figure with its error; a dash if it is not known."""
        value, error = self._known.get((peer, plane, group, scene, quantity), (np.nan, np.nan))
        if not np.isfinite(value):
            return "-"
        text = f"{scale * value:.{digits}f}"
        return f"{text} +- {scale * error:.{digits}f}" if np.isfinite(error) else text

    def largest(self, group: str, scene: str, quantity: str) -> float:
        """Return the largest value that any plane has of a figure."""
        place = (group, scene, quantity)
        return max((value for key, (value, _) in self._known.items() if key[2:] == place), default=np.nan)

    def tabulate(self, row: Callable[[str, str], list[str]], *, scenes_of: str = "") -> list[list[str]]:
        """Make a row a plane, without those that have nothing to say.

        Parameters
        ----------
        row
            Gives the cells of a peer and a plane.
        scenes_of
            Group whose scenes are counted in the second column; no such
            column if empty.
        """
        rows = []
        for peer, plane in self.planes:
            cells = row(peer, plane)
            if any(cell != "-" for cell in cells):
                count = [self.show(peer, plane, scenes_of, ALL, "scenes", digits=0)] if scenes_of else []
                rows.append([f"{peer} ({plane})", *count, *cells])
        return rows
