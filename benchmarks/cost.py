# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the engine costs: CPU-seconds and memory against exposures and area.

``python -m benchmarks.cost`` fits patches of several sizes, each in a process
of its own, on one thread; prints what each part takes, compares the
transforms and the network with what this machine can do, and projects to 33
exposures of 4200 x 4200 pixels. ``--full`` runs that, too, with two threads;
``--full 1000`` a smaller one, to try. The exposures are read from files of the
scratch folder (9 bytes a pixel and exposure, 5.4 GB), a cell at a time, as the
task does with its option ``scratch`` (13 bytes); memory is told with and
without them.
``--csv FILE`` writes the table. The exposures are one simulated field,
mirrored over the patch; they are resampled already: what resampling costs is
measured apart, on one frame.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import astropy.table
import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from lsst.coadd.astroclearnet.core import FitOptions
from lsst.coadd.astroclearnet.core.encoder import _encoder
from lsst.coadd.astroclearnet.core.encoder import _inputs as _encoder_inputs
from lsst.coadd.astroclearnet.core.fourier._grid import FourierGrid

from .cost_machine import measure_machine, time_registration
from .cost_patch import MOST, PARTS, STATISTIC, make_exposures, make_field

_FULL = 4200
"""Side of the patch that is projected to, in pixels."""


def _fit(folder: Path, n: int, side: int, options: FitOptions, *, threads: int = 1) -> dict[str, float]:
    """Fit a patch in a process of its own."""
    make_exposures(folder, n, side + 2 * options.halo)
    numbers = (n, side, threads, options.cell_size, options.halo)
    command = [sys.executable, "-m", "benchmarks.cost_patch", str(folder), *map(str, numbers)]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    if result.returncode:
        raise SystemExit(result.stderr)
    row = json.loads(result.stdout.splitlines()[-1])
    print(f"n={n} side={side}: {row['CPU s']:.1f} CPU-s, {row['own MB']:.0f} MB", flush=True)
    return row


def _count_network(pixels: int) -> float:
    """FLOPs of the encoder for one padded cell."""
    side = int(np.sqrt(pixels))
    grid = FourierGrid(height=side, width=side, shape=(side, side))
    den = grid.gaussian(4.0)[None] ** 2
    inputs = _encoder_inputs.EncoderInputs.from_statistic(
        den.to(torch.complex64), den, grid, inflation=torch.ones(1, side, side)
    )
    with FlopCounterMode(display=False) as counter:
        _encoder.load_encoder()(inputs)
    return float(counter.get_total_flops())


def _describe_growth(rows: list[dict[str, float]]) -> str:
    """Fit a line in n to the costs of a cell."""
    design = np.array([[1.0, row["n"]] for row in rows])
    costs = np.array([row["CPU s per cell"] for row in rows])
    line, *_ = np.linalg.lstsq(design, costs, rcond=None)
    off = np.abs(design @ line / costs - 1.0).max()
    most = max(row["own MB"] for row in rows)
    text = f"A cell takes {line[0]:.2f} + {line[1]:.4f} n CPU-s, all patches within {off:.0%} of that"
    exponents = [
        f"{found:.2f} of {name}"
        for name, key in (("the exposures", "n"), ("the area", "cells"))
        if (found := _measure_exponent(rows, key)) is not None
    ]
    if exponents:
        text += f"; the cost grows with the power {' and '.join(exponents)}"
    return f"{text}; at most {most:.0f} MB."


def _measure_exponent(rows: list[dict[str, float]], key: str) -> float | None:
    """Power of a number with which the cost grows, the other at its largest;
    `None` if there is one value only.
    """
    other = "cells" if key == "n" else "n"
    largest = max(row[other] for row in rows)
    chosen = [row for row in rows if row[other] == largest]
    if len({row[key] for row in chosen}) < 2:
        return None
    points = np.log([[row[key], row["CPU s"]] for row in chosen])
    return float(np.polyfit(points[:, 0], points[:, 1], 1)[0])


def _describe(
    last: dict[str, float], options: FitOptions, machine: dict[str, float], registration: float
) -> str:
    """Compare a patch with what the machine can do; project."""
    grid = FourierGrid.for_images(
        height=options.cell_size + 2 * options.halo, width=options.cell_size + 2 * options.halo, pad=8
    )
    work = last["n"] * options.cell_size**2
    lines = [
        f"One cell of {options.cell_size} px + {options.halo} px of halo, grid {grid.shape[0]} px, "
        f"n = {last['n']}:"
    ]
    total = last["CPU s per cell"]
    for part in (*PARTS, "rest"):
        share = last[part] / total
        lines.append(
            f"  {part:20s} {last[part]:7.3f} s {share:5.0%} {last[part] / work * 1e9:8.1f} ns/px/exposure"
        )
    statistic = sum(last[part] for part in STATISTIC)
    ffts = last["FFT of statistic"]
    network = _count_network(grid.size) / 1e9
    rate = machine["GFLOP/s of the FFT"]
    lines += [
        f"Statistic: {last['FFTs'] / last['n']:.1f} real FFTs an exposure, {last['FFT GFLOP']:.2f} GFLOP, "
        f"{last['FFT GFLOP'] / ffts:.1f} GFLOP/s (best on one image: {rate:.1f}); "
        f"{statistic / ffts:.2f} x the time of its FFTs.",
        f"Network: {network:.2f} GFLOP in each of {last['passes']:.0f} passes, "
        f"{network * last['passes'] / last['network']:.1f} GFLOP/s "
        f"(best point-wise layer: {machine['GFLOP/s of point-wise layers']:.1f}).",
    ]
    cells = (_FULL // options.cell_size) ** 2
    seconds = total * cells
    lines.append(
        f"Projected by cells, {MOST} x {_FULL}^2: {seconds:.0f} CPU-s, {seconds / 120:.1f} min on 2 cores, "
        f"without resampling ({registration:.2f} CPU-s per Mpx and exposure: "
        f"{registration * MOST * (_FULL + 2 * options.halo) ** 2 / 1e6:.0f} CPU-s)."
    )
    return "\n".join(lines)


def run(
    folder: Path, options: FitOptions, *, quick: bool, full: int | None, seed: int
) -> astropy.table.Table:
    """Measure all cases, and a patch with the side ``full`` if it is given;
    print what was found, return the table.
    """
    size = options.cell_size
    machine = measure_machine((size + 2 * options.halo + 8) ** 2)
    name = platform.processor() or platform.machine()
    print(f"{name}, {os.cpu_count()} CPUs, torch {torch.__version__}, seed {seed}")
    print("; ".join(f"{name} {value:.3g}" for name, value in machine.items()))
    make_field(folder, seed)
    sides = (size,) if quick else (size, 2 * size, 5 * size)
    rows = [_fit(folder, n, side, options) for side in sides for n in (8, 16, MOST)]
    print(_describe_growth(rows))
    print(_describe(rows[-1], options, machine, time_registration()))
    if full:
        projected = rows[-1]["CPU s per cell"] * (full / size) ** 2
        last = _fit(folder, MOST, full, options, threads=2)
        rows.append(last)
        print(
            f"Measured, {MOST} x {full}^2, 2 threads: {last['wall s'] / 60:.1f} min, "
            f"{last['CPU s']:.0f} CPU-s, {last['CPU s'] / projected:.2f} x the projection; "
            f"{last['own MB']:.0f} MB ({last['with files MB']:.0f} MB with pages of files)."
        )
    return astropy.table.Table(rows)


def main() -> None:
    defaults = FitOptions()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cost", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="single cells only")
    parser.add_argument(
        "--full",
        type=int,
        nargs="?",
        const=_FULL,
        metavar="SIDE",
        help=f"also {MOST} exposures of a large patch; without a side {_FULL} px, 5.4 GB of files",
    )
    parser.add_argument("--cell-size", type=int, default=defaults.cell_size, help="side of a cell, in pixels")
    parser.add_argument("--halo", type=int, default=defaults.halo, help="border around a cell, in pixels")
    parser.add_argument("--seed", type=int, default=1, help="seed of the field")
    parser.add_argument("--scratch", help="where the exposures are kept meanwhile")
    parser.add_argument("--csv", help="write the table to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    options = FitOptions(cell_size=arguments.cell_size, halo=arguments.halo)
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as folder:
        table = run(Path(folder), options, quick=arguments.quick, full=arguments.full, seed=arguments.seed)
    for name, column in table.items():
        if column.dtype.kind == "f":
            table[name].info.format = ".3g"
    table.pprint_all()
    if arguments.csv:
        table.write(arguments.csv, overwrite=True)


if __name__ == "__main__":
    main()
