# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the engine costs: CPU-seconds and memory against exposures and area.

``python benchmarks/cost.py`` fits patches of several sizes, each in a process
of its own, on one thread; prints what each part takes, compares the
transforms and the network with what this machine can do, and projects to 33
exposures of 4200 x 4200 pixels. ``--full`` runs that, too, with two threads.
``--csv FILE`` writes the table. The exposures are one simulated field,
mirrored over the patch; they are resampled already: what resampling costs is
measured apart, on one frame.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
import types
from pathlib import Path

import astropy.table
import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from lsst.coadd.astroclearnet.core import (
    CellStack,
    FitOptions,
    InputExposure,
    Plane,
    Tile,
    _clip,
    _encoder,
    _finish,
    _fit,
    _statistic,
    fit_patch,
)
from lsst.coadd.astroclearnet.core._fourier import FourierGrid
from lsst.coadd.astroclearnet.core._register import WarpedExposure, cut_stack, warp_exposure
from lsst.coadd.astroclearnet.core._wiener import WienerSolver
from lsst.coadd.astroclearnet.simulate import simulate_stack

_FIELD = 512  # side of the simulated field, in pixels
_MOST = 33
_FULL = 4200
_BAD = Plane.NO_DATA


_STATISTIC = ("FFT of statistic", "clipping", "filling of holes", "noise level", "rest of statistic")
_PARTS = ("cutting cells", *_STATISTIC, "network", "calibration check", "misfit map", "products", "other FFT")


class Clock:
    """CPU time of parts of a program, each without the parts inside it."""

    def __init__(self):
        self._local = threading.local()
        self.reset()

    def reset(self) -> None:
        """Forget what was measured."""
        self.seconds = dict.fromkeys(_PARTS, 0.0)
        self.transforms = 0
        self.transform_flops = 0.0

    def watch(self, owner, name: str, part: str, *, transforms: bool = False) -> None:
        """Replace a function by one that is timed."""
        function = getattr(owner, name)

        def timed(*args, **kwargs):
            stack = self._local.__dict__.setdefault("stack", [])
            start = time.thread_time()
            stack.append([part, 0.0])
            result = function(*args, **kwargs)
            taken = time.thread_time() - start
            own = taken - stack.pop()[1]
            if stack:
                stack[-1][1] += taken
            inside = any(name in _STATISTIC for name, _ in stack)
            key = part if part != "FFT" else "FFT of statistic" if inside else "other FFT"
            self.seconds[key] += own
            if transforms and inside:
                self._count(result, args[0])
            return result

        setattr(owner, name, timed)

    def _count(self, result: torch.Tensor, grid: FourierGrid) -> None:
        number = result[..., 0, 0].numel()
        self.transforms += number
        self.transform_flops += 2.5 * number * grid.size * np.log2(grid.size)


def _watch_engine(clock: Clock) -> None:
    clock.watch(FourierGrid, "transform", "FFT", transforms=True)
    clock.watch(FourierGrid, "inverse", "FFT", transforms=True)
    clock.watch(FourierGrid, "transfer", "FFT")
    clock.watch(_statistic, "clip_against_median", "clipping")
    clock.watch(_clip.Clipper, "find_used", "clipping")
    clock.watch(WienerSolver, "solve", "filling of holes")
    clock.watch(_statistic, "measure_noise_scale", "noise level")
    clock.watch(_fit, "compute_statistic", "rest of statistic")
    clock.watch(_encoder.StatisticEncoder, "forward", "network")
    clock.watch(_finish, "diagnose", "calibration check")
    clock.watch(_finish, "measure_misfit", "misfit map")
    clock.watch(_fit, "finish_latent", "products")


class _Map:
    """World coordinates of a small field, scaled and rotated."""

    def __init__(self, *, scale: float, angle: float, x: float, y: float):
        c, s = scale * np.cos(angle), scale * np.sin(angle)
        self._matrix, self._origin = np.array([[c, -s], [s, c]]), np.array([[x], [y]])

    def pixel_to_sky(self, *, x, y):
        shape = np.broadcast_shapes(np.shape(x), np.shape(y))
        points = np.array([np.broadcast_to(x, shape), np.broadcast_to(y, shape)]).reshape(2, -1)
        ra, dec = self._matrix @ (points - self._origin)
        return (150.0 + ra).reshape(shape), dec.reshape(shape)

    def sky_to_pixel(self, *, ra, dec):
        shape = np.broadcast_shapes(np.shape(ra), np.shape(dec))
        points = np.array([np.broadcast_to(ra, shape) - 150.0, np.broadcast_to(dec, shape)]).reshape(2, -1)
        x, y = np.linalg.inv(self._matrix) @ points + self._origin
        return x.reshape(shape), y.reshape(shape)


def _time_registration(side: int = 1000) -> float:
    """CPU-seconds for resampling one megapixel of one exposure."""
    rng = np.random.default_rng(1)
    frame = side + 100
    kernel = np.zeros((41, 41))
    kernel[18:23, 18:23] = 0.04
    exposure = InputExposure(
        visit=1,
        detector=1,
        physical_filter="i",
        image=rng.normal(size=(frame, frame)).astype(np.float32),
        variance=np.ones((frame, frame), np.float32),
        flags=np.where(rng.uniform(size=(frame, frame)) < 1e-3, Plane.BAD.value, 0).astype(np.uint32),
        psf=lambda *, x, y: kernel,
        wcs=_Map(scale=5e-5, angle=0.05, x=frame / 2, y=frame / 2),
    )
    patch = _Map(scale=4.7e-5, angle=0.0, x=side / 2, y=side / 2)
    start = time.process_time()
    warped = warp_exposure(exposure, wcs=patch, x0=0, y0=0, height=side, width=side, bad=Plane.BAD)
    return (time.process_time() - start) / (warped.image.size / 1e6)


def _measure_machine(pixels: int) -> dict[str, float]:
    """What one thread does at best, in images as large as a padded cell."""
    side = int(np.sqrt(pixels))
    image = torch.randn(side, side)
    spectrum = torch.fft.rfft2(image)
    layer = torch.nn.Conv2d(32, 64, 1).to(memory_format=torch.channels_last)

    def best(function, repeats: int = 30) -> float:
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            function()
            times.append(time.perf_counter() - start)
        return min(times)

    few = torch.randn(1, 32, 64, 64).contiguous(memory_format=torch.channels_last)
    large, copy = torch.randn(2**24), torch.empty(2**24)
    with torch.no_grad():
        fft = 0.5 * (
            best(lambda: torch.fft.rfft2(image)) + best(lambda: torch.fft.irfft2(spectrum, s=image.shape))
        )
        network = best(lambda: layer(few))
    return {
        "ns per pixel of one real FFT": fft / pixels * 1e9,
        "GFLOP/s of the FFT": 2.5 * np.log2(pixels) / (fft / pixels) / 1e9,
        "GFLOP/s of point-wise layers": 2 * 32 * 64 * 64**2 / network / 1e9,
        "GB/s of a copy": 2 * 4 * 2**24 / best(lambda: copy.copy_(large), 5) / 1e9,
    }


def _make_field(folder: Path, seed: int) -> None:
    """Simulate the field, and keep it in a file."""
    stack, _ = simulate_stack(n_exposures=_MOST, size=_FIELD, seed=seed)
    np.savez(folder / "field.npz", image=stack.image, variance=stack.variance, good=stack.good, psf=stack.psf)


def _make_exposures(folder: Path, n: int, side: int) -> None:
    """Write exposures of a patch as the task keeps them in its scratch
    folder: the field, mirrored as often as needed.
    """
    index = np.arange(side) % (2 * _FIELD)
    index = np.minimum(index, 2 * _FIELD - 1 - index)
    with np.load(folder / "field.npz") as field:
        for name in ("image", "variance", "good"):
            planes = field[name]
            for t in range(n):
                array = np.lib.format.open_memmap(
                    folder / f"{t}-{name}.npy", mode="w+", dtype=planes.dtype, shape=(side, side)
                )
                for row in range(0, side, _FIELD):
                    array[row : row + _FIELD] = planes[t][np.ix_(index[row : row + _FIELD], index)]


def _open_exposures(folder: Path, n: int, halo: int) -> list[WarpedExposure]:
    with np.load(folder / "field.npz") as field:
        kernels = field["psf"]
    flags = np.zeros((1, 1), np.uint32)
    exposures = []
    for t in range(n):
        arrays = {x: np.load(folder / f"{t}-{x}.npy", mmap_mode="r") for x in ("image", "variance", "good")}
        exposures.append(
            WarpedExposure(
                visit=t,
                detector=0,
                physical_filter="i",
                label=f"exposure={t:02d}",
                x0=-halo,
                y0=-halo,
                flags=np.broadcast_to(flags, arrays["image"].shape),
                psf=lambda *, x, y, kernel=kernels[t]: kernel,
                psf_fwhm=4.0,
                outline=np.zeros((4, 2)),
                **arrays,
            )
        )
    return exposures


class _Memory(threading.Thread):
    """Watches the memory of this process: its own, and with the pages of
    files, which the system takes back when it needs them.
    """

    def __init__(self):
        super().__init__(daemon=True)
        self.peaks = [0, 0]
        self._done = threading.Event()
        self.start()

    def run(self) -> None:
        while not self._done.wait(0.02):
            text = Path("/proc/self/status").read_text()
            for k, name in enumerate(("RssAnon", "VmRSS")):
                found = int(text.split(f"{name}:")[1].split()[0]) if f"{name}:" in text else 0
                self.peaks[k] = max(self.peaks[k], found)

    def stop(self) -> list[float]:
        """Return both peaks in MB."""
        self._done.set()
        return [peak / 1e3 for peak in self.peaks]


def _run_child(folder: Path, n: int, side: int, threads: int) -> dict[str, float]:
    """Fit a patch in this process and return what it took."""
    options = FitOptions(n_threads=threads)
    exposures = _open_exposures(folder, n, options.halo)
    clock, memory = Clock(), _Memory()
    _watch_engine(clock)

    def get_stack(tile: Tile, halo: int) -> CellStack | None:
        size = {"height": tile.height + 2 * halo, "width": tile.width + 2 * halo}
        return cut_stack(exposures, x0=tile.x0 - halo, y0=tile.y0 - halo, bad=_BAD, **size)

    holder = types.SimpleNamespace(get_stack=get_stack)
    clock.watch(holder, "get_stack", "cutting cells")
    # The first use of the libraries is not the engine's cost.
    fit_patch(get_stack, height=options.cell_size, width=options.cell_size, options=options)
    clock.reset()
    started, start = time.monotonic(), time.process_time()
    fit = fit_patch(holder.get_stack, height=side, width=side, options=options)
    cpu, wall = time.process_time() - start, time.monotonic() - started
    own, mapped = memory.stop()
    cells = (side // options.cell_size) ** 2
    chi2 = float(np.mean([exposure.chi2 for exposure in fit.exposures]))
    row = {"n": n, "side": side, "cells": cells, "chi2": chi2, "wall s": wall, "CPU s": cpu}
    row |= {"own MB": own, "with files MB": mapped, "CPU s per cell": cpu / cells}
    parts = {part: clock.seconds.get(part, 0.0) / cells for part in _PARTS}
    parts["rest"] = cpu / cells - sum(parts.values())
    return row | parts | {"FFTs": clock.transforms / cells, "FFT GFLOP": clock.transform_flops / cells / 1e9}


def _call_child(folder: Path, n: int, side: int, threads: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--child", str(folder), str(n), str(side), str(threads)]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    if result.returncode:
        raise SystemExit(result.stderr)
    return json.loads(result.stdout.splitlines()[-1])


def _count_network(pixels: int) -> float:
    """FLOPs of the encoder for one padded cell."""
    side = int(np.sqrt(pixels))
    grid = FourierGrid(height=side, width=side, shape=(side, side))
    den = grid.gaussian(4.0)[None] ** 2
    inputs = _encoder.EncoderInputs.from_statistic(
        den.to(torch.complex64), den, grid, inflation=torch.ones(1, side, side)
    )
    with FlopCounterMode(display=False) as counter:
        _encoder.load_encoder()(inputs)
    return float(counter.get_total_flops())


def _slope(rows: list[dict[str, float]], key: str) -> float:
    """Exponent of the CPU-seconds in a quantity, all else equal."""
    x, y = (np.log([row[name] for row in rows]) for name in (key, "CPU s"))
    return float(np.polyfit(x, y, 1)[0])


def _describe(rows: list[dict[str, float]], machine: dict[str, float], registration: float) -> str:
    """Compare the largest patch with what the machine can do; project."""
    last = rows[-1]
    options = FitOptions()
    grid = FourierGrid.for_images(
        height=options.cell_size + 2 * options.halo, width=options.cell_size + 2 * options.halo, pad=8
    )
    work = last["n"] * options.cell_size**2
    lines = [
        f"One cell of {options.cell_size} px + {options.halo} px of halo, grid {grid.shape[0]} px, "
        f"n = {last['n']}:"
    ]
    total = last["CPU s per cell"]
    for part in (*_PARTS, "rest"):
        share = last[part] / total
        lines.append(
            f"  {part:20s} {last[part]:7.3f} s {share:5.0%} {last[part] / work * 1e9:8.1f} ns/px/exposure"
        )
    statistic = sum(last[part] for part in _STATISTIC)
    ffts = last["FFT of statistic"]
    network = _count_network(grid.size) / 1e9
    rate = machine["GFLOP/s of the FFT"]
    lines += [
        f"Statistic: {last['FFTs'] / last['n']:.1f} real FFTs an exposure, {last['FFT GFLOP']:.2f} GFLOP, "
        f"{last['FFT GFLOP'] / ffts:.1f} GFLOP/s (best on one image: {rate:.1f}); "
        f"{statistic / ffts:.2f} x the time of its FFTs.",
        f"Network: {network:.2f} GFLOP, {network / last['network']:.1f} GFLOP/s "
        f"(best point-wise layer: {machine['GFLOP/s of point-wise layers']:.1f}).",
    ]
    cells = (_FULL // options.cell_size) ** 2
    seconds = total * cells
    lines.append(
        f"Projected by cells, {_MOST} x {_FULL}^2: {seconds:.0f} CPU-s, {seconds / 120:.1f} min on 2 cores, "
        f"without resampling ({registration:.2f} CPU-s per Mpx and exposure: "
        f"{registration * _MOST * (_FULL + 2 * options.halo) ** 2 / 1e6:.0f} CPU-s)."
    )
    return "\n".join(lines)


def run(folder: Path, *, quick: bool, full: bool, seed: int) -> astropy.table.Table:
    """Measure all cases, print what was found, return the table."""
    size = FitOptions().cell_size
    _make_field(folder, seed)
    cases = (
        [(8, size), (_MOST, size)] if quick else [(n, k * size) for k in (1, 2, 5) for n in (8, 16, _MOST)]
    )
    machine = _measure_machine((size + 2 * FitOptions().halo + 8) ** 2)
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs, "
        f"torch {torch.__version__}, seed {seed}"
    )
    print("; ".join(f"{name} {value:.3g}" for name, value in machine.items()))
    rows = []
    for n, side in cases:
        _make_exposures(folder, n, side + 2 * FitOptions().halo)
        rows.append(_call_child(folder, n, side, 1))
        print(f"n={n} side={side}: {rows[-1]['CPU s']:.1f} CPU-s, {rows[-1]['own MB']:.0f} MB", flush=True)
    if not quick:
        by_n = [_slope([row for row in rows if row["side"] == side], "n") for side in {s for _, s in cases}]
        by_side = [_slope([row for row in rows if row["n"] == n], "side") for n in {m for m, _ in cases}]
        print(f"CPU-s go as n^{np.mean(by_n):.2f} and area^{np.mean(by_side) / 2:.2f}.")
    print(_describe(rows, machine, _time_registration()))
    if full:
        _make_exposures(folder, _MOST, _FULL + 2 * FitOptions().halo)
        rows.append(_call_child(folder, _MOST, _FULL, 2))
        last = rows[-1]
        print(
            f"Measured, {_MOST} x {_FULL}^2, 2 threads: {last['wall s'] / 60:.1f} min, "
            f"{last['CPU s']:.0f} CPU-s, "
            f"{last['own MB']:.0f} MB ({last['with files MB']:.0f} MB with pages of files)."
        )
    return astropy.table.Table(rows)


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        folder, n, side, threads = sys.argv[2:]
        print(json.dumps(_run_child(Path(folder), int(n), int(side), int(threads))))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two single cells only")
    parser.add_argument("--full", action="store_true", help=f"also {_MOST} x {_FULL}^2: 8 GB of files")
    parser.add_argument("--seed", type=int, default=1, help="seed of the field")
    parser.add_argument("--scratch", help="where the exposures are kept meanwhile")
    parser.add_argument("--csv", help="write the table to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as folder:
        table = run(Path(folder), quick=arguments.quick, full=arguments.full, seed=arguments.seed)
    for name, column in table.items():
        if column.dtype.kind == "f":
            table[name].info.format = ".3g"
    table.pprint_all()
    if arguments.csv:
        table.write(arguments.csv, overwrite=True)


if __name__ == "__main__":
    main()
