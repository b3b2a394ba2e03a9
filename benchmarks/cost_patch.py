# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fit one patch in a process of its own, and say what each part took.

``python -m benchmarks.cost_patch FOLDER N SIDE THREADS CELL_SIZE HALO`` is
called by `benchmarks.cost`; the last line that it prints is JSON.
"""

from __future__ import annotations

__all__ = ("MOST", "PARTS", "STATISTIC", "make_exposures", "make_field")

import json
import sys
import threading
import time
import types
from pathlib import Path

import numpy as np
import torch

from lsst.coadd.astroclearnet.core import CellStack, FitOptions, Plane, Tile, fit_patch
from lsst.coadd.astroclearnet.core.cell import _finish
from lsst.coadd.astroclearnet.core.clip import _clip, _first_look
from lsst.coadd.astroclearnet.core.encoder import _encoder, _scatter
from lsst.coadd.astroclearnet.core.fourier._grid import FourierGrid
from lsst.coadd.astroclearnet.core.methods import _fit
from lsst.coadd.astroclearnet.core.statistic import _statistic
from lsst.coadd.astroclearnet.core.statistic._wiener import WienerSolver
from lsst.coadd.astroclearnet.core.warp._cut_stack import cut_stack
from lsst.coadd.astroclearnet.core.warp._register import WarpedExposure
from lsst.coadd.astroclearnet.simulate import simulate_stack

MOST = 33
"""Exposures of the field."""

_FIELD = 512
"""Side of the field, in pixels."""

STATISTIC = ("FFT of statistic", "clipping", "filling of holes", "noise level", "rest of statistic")
PARTS = ("cutting cells", *STATISTIC, "network", "calibration check", "misfit map", "products", "other FFT")


class Clock:
    """CPU time of parts of a program, each without the parts inside it."""

    def __init__(self):
        self._local = threading.local()
        self.reset()

    def reset(self) -> None:
        """Forget what was measured."""
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self.transforms = self.passes = 0
        self.transform_flops = 0.0

    def watch(self, owner, name: str, part: str, *, transforms: bool = False, passes: bool = False) -> None:
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
            inside = any(name in STATISTIC for name, _ in stack)
            key = part if part != "FFT" else "FFT of statistic" if inside else "other FFT"
            self.seconds[key] += own
            self.passes += passes
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
    clock.watch(_statistic, "FirstLook", "clipping")
    clock.watch(_first_look.FirstLook, "find_used", "clipping")
    clock.watch(_clip.Clipper, "find_used", "clipping")
    clock.watch(WienerSolver, "solve", "filling of holes")
    clock.watch(_statistic, "measure_noise_scale", "noise level")
    clock.watch(_fit, "compute_statistic", "rest of statistic")
    clock.watch(_encoder.StatisticEncoder, "forward", "network", passes=True)
    clock.watch(_scatter.ScatterHead, "forward", "network")
    clock.watch(_finish, "diagnose", "calibration check")
    clock.watch(_finish, "measure_misfit", "misfit map")
    clock.watch(_fit, "finish_latent", "products")


def make_field(folder: Path, seed: int) -> None:
    """Simulate the field, and keep it in a file."""
    stack, _ = simulate_stack(n_exposures=MOST, size=_FIELD, seed=seed)
    np.savez(folder / "field.npz", image=stack.image, variance=stack.variance, good=stack.good, psf=stack.psf)


def make_exposures(folder: Path, n: int, side: int) -> None:
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
        height, width = arrays["image"].shape
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
                outline=np.array([(0, 0), (width, 0), (width, height), (0, height)]) - halo - 0.5,
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


def _run(folder: Path, n: int, side: int, options: FitOptions) -> dict[str, float]:
    """Fit a patch in this process and return what it took."""
    exposures = _open_exposures(folder, n, options.halo)
    clock, memory = Clock(), _Memory()
    _watch_engine(clock)

    def get_stack(tile: Tile, halo: int) -> CellStack | None:
        size = {"height": tile.height + 2 * halo, "width": tile.width + 2 * halo}
        return cut_stack(exposures, x0=tile.x0 - halo, y0=tile.y0 - halo, bad=Plane.NO_DATA, **size)

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
    parts = {part: clock.seconds.get(part, 0.0) / cells for part in PARTS}
    parts["rest"] = cpu / cells - sum(parts.values())
    counts = {"FFTs": clock.transforms / cells, "FFT GFLOP": clock.transform_flops / cells / 1e9}
    return row | parts | counts | {"passes": clock.passes / cells}


def main() -> None:
    folder, *numbers = sys.argv[1:]
    n, side, threads, cell_size, halo = (int(number) for number in numbers)
    options = FitOptions(n_threads=threads, cell_size=cell_size, halo=halo)
    print(json.dumps(_run(Path(folder), n, side, options)))


if __name__ == "__main__":
    main()
