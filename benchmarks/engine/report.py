# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tables of a run."""

from __future__ import annotations

__all__ = ("write_report",)

from pathlib import Path

from .targets import evaluate_targets


def write_report(tables, folder: Path) -> str:
    """Write the report of a run; return its table of targets."""
    lines = []
    for target in evaluate_targets(tables):
        reached = "yes" if target.reached else "NO"
        lines.append(f"{target.number:2d} {reached:3s} {target.quantity}: {target.wanted}")
        lines += [f"       {check}" for check in target.checks]
    return "\n".join(lines)
