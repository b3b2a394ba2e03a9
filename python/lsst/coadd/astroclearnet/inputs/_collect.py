# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Put together what belongs to each input of a quantum."""

from __future__ import annotations

__all__ = ("collect_inputs", "read_geometry")

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from lsst.pipe.base import QuantumContext

from .._assemble_config import AssembleAcnCoaddConfig
from .._errors import is_shortage
from ..adapters import InputExtras, PatchGeometry, StatisticTypeError
from ._input import CoaddInput
from ._select import wanted_statistics

_LOG = logging.getLogger(__name__)

_BACKGROUNDS = {
    "background_reverts": ("background_revert", "revert_background"),
    "background_applies": ("background_apply", "apply_background"),
    "background_ratios": ("background_ratio", "apply_background_ratio"),
}
"""Field of `InputExtras` and field of the configuration, by connection."""


def collect_inputs(context: QuantumContext, refs: Any, config: AssembleAcnCoaddConfig) -> list[CoaddInput]:
    """Return the inputs of a quantum; their pixels are not read.

    Parameters
    ----------
    context
        The quantum's Butler.
    refs
        Its inputs, by the names of `AssembleAcnCoaddConnections`.
    config
        Configuration of the task.

    Returns
    -------
    `list` [`CoaddInput`]
        One for each exposure or warp. Visit summaries are read one at a time
        and only the rows of these detectors are kept.
    """
    main = refs.calexps if config.inputs == "visits" else refs.warps
    handles = dict(zip((_key(ref) for ref in main), context.get(main), strict=True))
    data_ids = {_key(ref): dict(ref.dataId.mapping) for ref in main}
    selected = _read_selected_visits(context, refs) if config.use_selected_visits else None
    masks = _find(context, refs, "artifact_masks") if config.use_artifact_masks else {}
    backgrounds = {name: _find(context, refs, name) for name in _BACKGROUNDS if hasattr(refs, name)}
    summaries, broken = {}, {}
    if config.use_visit_summary:
        summaries, broken = _read_summaries(context, refs, data_ids.values(), config)
    if config.inputs == "warps":
        # No fault of the warp, which was selected when it was made.
        for (_, number), text in broken.items():
            _LOG.warning("visit=%s %s; of its means nothing is known.", number, text)
    inputs = []
    for key, handle in handles.items():
        data_id, visit = data_ids[key], key[:2]
        rows, detector = summaries.get(visit, {}), data_id.get("detector")
        row = None if detector is None else rows.get(detector)
        skip = fault = ""
        if selected is not None and visit not in selected:
            skip = "its visit is not among the selected visits"
        elif config.use_artifact_masks and config.require_artifact_masks and visit not in masks:
            skip = "its visit has no artifact mask"
        elif config.use_visit_summary and config.inputs == "visits" and visit not in summaries:
            fault = broken.get(visit) or _lacks(config, "visit_summaries", "use_visit_summary")
        elif config.use_visit_summary and config.inputs == "visits" and row is None:
            skip = "has no row in its visit summary"
        for name, found in backgrounds.items():
            if key not in found:
                fault = fault or _lacks(config, name, _BACKGROUNDS[name][1])
        extras = InputExtras(
            visit_summary_row=row,
            **{_BACKGROUNDS[name][0]: found.get(key) for name, found in backgrounds.items()},
        )
        inputs.append(
            CoaddInput(
                exposure_or_handle=handle,
                data_id=data_id,
                extras=extras,
                visit_statistics=rows.get(None),
                artifact_mask=masks.get(visit),
                skip=skip,
                fault=fault,
            )
        )
    return inputs


def _lacks(config: AssembleAcnCoaddConfig, connection: str, field: str) -> str:
    """Say which dataset an input lacks, and what to do."""
    return f"has no {getattr(config.connections, connection)}; make it or unset {field}"


def _key(ref: Any) -> tuple[Any, ...]:
    """Return instrument, visit and, where it has one, detector."""
    data_id = ref.dataId.mapping
    return tuple(data_id[name] for name in ("instrument", "visit", "detector") if name in data_id)


def _find(context: QuantumContext, refs: Any, name: str) -> dict[tuple[Any, ...], Any]:
    """Return the handles of a connection by instrument, visit, detector."""
    found = getattr(refs, name)
    return dict(zip((_key(ref) for ref in found), context.get(found), strict=True))


def _read_selected_visits(context: QuantumContext, refs: Any) -> set[tuple[str, int]]:
    """Return instrument and visit of all keys.

    ``filterWarps`` reads them alike (lsst/drp_tasks dc28b94
    assemble_coadd.py:1242-1265); a file of JSON or YAML may hold keys as text.
    """
    contents = zip(refs.selected_visits, context.get(refs.selected_visits), strict=True)
    return {(ref.dataId["instrument"], int(visit)) for ref, content in contents for visit in content}


def _read_summaries(
    context: QuantumContext, refs: Any, data_ids: Iterable[Mapping[str, Any]], config: AssembleAcnCoaddConfig
) -> tuple[dict[tuple[str, int], dict[int | None, Any]], dict[tuple[str, int], str]]:
    """Return, by visit, the rows of its detectors that are wanted, and under
    `None` the means over them all; and what is wrong with the other visits.

    Rows are found as in lsst/drp_tasks dc28b94 make_direct_warp.py:802.
    """
    from ..adapters._afw_summary import visit_statistics

    names = wanted_statistics(config.select)
    wanted: dict[tuple[str, int], set[int]] = {}
    for data_id in data_ids:
        detectors = wanted.setdefault((data_id["instrument"], data_id["visit"]), set())
        detectors.update([data_id["detector"]] if "detector" in data_id else [])
    summaries, broken = {}, {}
    for ref, handle in zip(refs.visit_summaries, context.get(refs.visit_summaries), strict=True):
        visit = _key(ref)
        try:
            catalog = handle.get()
            rows = {detector: catalog.find(detector) for detector in wanted.get(visit, ())}
            summaries[visit] = {None: visit_statistics(catalog, names), **rows}
        except StatisticTypeError:
            raise
        except Exception as error:
            if is_shortage(error):
                raise
            # One table that cannot be read costs its visit, not the patch.
            text = " ".join(f"{type(error).__name__}: {error}".split())
            broken[visit] = (
                f"has a {config.connections.visit_summaries} that cannot be read ({text}); make it anew"
            )
    return summaries, broken


def read_geometry(context: QuantumContext, refs: Any, *, image_model: str) -> PatchGeometry:
    """Read where the patch of a quantum lies.

    Parameters
    ----------
    context
        The quantum's Butler.
    refs
        Its inputs: ``sky_map`` in the full stack, ``geometry`` elsewhere.
    image_model
        ``afw`` or ``images``.
    """
    data_id = context.quantum.dataId
    place = dict(tract=data_id["tract"], patch=data_id["patch"])
    if image_model == "afw":
        return PatchGeometry.from_sky_map(context.get(refs.sky_map), skymap=data_id["skymap"], **place)
    return PatchGeometry.from_dict(context.get(refs.geometry), **place)
