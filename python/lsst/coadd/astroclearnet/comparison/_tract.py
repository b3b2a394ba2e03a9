# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Metrics of the patches of a tract, gathered and drawn."""

from __future__ import annotations

__all__ = ("describe_patches", "make_tract_figure", "stack_patches", "summarize_patches")

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from astropy.table import Table, vstack
from matplotlib.figure import Figure

from ._rows import PER_EXPOSURE
from .pictures._style import COLOURS, MARKERS, choose_places


def stack_patches(metrics: Mapping[int, Table]) -> Table:
    """Stack tables of metrics.

    Parameters
    ----------
    metrics
        By patch.

    Returns
    -------
    `astropy.table.Table`
        All rows in order of the patches, with ``patch`` as first column.
    """
    tables = []
    for patch in sorted(metrics):
        table = metrics[patch].copy()
        table.add_column(np.full(len(table), patch, dtype=np.int64), name="patch", index=0)
        tables.append(table)
    return vstack(tables, metadata_conflicts="silent")


def describe_patches(metrics: Mapping[int, Table]) -> list[str]:
    """Write lines about how the planes of the patches were made.

    Parameters
    ----------
    metrics
        By patch, with ``configuration`` in their ``meta`` if it is known.

    Returns
    -------
    `list` [`str`]
        Each different one once; with the number of patches if not all are of
        it.
    """
    how = Counter(line for table in metrics.values() for line in table.meta.get("configuration", ()))
    return [
        line if n == len(metrics) else f"{line} ({n} of {len(metrics)} patches)" for line, n in how.items()
    ]


def summarize_patches(table: Table) -> Table:
    """Say how each metric is distributed over the patches.

    Parameters
    ----------
    table
        As of `stack_patches`.

    Returns
    -------
    `astropy.table.Table`
        One row a metric and plane that has a value somewhere.
    """
    rows = []
    names, planes = (np.asarray(table[name]).astype(str) for name in ("name", "plane"))
    values = np.asarray(table["value"], dtype=float)
    for name, plane in dict.fromkeys(zip(names.tolist(), planes.tolist(), strict=True)):
        chosen = np.flatnonzero((names == name) & (planes == plane) & np.isfinite(values))
        if name.startswith(PER_EXPOSURE) or not len(chosen):
            continue
        low, middle, high = np.percentile(values[chosen], (15.865, 50, 84.135))
        least, most = (chosen[pick(values[chosen])] for pick in (np.argmin, np.argmax))
        rows.append(
            (
                *(name, plane, middle, (high - low) / 2, values[least], values[most]),
                *(str(table["unit"][least]), len(chosen)),
                *(int(table["patch"][least]), int(table["patch"][most]), str(table["definition"][least])),
            )
        )
    columns = ("name", "plane", "median", "scatter", "min", "max", "unit", "n_patches")
    columns += ("patch_min", "patch_max", "definition")
    kinds = (str, str, float, float, float, float, str, int, int, int, str)
    return Table(rows=rows or None, names=columns, dtype=kinds)


def make_tract_figure(table: Table, *, names: Sequence[str], title: str) -> Figure:
    """Draw metrics patch by patch.

    Parameters
    ----------
    table
        As of `stack_patches`.
    names
        Metrics to draw, a panel each.
    title
        Data id and configuration, written over the figure.
    """
    known = np.asarray(table["name"]).astype(str)
    shown = [name for name in names if name in known]
    patches = _spread(np.unique(np.asarray(table["patch"])))
    n_patches = len(np.unique(np.asarray(table["patch"])))
    planes = list(dict.fromkeys(np.asarray(table["plane"]).astype(str).tolist()))
    n_columns = 2 if len(shown) > 1 else 1
    n_rows = max(1, -(-len(shown) // n_columns))
    height = 2.3 * n_rows + 0.9 + 0.2 * title.count("\n")
    figure = Figure(figsize=(5.6 * n_columns, height), dpi=110, layout="constrained")
    figure.suptitle(f"{title}\npatches: {n_patches}", fontsize=10)
    axes = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    colours = choose_places(planes)
    for axis, name in zip(axes, shown, strict=False):
        for k, plane in enumerate(planes):
            rows = table[(known == name) & (np.asarray(table["plane"]).astype(str) == plane)]
            if len(rows):
                place = np.searchsorted(patches, np.asarray(rows["patch"])) + 0.12 * (
                    k - (len(planes) - 1) / 2
                )
                colour, marker = COLOURS[colours[k]], MARKERS[colours[k]]
                value = np.asarray(rows["value"], dtype=float)
                error = np.nan_to_num(np.asarray(rows["error"], dtype=float))
                if name.endswith("_rate"):  # none is less than nothing
                    error = np.array([np.minimum(error, value), error])
                axis.errorbar(place, value, error, fmt=marker, color=colour, ms=5, label=plane)
                unit = str(rows["unit"][0])
        axis.set_ylabel(f"{name} [{unit}]" if unit else name, fontsize=8)
        axis.set_xlim(-0.7, len(patches) - 0.3)
        every = max(1, len(patches) // 20)
        axis.set_xticks(np.arange(len(patches))[::every], patches[::every], fontsize=7)
        axis.tick_params(labelsize=7)
        axis.grid(alpha=0.3, linewidth=0.4)
        axis.set_xlabel("patch", fontsize=8)
    for axis in axes[len(shown) :]:
        axis.set_axis_off()
    if shown:
        axes[0].legend(fontsize=7)
    return figure


def _spread(patches: np.ndarray) -> np.ndarray:
    """Return the patches that have a place on the axis: those that are lacking
    leave theirs empty, unless most would be.
    """
    every = np.arange(patches.min(), patches.max() + 1) if len(patches) else patches
    return every if len(every) <= 2 * len(patches) else patches
