# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Diagrams of a comparison: fluxes, positions, widths, fit, exposures."""

from __future__ import annotations

__all__ = (
    "make_exposure_figure",
    "make_fit_figure",
    "make_flux_figure",
    "make_psf_figure",
)

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from ..._coadds import CoaddView
from ..._magnitudes import AB_ZERO, mag_from_flux
from .._metrics import Comparison
from .._photometry import middle_psf
from .._rows import measure_median
from ._style import COLOURS, MARKERS, choose_places, find_units

if TYPE_CHECKING:
    from astropy.table import Table

_RADIUS = 10  # of the profiles, in pixels
_LINEAR_BELOW = 1e-2  # of the profiles, peak 1

_STAGES = {
    "statistic": "linear model of the exposures,\nartifacts are clipped anew after each step",
    "latent": "the finished latent against\nthe exposures: one step",
    "mm": "multiplicative updates of the latent",
    "self": "training on the exposures themselves",
    "paper": "training on the exposures themselves",
}
"""What happens in each stage of a fit."""


def _make_figure(title: str, *, width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    figure.suptitle(title, fontsize=10)
    return figure


def _finish(axis: Axes, *, title: str = "") -> None:
    """Give an axis what all of them have."""
    axis.tick_params(labelsize=8)
    axis.grid(alpha=0.3, linewidth=0.4)
    if title:
        axis.set_title(title, fontsize=9)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=7, loc="best")


def make_flux_figure(views: Sequence[CoaddView], comparison: Comparison, *, title: str) -> Figure:
    """Draw flux ratios and centroid offsets against brightness.

    Parameters
    ----------
    views
        Planes; the first is the reference.
    comparison
        What was measured on them.
    title
        The data id, and what else stands over the picture.
    """
    figure = _make_figure(title, width=9.5, height=8.5)
    axes = figure.subplots(3, 1, sharex=True)
    reference = comparison.fluxes[views[0].name]
    with np.errstate(divide="ignore", invalid="ignore"):
        magnitude = np.where(reference > 0, mag_from_flux(reference), np.nan)
    levels, limits = (1.0, 0.0, 0.0), [0.15, 60.0, 60.0]
    places = choose_places([view.name for view in views])
    for k, view in list(zip(places, views, strict=True))[1:]:
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = comparison.fluxes[view.name] / reference
        for i, values in enumerate((ratio, *comparison.offsets[view.name])):
            reach = _draw_binned(axes[i], magnitude, values, comparison.snr, k, view.name, levels[i])
            limits[i] = max(limits[i], 1.1 * reach)
    units = find_units(comparison)
    small = "px / 1000" if units.in_pixels else "mas"
    labels = ("flux / reference", f"x - reference [{small}]", f"y - reference [{small}]")
    for axis, label, level, limit in zip(axes, labels, levels, limits, strict=True):
        axis.axhline(level, color="black", linewidth=0.8)
        axis.set_ylim(level - limit, level + limit)
        axis.set_ylabel(label, fontsize=8)
        _finish(axis)
    axes[0].set_title(
        f"sources of S/N > 5, all planes at a Gaussian PSF of {comparison.common_fwhm:.2f} px FWHM; "
        "large: medians with errors",
        fontsize=9,
    )
    scale = "AB" if units.flux == "nJy" else f"{AB_ZERO} - 2.5 log10(counts)"
    axes[-1].set_xlabel(f"magnitude in {views[0].name} [{scale}], aperture", fontsize=8)
    return figure


def _draw_binned(
    axis: Axes, magnitude: np.ndarray, values: np.ndarray, snr: np.ndarray, k: int, name: str, level: float
) -> float:
    """Draw values, and medians with errors in bins of one magnitude; return
    how far these reach from a level.
    """
    seen = np.isfinite(magnitude) & np.isfinite(values) & (snr > 5)
    axis.plot(magnitude[seen], values[seen], MARKERS[k], color=COLOURS[k], ms=2.5, alpha=0.45)
    if not seen.any():
        return 0.0
    edges = np.arange(np.floor(magnitude[seen].min()), magnitude[seen].max() + 1)
    points = []
    for low in edges:
        inside = seen & (magnitude >= low) & (magnitude < low + 1)
        value, error, n = measure_median(values[inside])
        if n >= 3:
            points.append((low + 0.5 + 0.06 * (k - 1.5), value, error))
    x, y, error = np.array(points).reshape(-1, 3).T
    axis.errorbar(
        x, y, error, fmt=MARKERS[k], color=COLOURS[k], ms=7, mec="white", capsize=2, label=name, zorder=3
    )
    return float(np.max(np.abs(y - level) + np.nan_to_num(error), initial=0.0))


def make_psf_figure(views: Sequence[CoaddView], comparison: Comparison, *, title: str) -> Figure:
    """Draw the width and profile of stars against the attached PSF.

    Parameters
    ----------
    views, comparison, title
        As for `make_flux_figure`.
    """
    figure = _make_figure(title, width=3.6 * (len(views) + 1), height=4.6)
    axes = figure.subplots(1, len(views) + 1)
    places = [(comparison.sources.x[i], comparison.sources.y[i]) for i in np.flatnonzero(comparison.stars)]
    snr = comparison.snr[comparison.stars]
    colours, reach = choose_places([view.name for view in views]), 0.15
    for column, (k, view) in enumerate(zip(colours, views, strict=True), start=1):
        shapes = comparison.shapes[view.name]
        ratio = shapes.fwhm / shapes.placed_fwhm
        value, error, n = measure_median(ratio)
        label = f"{view.name}: {value:.3f} ± {error:.3f}, n={n}" if n else f"{view.name}: no star"
        axes[0].plot(snr, ratio, MARKERS[k], color=COLOURS[k], ms=5, alpha=0.8, label=label)
        reach = max(reach, 1.3 * abs(value - 1)) if n else reach
        _draw_profile(axes[column], view, places, k)
        axes[column].set_xlabel(f"radius [{find_units(comparison).name_pixel(view)}]", fontsize=8)
    axes[0].axhline(1, color="black", linewidth=0.8)
    axes[0].set(xscale="log" if len(places) else "linear", ylim=(1 - reach, 1 + reach))
    if len(places):
        axes[0].xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes[0].xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes[0].xaxis.set_minor_formatter(NullFormatter())
    axes[0].set_xlabel(f"S/N in {views[0].name}", fontsize=8)
    axes[0].set_ylabel("FWHM of star / FWHM of attached PSF", fontsize=8)
    _finish(axes[0], title="widths, PSF at the star's place in its pixel")
    axes[1].set_ylabel(
        f"flux / peak of attached PSF (logarithmic, linear below {_LINEAR_BELOW:g})", fontsize=8
    )
    return figure


def _draw_profile(axis: Axes, view: CoaddView, places: Sequence[tuple[float, float]], k: int) -> None:
    """Draw the pixels of stars and of the attached PSF, peak 1."""
    radius, value = _gather_profile(view, places)
    axis.plot(radius, value, ".", color=COLOURS[k], ms=2.5, alpha=0.4, label=f"{len(places)} stars")
    kernel = middle_psf(view)
    if kernel is not None:
        centres, profile = _average_profile(kernel)
        axis.plot(centres, profile, color="#e69f00", linewidth=2, label="attached PSF")
    axis.set_yscale("symlog", linthresh=_LINEAR_BELOW)
    axis.set(xlim=(0, _RADIUS), ylim=(-0.02, 1.3))
    _finish(axis, title=view.name)


def _average_profile(kernel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the azimuthal mean of a PSF in rings of half a pixel, peak 1."""
    half = kernel.shape[0] // 2
    offset = np.arange(kernel.shape[0]) - half
    radius = np.hypot(offset[:, None], offset[None]).ravel()
    index = np.round(2 * radius).astype(int)
    count = np.bincount(index)
    rings = np.flatnonzero(count)
    mean = np.bincount(index, kernel.ravel())[rings] / count[rings]
    distance = np.bincount(index, radius)[rings] / count[rings]
    return distance, mean / kernel[half, half]


def _gather_profile(view: CoaddView, places: Sequence[tuple[float, float]]) -> tuple[np.ndarray, np.ndarray]:
    """Collect the pixels of stars, scaled by the flux of the attached PSF."""
    radii, values = [np.zeros(0)], [np.zeros(0)]
    dy, dx = np.mgrid[-_RADIUS : _RADIUS + 1, -_RADIUS : _RADIUS + 1]
    for x, y in places:
        stamp, kernel = view.stamp(x=x, y=y, half=_RADIUS), view.psf(x=x, y=y)
        if stamp is None or kernel is None:
            continue
        peak = kernel.max() / kernel.sum() * stamp.sum()
        radii.append(np.hypot(dx - (x - round(x)), dy - (y - round(y))).ravel())
        values.append((stamp / peak).ravel())
    return np.concatenate(radii), np.concatenate(values)


def make_fit_figure(history: Table, *, title: str) -> Figure | None:
    """Draw loss and chi2 of the fit by stage and step.

    Parameters
    ----------
    history
        Columns ``cell_i``, ``cell_j``, ``stage``, ``step``, ``loss``,
        ``held_out_loss`` and ``chi2``.
    title
        As for `make_flux_figure`.

    Returns
    -------
    `matplotlib.figure.Figure` or `None`
        `None` for an empty table.
    """
    stages = list(dict.fromkeys(str(stage) for stage in history["stage"]))
    if not stages:
        return None
    figure = _make_figure(title, width=max(6.5, 3.4 * len(stages) + 1), height=6.0)
    axes = figure.subplots(2, len(stages), sharex="col", squeeze=False)
    for column, stage in enumerate(stages):
        rows = history[np.asarray(history["stage"]).astype(str) == stage]
        _draw_steps(axes[0, column], rows, "loss", 1)
        _draw_steps(axes[0, column], rows, "held_out_loss", 2)
        _draw_steps(axes[1, column], rows, "chi2", 3)
        axes[1, column].axhline(1, color="black", linewidth=0.8)
        axes[1, column].set_xlabel("step", fontsize=8)
        _finish(axes[0, column], title=f"stage: {stage}\n{_STAGES.get(stage, '')}".strip())
        _finish(axes[1, column])
        axes[1, column].xaxis.get_major_locator().set_params(integer=True)
    axes[0, 0].set_ylabel("loss (median of the cells, 16 - 84 %)", fontsize=8)
    axes[1, 0].set_ylabel("reduced chi2", fontsize=8)
    return figure


def _draw_steps(axis: Axes, rows: Table, name: str, k: int) -> None:
    """Draw the median of a column over the cells, and where most lie."""
    step, values = np.asarray(rows["step"]), np.asarray(rows[name], dtype=float)
    if not np.isfinite(values).any():
        return
    steps = np.unique(step[np.isfinite(values)])
    bands = np.array([np.nanpercentile(values[step == one], (16, 50, 84)) for one in steps])
    label = name.replace("_", " ")
    axis.plot(steps, bands[:, 1], MARKERS[k] + "-", color=COLOURS[k], ms=4, label=label)
    if len(steps) > 1:
        axis.fill_between(steps, bands[:, 0], bands[:, 2], color=COLOURS[k], alpha=0.2, linewidth=0)
    else:
        spread = np.abs(bands[:, [0, 2]].T - bands[:, 1])
        axis.errorbar(steps, bands[:, 1], spread, color=COLOURS[k], capsize=3)
        axis.set_xlim(steps[0] - 1, steps[0] + 1)


def make_exposure_figure(inputs: Table, *, title: str) -> Figure | None:
    """Draw the reduced chi2 of each exposure, and its PSF.

    Parameters
    ----------
    inputs
        Table of inputs, with columns ``visit``, ``detector``, ``kept``,
        ``chi2`` and ``psf_fwhm_arcsec``.
    title
        As for `make_flux_figure`.

    Returns
    -------
    `matplotlib.figure.Figure` or `None`
        `None` for an empty table.
    """
    if not len(inputs):
        return None
    order = np.argsort([(int(row["visit"]) << 12) + int(row["detector"]) for row in inputs])
    rows = inputs[order]
    kept = np.asarray(rows["kept"], dtype=bool)
    place = np.arange(len(rows))
    figure = _make_figure(title, width=max(7.0, min(0.32 * len(rows) + 2, 24)), height=5.6)
    size = {"markersize": min(6.0, max(2.0, 1600 / len(rows)))}  # side by side, in points
    axes = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    for axis, name, label in (
        (axes[0], "chi2", "reduced chi2 against the model"),
        (axes[1], "psf_fwhm_arcsec", "PSF FWHM [arcsec]"),
    ):
        values = np.asarray(rows[name], dtype=float)
        axis.plot(
            place[kept], values[kept], MARKERS[1], color=COLOURS[1], label=f"used ({kept.sum()})", **size
        )
        if not kept.all():
            text = f"dropped ({(~kept).sum()}; at the foot: not measured)"
            axis.plot(place[~kept], values[~kept], "x", color=COLOURS[2], label=text, **size)
            unknown = place[~kept & ~np.isfinite(values)]
            if len(unknown):  # the layout breaks over a line of no points
                foot = {"transform": axis.get_xaxis_transform(), "clip_on": False}
                axis.plot(unknown, np.zeros(len(unknown)), "x", color=COLOURS[2], **size, **foot)
        axis.set_ylabel(label, fontsize=8)
    axes[0].axhline(1, color="black", linewidth=0.8)
    _finish(axes[0], title=f"{kept.sum()} of {len(rows)} exposures used")
    _finish(axes[1])
    if (legend := axes[1].get_legend()) is not None:
        legend.remove()
    every = max(1, len(rows) // 60)
    labels = [f"{row['visit']} / {row['detector']}" for row in rows[::every]]
    axes[1].set_xticks(place[::every], labels, rotation=90, fontsize=6)
    axes[1].set_xlabel("visit / detector", fontsize=8)
    return figure
