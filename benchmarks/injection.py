# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Injected sources on real exposures: the table and the figure of the guide.

Runs ``acn inject`` with several seeds and pools what was found. From the
repository root, with coadds of before that the same engine has made:

    python -m benchmarks.injection REPO -i COADDS,EXPOSURES --doc doc
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
from astropy.table import Table, vstack
from matplotlib.figure import Figure

from lsst.coadd.astroclearnet.comparison.pictures._style import COLOURS, MARKERS
from lsst.coadd.astroclearnet.injection._measure import _bin_rows
from lsst.daf.butler import Butler

PLANES = ("deepCoadd", "acn_coadd", "acn_latent")
EDGES = (20.0, 21.0, 22.0, 23.0, 24.0, 25.0)
_KINDS = {"star": "stars", "galaxy": "galaxies"}
_METRICS, _SOURCES = (f"injected_acn_injection_{name}" for name in ("metrics", "sources"))


def run_inject(repo: str, inputs: str, output: str, where: str, options: Sequence[str]) -> None:
    """Run the command, and stop with it."""
    command = [sys.executable, "-m", "lsst.coadd.astroclearnet", "inject", repo, "-i", inputs, "-o", output]
    command += ["-d", where] if where else []
    click.echo(shlex.join(["acn", *command[3:], *options]))
    done = subprocess.run([*command, *options], check=False)
    if done.returncode:
        raise click.ClickException(f"acn inject has failed with exit code {done.returncode}.")


def read_outputs(repo: str, outputs: Sequence[str]) -> tuple[Table, Table]:
    """Read sources and metrics of all runs, patches and bands."""
    tables: dict[str, list[Table]] = {_SOURCES: [], _METRICS: []}
    with Butler.from_config(repo) as butler:
        for output in outputs:
            for name, found in tables.items():
                for ref in butler.query_datasets(name, output):
                    table = butler.get(ref)
                    table["band"] = str(ref.dataId["band"])
                    found.append(table)
    if not tables[_SOURCES]:
        raise click.ClickException(f"Nothing was measured in {', '.join(outputs)}.")
    return tuple(vstack(found, metadata_conflicts="silent") for found in tables.values())


def measure_bins(sources: Table) -> list[tuple[str, float, float, str, dict[str, tuple[float, float, int]]]]:
    """Return kind, edges, plane and figures of each bin.

    A figure is its value, its error and the number of sources.
    """
    rows = []
    for kind in _KINDS:
        for low, high in zip(EDGES[:-1], EDGES[1:], strict=True):
            for plane in PLANES:
                name = f"injected_{plane}"
                chosen = (sources["type"] == kind) & (sources["mag"] >= low) & (sources["mag"] < high)
                chosen &= np.asarray(sources[f"usable_{name}"], dtype=bool)
                part = sources[chosen]
                ratio = np.asarray(part[f"flux_{name}"] / part["flux_aperture"] - 1, dtype=float)
                made = _bin_rows("", plane, np.asarray(part[f"found_{name}"]) > 0, ratio)
                rows.append((kind, low, high, plane, {row[0]: (row[2], row[3], row[5]) for row in made}))
    return rows


def rate_of(metrics: Table, name: str, plane: str) -> tuple[float, float]:
    """Return a rate per square arcminute and its error, over all patches."""
    chosen = metrics[(metrics["name"] == name) & (metrics["plane"] == f"injected_{plane}")]
    count, rate = int(np.sum(chosen["n"])), float(np.mean(chosen["value"]))
    return rate, rate / np.sqrt(count) if count else float("nan")


def _show(value: float, error: float, *, percent: bool = False) -> str:
    if not np.isfinite(value):
        return "\u2014"
    factor, unit = (100, " %") if percent else (1, "")
    sign = "+" if percent else ""
    text = f"{round(factor * value, 1) + 0.0:{sign}.1f}"  # no minus before 0
    return f"{text} \u00b1 {factor * error:.1f}{unit}" if np.isfinite(error) else f"{text}{unit}"


def write_table(rows: Sequence, metrics: Table) -> list[str]:
    """Write the table in reStructuredText."""
    lines = [".. list-table::", "   :header-rows: 1", "", "   * - "]
    lines += [f"     - ``{plane}``" for plane in PLANES]

    def add(label: str, cells: Sequence[str]) -> None:
        lines.extend([f"   * - {label}", *(f"     - {cell}" for cell in cells)])

    for figure, words in (("completeness", "found"), ("flux_bias", "flux / truth - 1")):
        for kind, plural in _KINDS.items():
            for low, high in zip(EDGES[:-1], EDGES[1:], strict=True):
                here = {row[3]: row[4][figure] for row in rows if row[:3] == (kind, low, high)}
                count = max(n for _, _, n in here.values())
                if not count:
                    continue
                label = f"{words}: {plural} of {low:g} - {high:g} mag ({count})"
                if figure == "completeness":
                    cells = [
                        f"{100 * value:.0f} %" if np.isfinite(value) else "\u2014"
                        for value, _, _ in here.values()
                    ]
                else:
                    cells = [_show(value, error, percent=True) for value, error, _ in here.values()]
                add(label, cells)
    for name, label in (
        ("false_positives", "new detections that are no source, per square arcminute"),
        (
            "false_detections_before",
            "detections in the negative image before injection, per square arcminute",
        ),
    ):
        add(label, [_show(*rate_of(metrics, name, plane)) for plane in PLANES])
    return lines


def draw(sources: Table, rows: Sequence, path: Path, *, title: str) -> None:
    """Draw completeness and flux bias against magnitude."""
    figure = Figure(figsize=(10, 6.4), dpi=110, layout="constrained")
    figure.suptitle(title, fontsize=10)
    axes = figure.subplots(2, 2, sharex=True, sharey="row")
    for column, (kind, plural) in enumerate(_KINDS.items()):
        for k, plane in enumerate(PLANES):
            style = {"color": COLOURS[k], "marker": MARKERS[k], "ms": 6, "capsize": 2, "linewidth": 1}
            mine = [
                (low, high, values) for one, low, high, name, values in rows if (one, name) == (kind, plane)
            ]
            for axis, name in zip(axes[:, column], ("completeness", "flux_bias"), strict=True):
                x = np.array([(low + high) / 2 + 0.07 * (k - 1) for low, high, _ in mine])
                y, error, n = np.array([values[name] for _, _, values in mine], dtype=float).T
                axis.errorbar(x[n > 0], y[n > 0], error[n > 0], label=plane, **style)
            chosen = (sources["type"] == kind) & np.asarray(sources[f"usable_injected_{plane}"], dtype=bool)
            ratio = np.asarray(sources[f"flux_injected_{plane}"] / sources["flux_aperture"] - 1)[chosen]
            axes[1, column].plot(
                np.asarray(sources["mag"])[chosen] + 0.07 * (k - 1),
                ratio,
                ".",
                color=COLOURS[k],
                ms=2.5,
                alpha=0.35,
            )
        axes[0, column].set_title(plural, fontsize=10)
        axes[1, column].axhline(0, color="black", linewidth=0.8)
        axes[1, column].set_xlabel("injected magnitude [AB]", fontsize=9)
    axes[0, 0].set(ylabel="completeness", ylim=(-0.05, 1.1))
    axes[1, 0].set(ylabel="aperture flux / truth - 1", ylim=(-1.2, 1.2))
    # Linear up to 10 %, so that both a bias and what is lost are seen.
    axes[1, 0].set_yscale("symlog", linthresh=0.1, linscale=2)
    ticks = (-1, -0.1, -0.05, 0, 0.05, 0.1, 1)
    axes[1, 0].set_yticks(ticks, [f"{100 * tick:+g} %" if tick else "0" for tick in ticks], minor=False)
    axes[0, 0].legend(fontsize=8, loc="lower left")
    for axis in axes.flat:
        axis.grid(alpha=0.3, linewidth=0.4)
        axis.tick_params(labelsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def write_page(sources: Table, metrics: Table, doc: Path, *, data: str, how: str, minutes: float) -> Path:
    """Write the text with its table, and the figure."""
    rows = measure_bins(sources)
    bands = ", ".join(sorted(set(sources["band"])))
    title = f"{data}, bands {bands}: {len(sources)} sources"
    draw(sources, rows, doc / "images/decam-injection.png", title=title)
    version = importlib.metadata.version("coadd_astroclearnet")
    machine = f"{os.cpu_count()}-core {platform.machine().replace('_', '-')}"
    text = [
        f"{len(sources)} sources were injected into {data} (bands {bands}), off the bright sources that are",
        "there. Fluxes are those of apertures of 1 arcsec, all planes at one PSF, after minus before;",
        "``deepCoadd`` is the clipped mean of the same exposures.",
        "",
        f"Made by {how}, version {version}, in {minutes:.0f} minutes on a {machine} machine.",
        "",
        *write_table(rows, metrics),
        "",
        ".. figure:: /images/decam-injection.png",
        "   :alt: Completeness and flux bias of stars and galaxies against magnitude, in three coadds.",
        "",
        "   Completeness (above) and flux bias (below) of the injected sources; dots are single sources.",
    ]
    path = doc / "lsst.coadd.astroclearnet/decam-injection.txt"
    path.write_text("\n".join(text) + "\n", encoding="utf-8")
    return path


@click.command()
@click.argument("repo")
@click.option(
    "-i", "--input", "inputs", required=True, help="Collections of coadds and exposures, by commas."
)
@click.option("-o", "--output", default="u/demo/inject", show_default=True, help="Collections begin with it.")
@click.option("--where", default="", help="Which patches and bands.")
@click.option("--seeds", default="1,2", show_default=True, help="Of the catalogues, by commas.")
@click.option("--density", default=30.0, show_default=True, help="Sources per square arcminute.")
@click.option("--data", default="the data", show_default=True, help="What they are, for the text.")
@click.option(
    "--doc", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder of the guide."
)
@click.option(
    "--command", default="make decam inject", show_default=True, help="What the text says that made it."
)
def main(
    repo: str,
    inputs: str,
    output: str,
    where: str,
    seeds: str,
    density: float,
    data: str,
    doc: Path,
    command: str,
) -> None:
    """Write decam-injection.txt and images/decam-injection.png below --doc."""
    started = time.monotonic()
    options = [
        "--density",
        f"{density:g}",
        "--mag",
        f"{EDGES[0]:g}",
        f"{EDGES[-1]:g}",
        "--min-exposures",
        "2",
    ]
    stamp = time.strftime("%Y%m%dT%H%M%S")
    outputs = []
    for seed in seeds.split(","):
        outputs.append(f"{output}/{stamp}/{seed}")
        run_inject(repo, inputs, outputs[-1], where, [*options, "--seed", seed])
    sources, metrics = read_outputs(repo, outputs)
    differs = metrics["value"][metrics["name"] == "before_differs"]
    if not len(differs) or np.any(differs != 0):
        raise click.ClickException(
            "The coadds of before were made otherwise, or are missing: make them anew."
        )
    minutes = (time.monotonic() - started) / 60
    how = f"``{command}``: seeds {seeds}, each {density:g} per square arcminute"
    path = write_page(sources, metrics, doc, data=data, how=how, minutes=minutes)
    click.echo(f"Wrote {path} and its figure.")


if __name__ == "__main__":
    main()
