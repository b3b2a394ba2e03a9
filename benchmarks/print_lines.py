# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tables that appear line by line."""

from __future__ import annotations

__all__ = ("print_lines",)

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path


def print_lines(lines: Iterable[str], out: Path | None) -> None:
    """Print each line when it is there; write all to a file in the end.

    Parameters
    ----------
    lines
        The text.
    out
        The file; `None` for none.
    """
    kept = []
    for line in lines:
        kept.append(line)
        print(line, flush=True)
    if out:
        out.write_text("\n".join(kept) + "\n")


def format_table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Make the lines of a table in Markdown; each when its row is there."""
    yield f"| {' | '.join(titles)} |"
    yield "|---" * len(titles) + "|"
    for cells in rows:
        yield f"| {' | '.join(cells)} |"
