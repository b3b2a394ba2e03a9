# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rows of a run, picked by what they are about."""

from __future__ import annotations

__all__ = ("SECOND_WEIGHTS", "Pool")

from collections import Counter
from collections.abc import Set

import astropy.table
import numpy as np

from . import metrics
from .peers import ENGINE
from .skies import SHAPE_SNR

SECOND_WEIGHTS = "engine, other weights"
"""Name of the engine with the weights of another training seed."""


class Pool:
    """Gives the rows of all realisations of some scenes together.

    Parameters
    ----------
    tables
        Gives a table for a name of `~benchmarks.engine.measure.TABLES`.
    """

    def __init__(self, tables):
        self._tables = tables

    def scenes(self, *groups: str) -> list[str]:
        """Names of the scenes of some groups that were run, in order."""
        rows = self._tables["rows"]
        if not len(rows):
            return []
        chosen = rows[np.isin(rows["group"], groups)]
        return list(dict.fromkeys(str(name) for name in chosen["scene"]))

    def groups(self) -> list[str]:
        """Kinds of scenes that were run, in order."""
        rows = self._tables["rows"]
        return list(dict.fromkeys(str(name) for name in rows["group"])) if len(rows) else []

    def size(self, scene: str) -> int:
        """Side of what is judged of a scene, in pixels."""
        rows = self._tables["rows"]
        return int(rows["size"][rows["scene"] == scene][0])

    def count_observations(self, scene: str, peer: str, plane: str) -> int:
        """How often a scene was observed for a plane of a peer."""
        rows = self._pick("rows", peer, plane, scene=(scene,))
        return len(np.unique(rows["realisation"])) if len(rows) else 0

    def shared(self) -> Pool:
        """Keep the observations of fields that the most peers share.

        Returns
        -------
        `Pool`
            Figures and sources of the largest set of peers that have an
            image of the same observations, and of these observations alone:
            in a whole run, of all peers. Other versions of the engine are
            left out.
        """
        rows = self._tables["rows"]
        if not len(rows):
            return self
        fields = rows[(rows["group"] == "field") & (rows["plane"] != "")]
        peers: dict[tuple[str, int], set[str]] = {}
        for peer, scene, realisation in fields["peer", "scene", "realisation"].iterrows():
            if peer == ENGINE or not peer.startswith(ENGINE):
                peers.setdefault((scene, realisation), set()).add(peer)
        sets = Counter(frozenset(names) for names in peers.values())
        if not sets:
            return Pool({name: self._tables[name][:0] for name in ("rows", "sources")})
        names = max(sets, key=lambda names: (len(names), sets[names]))
        chosen = {observation for observation, found in peers.items() if found == names}
        return Pool({name: _choose(self._tables[name], chosen, names) for name in ("rows", "sources")})

    def rows(self) -> astropy.table.Table:
        """All figures of images, and costs."""
        return self._tables["rows"]

    def planes(self) -> list[tuple[str, str]]:
        """Peers and their planes, in order; the plane is empty for what is
        measured of a peer as a whole.
        """
        rows = self._tables["rows"]
        if not len(rows):
            return []
        return list(dict.fromkeys((str(peer), str(plane)) for peer, plane in rows["peer", "plane"]))

    @staticmethod
    def cut(sources: astropy.table.Table, snr: tuple[float, float]) -> astropy.table.Table:
        """Cut a range of S/N out of some sources."""
        return sources[(sources["snr"] >= snr[0]) & (sources["snr"] < snr[1])]

    def sources(
        self,
        peer: str,
        plane: str,
        *,
        kind: str = "any",
        snr: tuple[float, float] = (0.0, np.inf),
        n: tuple[int, int] = (0, 10**6),
        group: tuple[str, ...] = (),
        scene: tuple[str, ...] = (),
        usable: bool = True,
    ) -> astropy.table.Table:
        """Pick sources.

        Parameters
        ----------
        peer, plane
            Whose image.
        kind
            One of `~benchmarks.engine.metrics.KINDS`.
        snr
            Lower <= S/N < upper.
        n
            Least and largest number of exposures.
        group, scene
            Kinds or names of scenes; empty for all.
        usable
            Whether to leave out sources that have neighbours.

        Returns
        -------
        `astropy.table.Table`
            In the order of the run; rows with the same ``object`` are the
            same source, observed again.
        """
        table = self._pick("sources", peer, plane, group=group, scene=scene)
        if not len(table):
            names = ("snr", "aperture_error", "psf_error", "aperture_sigmas", "psf_pull", "psf_noise")
            names += ("pixel_pull", "aperture_pull", "aperture_pixel_pull")
            names += ("fwhm", "dx", "dy", "fwhm_ratio", "lumps", "ring_height", "ring_depth")
            names += ("ellipticity_error", "rounding", "object")
            return astropy.table.Table({name: np.zeros(0) for name in names})
        chosen = (table["snr"] >= snr[0]) & (table["snr"] < snr[1])
        chosen &= (table["n"] >= n[0]) & (table["n"] <= n[1])
        if kind == "galaxy":
            chosen &= table["kind"] != "star"
        elif kind != "any":
            chosen &= table["kind"] == kind
        if usable:
            chosen &= table["usable"]
        return _name_objects(table[chosen])

    def figures(
        self, peer: str, plane: str, metric: str, *, group: tuple[str, ...] = (), scene: tuple[str, ...] = ()
    ) -> np.ndarray:
        """Values of one metric, one a realisation, without those missing."""
        table = self._pick("rows", peer, plane, group=group, scene=scene)
        if not len(table):
            return np.zeros(0)
        values = np.array(table["value"][table["metric"] == metric], dtype=float)
        return values[np.isfinite(values)]

    def pairs(self, peer: str, plane: str, separation: float) -> astropy.table.Table:
        """Pairs of a separation in arcsec; the same ``pair`` is observed again
        and again.
        """
        table = self._pick("pairs", peer, plane)
        if not len(table):
            return astropy.table.Table(
                {"resolved": np.zeros(0, dtype=bool), "mag": np.zeros(0), "pair": np.zeros(0, dtype=int)}
            )
        return table[np.abs(table["separation"] - separation) < 0.02]

    def stamps(self, peer: str, plane: str) -> astropy.table.Table:
        """Odd galaxies, with ``rank``: which of the S/N of the scene. Of a
        shape and a rank there is one, observed again and again.
        """
        table = self._pick("stamps", peer, plane)
        if len(table):
            table["rank"] = np.arange(len(table)) % len(SHAPE_SNR)
        return table

    def searched_area(self, peer: str, plane: str, scene: str) -> float:
        """Area of all observations of a scene in which peaks are looked for,
        in square arcmin.
        """
        return self.count_observations(scene, peer, plane) * metrics.searched_area(self.size(scene))

    def completeness(
        self, peer: str, plane: str, scene: str, *, false_rate: float = 0.0
    ) -> metrics.Detection | None:
        """Completeness on all observations of a scene together.

        Parameters
        ----------
        peer, plane, scene
            Whose image of what.
        false_rate
            False detections per square arcmin that are accepted.

        Returns
        -------
        `~benchmarks.engine.metrics.Detection` or `None`
            `None` if it was not run.
        """
        peaks = self._pick("peaks", peer, plane, scene=(scene,))
        sources = self._pick("sources", peer, plane, scene=(scene,))
        if not len(peaks) or not len(sources):
            return None
        pairs = []
        for realisation in np.unique(sources["realisation"]):
            known = _name_objects(sources[sources["realisation"] == realisation])
            found = peaks[peaks["realisation"] == realisation]
            row_of = np.full(int(max(known["source"].max(), found["source"].max())) + 2, -1)
            row_of[known["source"]] = np.arange(len(known))
            # Sources beyond the border were not kept.
            found["source"] = np.where(found["source"] >= 0, row_of[found["source"]], -1)
            pairs.append((found, known))
        area = len(pairs) * metrics.searched_area(self.size(scene))
        return metrics.completeness(*zip(*pairs, strict=True), area=area, false_rate=false_rate)

    def _pick(
        self,
        name: str,
        peer: str,
        plane: str,
        *,
        group: tuple[str, ...] = (),
        scene: tuple[str, ...] = (),
    ) -> astropy.table.Table:
        table = self._tables[name]
        if not len(table):
            return table
        chosen = (table["peer"] == peer) & (table["plane"] == plane)
        if group:
            chosen &= np.isin(table["group"], group)
        if scene:
            chosen &= np.isin(table["scene"], scene)
        return table[chosen]


def _name_objects(sources: astropy.table.Table) -> astropy.table.Table:
    """Add ``object``: one name for all observations of a source."""
    scene, source = np.array(sources["scene"], dtype=str), np.array(sources["source"], dtype=str)
    sources["object"] = np.char.add(np.char.add(scene, " "), source)
    return sources


def _choose(
    table: astropy.table.Table, observations: Set[tuple[str, int]], peers: Set[str]
) -> astropy.table.Table:
    """Keep the rows of some observations, by scene and realisation, and
    peers.
    """
    if not len(table):
        return table
    places = table["scene", "realisation", "peer"].iterrows()
    return table[[(scene, number) in observations and peer in peers for scene, number, peer in places]]
