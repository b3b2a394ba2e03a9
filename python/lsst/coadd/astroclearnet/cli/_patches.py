# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""What became of the patches of a run that have no comparison."""

from __future__ import annotations

__all__ = ("Lack", "count_patches", "find_lacks", "is_within")

import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ._butler import find_datasets

if TYPE_CHECKING:
    from lsst.daf.butler import Butler, DatasetRef

_Tract = tuple[str, int, str]
"""Sky map, tract and band."""

_ASSEMBLE, _COMPARE = "assembleAcnCoadd", "compareAcnCoadd"
"""Labels of the tasks in all pipelines of this package."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lack:
    """Patches of one tract and band that have no comparison."""

    skymap: str
    tract: int
    band: str
    patches: tuple[int, ...]
    """Their numbers, ascending."""

    reason: str
    """Why they have none."""

    @property
    def label(self) -> str:
        """Data id, as a user writes it."""
        return f"skymap={self.skymap}, tract={self.tract}, band={self.band}"

    @property
    def numbers(self) -> str:
        """The patches as text, e.g. ``3, 7-9``."""
        runs = itertools.groupby(enumerate(self.patches), key=lambda item: item[1] - item[0])
        ends = [[patch for _, patch in members] for _, members in runs]
        return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in ends)


def is_within(run: str, collections: Sequence[str]) -> bool:
    """Return whether a run is one of the collections, or was made for one,
    rather than being among their inputs.
    """
    return any(f"{run}/".startswith(f"{name}/") for name in collections)


def count_patches(refs: Iterable[DatasetRef]) -> Counter[_Tract]:
    """Return the number of patches by tract and band."""
    return Counter(_place(ref)[0] for ref in refs)


def find_lacks(
    butler: Butler, metrics: Sequence[DatasetRef], coadd_name: str, collections: Sequence[str], where: str
) -> list[Lack]:
    """Say which patches have no comparison, and why.

    Parameters
    ----------
    butler
        The repository.
    metrics
        The comparisons that there are.
    coadd_name
        The coadds are called ``NAME_coadd``.
    collections
        Where to look; what was among the inputs of a run does not count.
    where
        Which patches.

    Returns
    -------
    `list` [`Lack`]
        By tract, band and reason. Patches that left nothing at all, not even
        a log, are told only where most of their tract has run: they may not
        have been meant to.
    """

    def find(name: str) -> set[tuple[_Tract, int]]:
        refs = find_datasets(butler, name, collections, where)
        return {_place(ref) for ref in refs if is_within(ref.run, collections)}

    compared = {_place(ref) for ref in metrics}
    # A task that fails leaves its log, but no metadata; one that is killed
    # leaves neither.
    begun, ended = find(f"{_ASSEMBLE}_log"), find(f"{_ASSEMBLE}_metadata")
    coadds, judged = find(f"{coadd_name}_coadd"), find(f"{_COMPARE}_metadata")
    broken = find(f"{_COMPARE}_log") - judged
    states = {
        f"{_COMPARE} failed": broken,
        f"{_ASSEMBLE} failed": begun - ended,
        f"{_ASSEMBLE} was stopped": coadds - ended,
        f"{_ASSEMBLE} had nothing to do": ended - coadds,
        f"{_COMPARE} had nothing to do": judged,
        "coadd made, but not compared": coadds,
    }
    reasons: dict[tuple[_Tract, int], str] = {}
    for reason, places in states.items():
        reasons |= {place: reason for place in places - compared - reasons.keys()}
    for place in _find_untouched(butler, compared | set(reasons)) if not where else ():
        reasons[place] = "nothing there: not run, stopped, or too few exposures"
    grouped: dict[tuple[_Tract, str], list[int]] = {}
    for (tract, patch), reason in sorted(reasons.items()):
        grouped.setdefault((tract, reason), []).append(patch)
    return [
        Lack(skymap=skymap, tract=tract, band=band, reason=reason, patches=tuple(patches))
        for ((skymap, tract, band), reason), patches in sorted(grouped.items())
    ]


def _place(ref: DatasetRef) -> tuple[_Tract, int]:
    data_id = ref.dataId
    tract = str(data_id["skymap"]), int(data_id["tract"]), str(data_id["band"])
    return tract, int(data_id.mapping.get("patch", -1))


def _find_untouched(butler: Butler, known: set[tuple[_Tract, int]]) -> set[tuple[_Tract, int]]:
    """Return patches of which nothing is known, of tracts of which most is."""
    untouched: set[tuple[_Tract, int]] = set()
    for tract, n_known in Counter(tract for tract, _ in known).items():
        records = butler.query_dimension_records("patch", skymap=tract[0], tract=tract[1], explain=False)
        if 2 * n_known > len(records):
            untouched |= {(tract, int(record.id)) for record in records} - known
    return untouched
