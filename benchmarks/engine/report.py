# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tables and pictures of a run, without fitting anything."""

from __future__ import annotations

__all__ = ("format_targets", "publish_report", "write_report")

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import astropy.table
import numpy as np

from .checks import Target
from .figures import Figures
from .peers import PEERS
from .pictures import DIAGRAMS, draw_pictures
from .pool import Pool
from .run import CONDITIONS
from .sections import ALONE, ERRORS, SECTIONS, tabulate_shared
from .summary import summarize_run
from .targets import evaluate_targets


def write_report(tables, folder: Path) -> str:
    """Write everything that can be said of a run.

    Parameters
    ----------
    tables
        Gives a table for a name of `~benchmarks.engine.measure.TABLES`.
    folder
        Gets ``report.md``, ``summary.csv``, ``targets.csv`` and pictures.
        Images of the run are taken from its subfolder ``images``.

    Returns
    -------
    `str`
        The table of targets in short, for a terminal.
    """
    folder.mkdir(parents=True, exist_ok=True)
    summary = summarize_run(tables)
    targets = evaluate_targets(tables)
    summary.write(folder / "summary.csv", overwrite=True)
    _tabulate_targets(targets).write(folder / "targets.csv", overwrite=True)
    pictures = draw_pictures(tables, summary, folder)
    conditions = folder / CONDITIONS
    described = json.loads(conditions.read_text()) if conditions.exists() else {}
    (folder / "report.md").write_text(_make_markdown(tables, summary, targets, pictures, described))
    return format_targets(targets)


def publish_report(folder: Path, target: Path) -> None:
    """Copy what is small of a report, and nothing that is not there is
    linked.

    Parameters
    ----------
    folder
        Where `write_report` has written.
    target
        Gets ``report.md``, ``summary.csv``, ``targets.csv`` and the
        diagrams. The strips of images stay behind; one that lies in this
        folder already stays linked.
    """
    target.mkdir(parents=True, exist_ok=True)
    for name in ("summary.csv", "targets.csv", *DIAGRAMS):
        if (folder / name).exists():
            shutil.copy(folder / name, target / name)
    links = re.compile(r"!\[[^]]*\]\(([^)]*)\)\n\n?")
    text = (folder / "report.md").read_text()
    known = links.sub(lambda link: link[0] if (target / link[1]).exists() else "", text)
    (target / "report.md").write_text(known.rstrip("\n") + "\n")


def format_targets(targets: Sequence[Target]) -> str:
    """Return the targets as lines, each with its checks below it."""
    lines = []
    for target in targets:
        lines.append(f"{target.number:2d} {_reached(target):8s} {target.quantity}: {target.wanted}")
        lines += [f"      {check}" for check in target.checks]
    return "\n".join(lines)


def _reached(target: Target) -> str:
    if not any(np.isfinite(check.value) for check in target.checks):
        return "not run"
    return "yes" if target.reached else "NO"


def _tabulate_targets(targets: Sequence[Target]) -> astropy.table.Table:
    rows = [
        {
            "number": target.number,
            "quantity": target.quantity,
            "check": check.label,
            "value": check.value,
            "error": check.error,
            "low": check.low,
            "high": check.high,
            "passed": check.passed,
        }
        for target in targets
        for check in target.checks
    ]
    return astropy.table.Table(rows)


def _make_markdown(
    tables,
    summary: astropy.table.Table,
    targets: Sequence[Target],
    pictures: Sequence[Path],
    conditions: dict[str, str],
) -> str:
    parts = [
        "# Benchmark of the engine\n",
        "".join(f"- {name}: {value}\n" for name, value in conditions.items()),
        _describe_scenes(tables["rows"]),
        "## Targets\n",
        f"{ERRORS} A check that fails has an exclamation mark. Fluxes, widths, shapes, rings and pulls are "
        f"of {ALONE}.\n",
        _format_table(
            ("#", "quantity", "wanted", "measured", "reached"),
            [
                (t.number, t.quantity, t.wanted, "; ".join(str(c) for c in t.checks) or "-", _reached(t))
                for t in targets
            ],
        ),
        *_format_shared(Pool(tables).shared(), summary),
        "## Peers\n",
        "Costly peers run on few scenes only: a mean over scenes, in the tables below, is of other scenes "
        "for them than for the others. 'Engine, other weights' below is the engine with the weights of "
        "another training (`--second-weights`).\n",
        _format_table(
            ("peer", "what it is", "where it runs"), [(peer.name, peer.title, peer.limits) for peer in PEERS]
        ),
    ]
    if len(summary):
        figures = Figures(summary)
        for title, note, build in SECTIONS:
            header, rows = build(figures)
            if rows:
                parts += [f"## {title}\n", f"{note}\n", _format_table(header, rows)]
    if pictures:
        parts.append("## Pictures\n")
        parts += [f"![{file.stem}]({file.name})\n" for file in pictures]
    return "\n".join(parts)


def _format_shared(shared: Pool, summary: astropy.table.Table) -> list[str]:
    """Compare the peers on what most of them were run on."""
    if not len(shared.rows()):
        return []
    header, rows = tabulate_shared(Figures(summary))
    scenes = "; ".join(line.removeprefix("- field: ") for line in _list_scenes(shared.rows()))
    return [
        "## All peers on the same exposures\n",
        f"Of the fields, the observations that every peer of this table has an image of: {scenes}. "
        "Figures of one observation alone have no error; what they differ by from one observation to the "
        "next is in the tables below. Flux in an aperture of 1 arcsec; fluxes and shapes are medians of "
        f"{ALONE}; 'sources': how many of these have S/N > 20. Sky in units of the noise of an ideal mean "
        "coadd; CPU seconds of one thread; peak MiB above the inputs. Each plane against the truth at its "
        "own PSF.\n",
        _format_table(header, rows),
    ]


def _describe_scenes(rows: astropy.table.Table) -> str:
    """Say what was run, and how often."""
    if not len(rows):
        return "Nothing was run.\n"
    return (
        "Scenes, their exposures and how often each was observed:\n\n" + "\n".join(_list_scenes(rows)) + "\n"
    )


def _list_scenes(rows: astropy.table.Table) -> list[str]:
    lines = []
    for group in dict.fromkeys(rows["group"]):
        mine = rows[rows["group"] == group]
        scenes = ", ".join(
            f"{scene} (n = {mine['n'][mine['scene'] == scene][0]}, "
            f"{len(set(mine['realisation'][mine['scene'] == scene]))} x)"
            for scene in dict.fromkeys(mine["scene"])
        )
        lines.append(f"- {group}: {scenes}")
    return lines


def _format_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines) + "\n"
