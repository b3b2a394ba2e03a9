# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Detection by the tasks of the Science Pipelines, against the truth.

``python -m benchmarks.detection REPO --collections u/demo/acn`` takes the
repository of ``acn demo`` and a run of ``pipelines/acn.yaml`` in it, and runs
the task that ``acn-measure.yaml`` detects with on ``acn_coadd`` and
``deepCoadd``, with our subtask and with those of the stack. ``--out FILE``
writes the table. Needs the full stack; a minute at full size.
"""

from __future__ import annotations

import argparse
import dataclasses
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial import KDTree

from lsst.coadd.astroclearnet._coadds import view_from_cell_coadd
from lsst.daf.butler import Butler, DataCoordinate

from .catalog_match import look_up
from .print_lines import format_table, print_lines

_DETECTIONS = {
    ("acn_coadd", "acn-measure.yaml"): "DetectAcnSourcesTask",
    ("acn_coadd", "one scatter for the patch"): "stdev",
    ("deepCoadd", "as in acn-measure.yaml"): "DetectAcnSourcesTask",
    ("deepCoadd", "default of the stack"): "default",
}
"""What is run: coadd and title, and which subtask or setting. By the default
of the stack, ``acn_coadd`` has more than a thousand peaks a square arcminute,
and at full size that does not come to an end."""

_FOUND, _FALSE = 3.0, 5.0
"""Distance in pixels to which a peak is that of a source, and beyond which it
is of none."""

_MAGNITUDES = (24.5, 25.0, 25.5, 26.0, 26.5)

_FEW = 5
"""Fewer exposures than these are told apart."""


@dataclasses.dataclass
class Peaks:
    """Peaks of the sources that were detected, in pixels of the tract."""

    x: np.ndarray
    y: np.ndarray
    alone: np.ndarray
    """Whether the footprint has no other peak, bool ``(n,)``."""


def detect(exposure: Any, how: str) -> Peaks:
    """Detect sources on an ``lsst.afw.image.ExposureF``, as ``_DETECTIONS``
    has it.
    """
    from lsst.afw.table import IdFactory
    from lsst.coadd.astroclearnet.detect_acn_sources import DetectAcnSourcesTask
    from lsst.pipe.tasks.multiBand import DetectCoaddSourcesTask

    config = DetectCoaddSourcesTask.ConfigClass()
    config.detection.doThresholdScaling = how == "default"
    if how == "DetectAcnSourcesTask":
        config.detection.retarget(DetectAcnSourcesTask)
    elif how == "stdev":
        config.detection.thresholdType = "stdev"
    found = DetectCoaddSourcesTask(config=config).run(exposure, IdFactory.makeSimple(), 1)
    footprints = [source.getFootprint().getPeaks() for source in found.outputSources]
    table = [(peak.getFx(), peak.getFy(), len(peaks) == 1) for peaks in footprints for peak in peaks]
    x, y, alone = np.array(table).reshape(-1, 3).T
    return Peaks(x=x, y=y, alone=alone.astype(bool))


def describe_peaks(peaks: Peaks, truth: Any, n_image: Any) -> list[str]:
    """Make the cells of a row: peaks, those of no source, and the share of
    the sources that were found.
    """
    sources = np.stack([truth["x"], truth["y"]], axis=1)
    places = np.stack([peaks.x, peaks.y], axis=1)
    false = KDTree(sources).query(places)[0] > _FALSE
    few = look_up(n_image, peaks.x, peaks.y) < _FEW
    cells = [len(false), false.sum(), (false & peaks.alone).sum(), (false & few).sum()]
    found = KDTree(places).query(sources)[0] < _FOUND
    seen = look_up(n_image, sources[:, 0], sources[:, 1]) > 0
    shares = []
    for low, high in zip(_MAGNITUDES, _MAGNITUDES[1:], strict=False):
        chosen = seen & (truth["mag"] >= low) & (truth["mag"] < high)
        shares.append(f"{found[chosen].mean():.2f} of {chosen.sum()}" if chosen.any() else "-")
    return [*map(str, cells), *shares]


def make_lines(butler: Butler, data_id: DataCoordinate) -> Iterator[str]:
    """Make the lines of the table, and what it is."""
    truth, n_image = (butler.get(name, data_id) for name in ("acn_truth_catalog", "acn_coadd_n_image"))
    seen, few = (n_image.array > 0), (n_image.array < _FEW)
    box = n_image.bbox
    view = view_from_cell_coadd(butler.get("acn_coadd", data_id), name="acn_coadd")
    pixel = (view.pixel_scale / 60) ** 2
    yield from ("# Detection by the tasks of the stack", "")
    text = (
        f"A patch of {box.x.size} x {box.y.size} px of acn demo, {seen.sum() * pixel:.1f} square "
        f"arcminutes with exposures, {(seen & few).sum() * pixel:.1f} with fewer than {_FEW}. Peaks of "
        f"DetectCoaddSourcesTask; those farther than {_FALSE:g} px from any true source: all, those without "
        f"another peak in their footprint, and those where fewer than {_FEW} exposures reach; then the share "
        f"of the sources with a peak within {_FOUND:g} px, by magnitude."
    )
    yield from (*textwrap.wrap(text, 100), "")
    bins = [f"{low:g}-{high:g}" for low, high in zip(_MAGNITUDES, _MAGNITUDES[1:], strict=False)]
    titles = ["coadd", "detection", "peaks", "of no source", "alone", "few exposures", *bins]

    def make_row(name: str, title: str, how: str) -> list[str]:
        peaks = detect(butler.get(name, data_id, storageClass="ExposureF"), how)
        return [name, title, *describe_peaks(peaks, truth, n_image)]

    yield from format_table(titles, (make_row(*names, how) for names, how in _DETECTIONS.items()))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.detection", description=__doc__.splitlines()[0]
    )
    parser.add_argument("repo", help="repository of acn demo")
    parser.add_argument("--collections", required=True, help="a run of pipelines/acn.yaml")
    parser.add_argument("--out", type=Path, help="write the table to this file")
    options = parser.parse_args()
    butler = Butler.from_config(options.repo, collections=options.collections.split(","))
    (ref,) = butler.query_datasets("acn_coadd")
    print_lines(make_lines(butler, ref.dataId), options.out)


if __name__ == "__main__":
    main()
