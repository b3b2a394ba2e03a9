# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run one fit in a process of its own, and say what it cost."""

from __future__ import annotations

__all__ = ("Outcome", "run_alone")

import dataclasses
import multiprocessing
import resource
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

_STATUS = Path("/proc/self/status")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """What a fit returned, or why it did not."""

    value: object = None
    error: str = ""
    """Empty if the fit succeeded."""
    seconds: float = float("nan")
    """CPU time of all threads."""
    memory: float = float("nan")
    """Peak memory above that at the start, in MiB: what the fit took beside
    its inputs and the libraries that all share."""


def run_alone(function: Callable[[], object]) -> Outcome:
    """Call a function in a fork of this process.

    A fork starts with everything in place and shares the inputs. What it
    imports, allocates and leaves behind is its own.

    Parameters
    ----------
    function
        What to call; its value must be picklable.
    """
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(function, sender))
    process.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError:
        process.join()
        return Outcome(error=f"The process ended with exit code {process.exitcode}.")
    finally:
        process.join()
        receiver.close()


def _work(function: Callable[[], object], sender) -> None:
    start_memory, start = _reset_peak(), time.process_time()
    try:
        value = function()
        seconds = time.process_time() - start
        outcome = Outcome(value=value, seconds=seconds, memory=_peak() - start_memory)
    except Exception:  # A peer that fails must not end the run.
        outcome = Outcome(error=traceback.format_exc())
    sender.send(outcome)
    sender.close()


def _reset_peak() -> float:
    """Forget the peak of the parent; return the memory now, in MiB."""
    if not _STATUS.exists():
        return _peak()
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _peak() -> float:
    if _STATUS.exists():
        return _status("VmHWM")
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def _status(name: str) -> float:
    for line in _STATUS.read_text().splitlines():
        if line.startswith(f"{name}:"):
            return float(line.split()[1]) / 2**10
    raise ValueError(f"The kernel does not tell {name}.")
