# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""``python -m benchmarks.engine``: run the benchmark and write its report."""

from __future__ import annotations

import argparse
import os
import time
import warnings
from pathlib import Path

# Before anything starts threads: the costs are those of one thread.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from .peers import select_peers
from .report import publish_report, write_report
from .run import Results, Settings, run_scenes
from .scene_list import select_scenes
from .scenes import SETS

_SECOND_WEIGHTS = Path(__file__).parents[1] / "second_weights.safetensors"


def main() -> None:
    """Read the command line, run, report."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.engine",
        description="Measure the engine and its peers on simulated stacks whose truth is known.",
    )
    names = "comma-separated; all if not given"
    parser.add_argument(
        "--set", choices=sorted(SETS), help="which scenes (default: test, with --quick tuning)"
    )
    parser.add_argument("--quick", action="store_true", help="one realisation, small scenes, no costly peer")
    parser.add_argument("--scenes", default="", help=f"names or kinds of scenes, {names}")
    parser.add_argument("--peers", default="", help=f"names of peers, {names}")
    parser.add_argument("--realisations", type=int, help="most observations of each scene")
    parser.add_argument("--jobs", type=int, default=1, help="worker processes")
    parser.add_argument("--out", type=Path, help="folder of the results (default: bench/SET)")
    parser.add_argument("--weights", type=Path, help="weights of the engine, instead of the shipped ones")
    parser.add_argument(
        "--second-weights",
        type=Path,
        help="weights of another seed, to compare with (default: those beside it; none with --quick)",
    )
    parser.add_argument("--no-pictures", action="store_true", help="tables only")
    parser.add_argument("--report-only", type=Path, metavar="DIR", help="report on a run without fitting")
    parser.add_argument(
        "--publish", type=Path, metavar="DIR", help="copy the report, its tables and diagrams there"
    )
    arguments = parser.parse_args()
    if arguments.report_only:
        _report(Results.read(arguments.report_only), arguments.report_only, arguments.publish)
        return
    chosen = arguments.set or ("tuning" if arguments.quick else "test")
    try:
        scenes = select_scenes(
            chosen,
            _split(arguments.scenes),
            quick=arguments.quick,
            realisations=arguments.realisations,
        )
        peers = select_peers(_split(arguments.peers))
    except ValueError as error:
        parser.error(str(error))
    settings = Settings(
        out=arguments.out or Path("bench") / chosen,
        weights=arguments.weights,
        second_weights=arguments.second_weights or (None if arguments.quick else _SECOND_WEIGHTS),
        pictures=not arguments.no_pictures,
    )
    start = time.monotonic()
    results = run_scenes(scenes, peers, settings, jobs=arguments.jobs, report=_say(start))
    _report(results, settings.out, arguments.publish)


def _report(results: Results, folder: Path, publish: Path | None) -> None:
    print(write_report(results, folder))
    if publish:
        publish_report(folder, publish)


def _split(names: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in names.split(",") if name.strip())


def _say(start: float):
    return lambda line: print(f"{time.monotonic() - start:6.0f} s  {line}", flush=True)


if __name__ == "__main__":
    warnings.filterwarnings("ignore", category=RuntimeWarning, message=".*fork.*")
    main()
