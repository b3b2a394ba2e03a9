# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pictures of a run."""

from __future__ import annotations

__all__ = ("DIAGRAMS", "draw_pictures")

from pathlib import Path

import astropy.table
import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from scipy.ndimage import uniform_filter

from . import metrics
from .pool import Pool
from .summary import FLUX_SCENES

DIAGRAMS = ("flux_bias.png", "fwhm.png", "completeness.png")
"""Pictures of figures, not of images."""

_STRIP = (
    ("clipped mean/coadd", "clipped mean"),
    ("proper/coadd", "proper coadd"),
    ("deconvolved coadd/latent", "deconvolved coadd"),
    ("image mm/latent", "ImageMM"),
    ("mm/latent", "MM, latent PSF"),
    ("pixels/latent", "pixels"),
    ("starred/latent", "STARRED"),
    ("paper/latent", "paper's network"),
    ("self/latent", "self"),
    ("engine/latent", "engine, latent"),
    ("engine/coadd", "engine, coadd"),
)
"""Planes of a strip and their titles; those that were run are shown."""

_CURVES = {
    ("engine", "latent"): "C3",
    ("engine", "coadd"): "C1",
    ("clipped mean", "coadd"): "C0",
    ("mm", "latent"): "C2",
}
"""Planes of the diagrams, and their colours."""

_BINS = ((3, 6), (6, 10), (10, 20), (20, 50), (50, 100), (100, 300), (300, 2000))
_CROP = 176
"""Side of the part of a scene that a strip shows, in pixels."""


def draw_pictures(tables, summary: astropy.table.Table, folder: Path) -> list[Path]:
    """Draw all pictures that a run has the data for.

    Returns
    -------
    `list` [`pathlib.Path`]
        Files in ``folder``.
    """
    pool = Pool(tables)
    files = [
        draw_strip(file, folder / f"strip_{file.stem.replace(' ', '_')}.png")
        for file in sorted((folder / "images").glob("*.npz"))
    ]
    if len(tables["sources"]):
        files.append(_draw_fluxes(pool, folder / "flux_bias.png"))
        files.append(_draw_widths(pool, folder / "fwhm.png"))
    if len(summary) and np.any(summary["quantity"] == "completeness"):
        files.append(_draw_completeness(summary, folder / "completeness.png"))
    return files


def draw_strip(source: Path, target: Path) -> Path:
    """Draw the images of a scene in a row, their errors below.

    Parameters
    ----------
    source
        Images as a run keeps them.
    target
        File to write.
    """
    with np.load(source) as images:
        known = [(name, title) for name, title in _STRIP if name in images]
        unit = float(images["unit"])
        cut = _busiest(images["truth"] / unit)
        top = [("truth", images["truth"]), ("sharpest exposure", images["exposure"])]
        top += [(title, images[name]) for name, title in known]
        errors = {title: images[name] - images[f"truth of {name}"] for name, title in known}
        figure, axes = plt.subplots(
            2, len(top), figsize=(1.9 * len(top), 4.3), squeeze=False, layout="constrained"
        )
        for column, (title, image) in enumerate(top):
            _show(axes[0, column], image[cut], unit, title)
            if title in errors:
                _show(axes[1, column], errors[title][cut], unit, "minus truth")
            else:
                axes[1, column].axis("off")
    figure.suptitle(f"{source.stem}: asinh scale, -5 to 300 sigma of a mean coadd", fontsize=8)
    figure.savefig(target, dpi=130)
    plt.close(figure)
    return target


def _busiest(truth: np.ndarray) -> tuple[slice, slice]:
    """Find the part with the most light, bright sources not counting more
    than others; the truth is in units of the noise.
    """
    side = min(_CROP, *truth.shape)
    light = uniform_filter(np.minimum(truth, 20.0).astype(float), side, mode="constant")
    half = side // 2
    inner = light[half : truth.shape[0] - side + half + 1, half : truth.shape[1] - side + half + 1]
    row, column = np.unravel_index(np.argmax(inner), inner.shape)
    return np.s_[row : row + side, column : column + side]


def _show(axis: plt.Axes, image: np.ndarray, unit: float, title: str) -> None:
    scaled = np.arcsinh(image / unit)
    axis.imshow(scaled, origin="lower", cmap="gray", vmin=np.arcsinh(-5), vmax=np.arcsinh(300))
    axis.set_title(title, fontsize=7, pad=2)
    axis.axis("off")


def _curve(axis: plt.Axes, pool: Pool, column: str, kind: str, *, scale: float, offset: float = 0.0) -> None:
    for shift, ((peer, plane), colour) in enumerate(_CURVES.items()):
        points = []
        for low, high in _BINS:
            sources = pool.sources(peer, plane, kind=kind, snr=(low, high), group=FLUX_SCENES)
            summary = metrics.summarize(np.array(sources[column]) + offset, sources["object"])
            if summary.n > 3:
                middle = (low * high) ** 0.5 * (1 + 0.04 * shift)
                points.append((middle, scale * summary.median, scale * summary.median_error))
        if points:
            axis.errorbar(
                *np.transpose(points), fmt="o-", ms=3, lw=1, color=colour, label=f"{peer} ({plane})"
            )
    axis.set_xscale("log")
    axis.set_xlabel("S/N")
    axis.set_title(kind, fontsize=9)


def _draw_fluxes(pool: Pool, target: Path) -> Path:
    """Flux bias against S/N, in the aperture of 1 arcsec."""
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.4), sharey=True)
    for axis, kind in zip(axes, ("star", "small", "large"), strict=True):
        axis.axhspan(-1, 1, color="0.9")
        _curve(axis, pool, "aperture_error", kind, scale=100)
        axis.set_ylim(-20, 20)
    axes[0].set_ylabel("flux bias in 1 arcsec, %")
    _add_legend(axes[0])
    return _finish(figure, target)


def _draw_widths(pool: Pool, target: Path) -> Path:
    """Width of stars over the declared PSF's against S/N."""
    figure, axis = plt.subplots(figsize=(5, 3.4))
    axis.axhspan(-2, 2, color="0.9")
    _curve(axis, pool, "fwhm_ratio", "star", scale=100, offset=-1.0)
    axis.set_ylabel("star FWHM over the PSF's, minus 1, %")
    axis.set_ylim(-12, 12)
    _add_legend(axis)
    return _finish(figure, target)


def _draw_completeness(summary: astropy.table.Table, target: Path) -> Path:
    """Completeness of each plane on each scene."""
    mine = summary[summary["quantity"] == "completeness"]
    scenes = list(dict.fromkeys(mine["scene"]))
    planes = [
        plane for plane in dict.fromkeys(zip(mine["peer"], mine["plane"], strict=True)) if plane in _CURVES
    ]
    figure, axis = plt.subplots(figsize=(7, 3.4))
    for shift, (peer, plane) in enumerate(planes):
        rows = mine[(mine["peer"] == peer) & (mine["plane"] == plane)]
        places = [scenes.index(scene) + 0.12 * (shift - len(planes) / 2) for scene in rows["scene"]]
        axis.errorbar(
            places,
            rows["value"],
            rows["error"],
            fmt="o",
            ms=4,
            color=_CURVES[peer, plane],
            label=f"{peer} ({plane})",
        )
    axis.set_xticks(range(len(scenes)), scenes, rotation=30, ha="right", fontsize=8)
    axis.set_ylabel("completeness at S/N > 3")
    axis.set_title("at thresholds without a false detection", fontsize=9, loc="left")
    if planes:  # above the axes, for points may lie anywhere in them
        corner = {"loc": "lower right", "bbox_to_anchor": (1.0, 1.0), "borderaxespad": 0.3}
        axis.legend(fontsize=7, ncols=2, frameon=False, **corner)
    return _finish(figure, target)


def _add_legend(axis: plt.Axes) -> None:
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=7)


def _finish(figure: plt.Figure, target: Path) -> Path:
    figure.tight_layout()
    figure.savefig(target, dpi=130)
    plt.close(figure)
    return target
