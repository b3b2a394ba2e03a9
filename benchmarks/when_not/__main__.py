# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""What becomes of sources that not every exposure shows alike; of fluxes in
crowded fields; of smooth light; and of stars where the PSFs change in a cell.

``python -m benchmarks.when_not`` prints the tables that the page of the guide
of the same name has its figures from. ``--quick`` takes two skies of each
kind, ``--out FILE`` writes them.
"""

from __future__ import annotations

import argparse
import platform
import textwrap
from collections.abc import Iterator
from pathlib import Path

import torch

from ..print_lines import print_lines
from . import crowded, psfs, smooth, variables
from .skies import N_EXPOSURES


def _report(quick: bool) -> Iterator[str]:
    text = (
        f"{N_EXPOSURES} simulated exposures of 0.5 to 0.9 arcsec without artifacts; seeds in "
        f"`benchmarks/when_not/`; {platform.machine()}, one thread. S/N is that of the optimal filter "
        "against the noise of the sky. Errors are those of the means."
    )
    yield from textwrap.wrap(text, 100)
    for section in (variables, crowded, smooth, psfs):
        yield ""
        yield from section.report(quick=quick)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.when_not", description=" ".join(__doc__.split("\n\n")[0].split())
    )
    parser.add_argument("--quick", action="store_true", help="two skies of each kind")
    parser.add_argument("--out", type=Path, help="write the tables to this file, too")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print_lines(_report(options.quick), options.out)


if __name__ == "__main__":
    main()
