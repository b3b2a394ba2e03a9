# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""The picture of a comparison: the same sky side by side."""

from __future__ import annotations

__all__ = ("make_comparison_figure",)

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import AsinhNorm, BoundaryNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from scipy.interpolate import make_interp_spline

from ._coadds import CoaddView
from ._metrics import Comparison

_ZOOM = 96  # side of the zooms, in pixels
_STYLES = ("#555555", "#d1495b", "#00798c", "#edae49")


def make_comparison_figure(
    views: Sequence[CoaddView],
    comparison: Comparison,
    *,
    n_image: np.ndarray,
    title: str,
    zoom: int = _ZOOM,
) -> Figure:
    """Draw the planes at one stretch: the patch, two zooms, two diagrams.

    Parameters
    ----------
    views
        Planes on the same pixels; the first is the reference.
    comparison
        What was measured on them.
    n_image
        Number of inputs for each pixel, ``(y, x)``.
    title
        The data id.
    zoom
        Side of the zooms, in pixels.

    Returns
    -------
    `matplotlib.figure.Figure`
        Not tied to any window system.
    """
    reference = views[0]
    columns = len(views) + 1
    figure = Figure(figsize=(3.5 * columns + 0.8, 10.6), dpi=130, layout="constrained")
    axes = figure.subplots(3, columns)
    rms = comparison.sky_rms if np.isfinite(comparison.sky_rms) and comparison.sky_rms > 0 else 1.0
    norm = AsinhNorm(linear_width=2 * rms, vmin=-3 * rms, vmax=_find_top(reference, rms))
    zooms = _choose_zooms(reference, comparison, zoom)
    boxes = [reference.box, *zooms]
    for row, box in enumerate(boxes):
        for view, axis in zip(views, axes[row], strict=False):
            shown = _draw(axis, view.cutout(box), norm)
            axis.set_title(_describe(view, comparison) if row == 0 else view.name, fontsize=9)
    for name, box in zip("AB", zooms, strict=True):
        for axis in axes[0, : len(views)]:
            _mark(axis, box, name)
    for row, name in enumerate(("patch", "zoom A", "zoom B")):
        axes[row, 0].set_ylabel(f"{name}: y [px]", fontsize=8)
    for axis in axes[2, : len(views)]:
        axis.set_xlabel("x [px]", fontsize=8)
    bar = figure.colorbar(shown, ax=axes[:, : len(views)], location="bottom", shrink=0.6, aspect=50, pad=0.01)
    bar.set_label(f"flux [nJy / px]; asinh stretch, sky rms of {reference.name} = {rms:.3g} nJy")
    ticks = _choose_ticks(rms, norm.vmax)
    bar.set_ticks(ticks, labels=[f"{tick:g}" for tick in ticks], fontsize=7)
    bar.ax.minorticks_off()
    _draw_counts(figure, axes[0, -1], reference, n_image)
    _draw_ratios(axes[1, -1], views, comparison)
    _draw_profiles(axes[2, -1], views, comparison)
    figure.suptitle(title, fontsize=11)
    return figure


def _find_top(view: CoaddView, rms: float) -> float:
    """Choose the upper end of the stretch: bright, but not the brightest."""
    good = view.image[~view.bad]
    return max(100 * rms, float(np.percentile(good, 99.95))) if good.size else 100 * rms


def _choose_ticks(rms: float, top: float) -> list[float]:
    """Return 0 and 1, 3, 10, 30... times a round value near the rms."""
    unit = 10 ** np.round(np.log10(rms))
    steps = [unit * factor * 10.0**power for power in range(9) for factor in (1, 3)]
    return [0.0, *(step for step in steps if step <= top)]


def _draw(axis: Axes, view: CoaddView, norm: AsinhNorm):
    """Draw one plane; pixels without data are hatched grey."""
    x0, y0, width, height = view.box
    extent = (x0 - 0.5, x0 + width - 0.5, y0 - 0.5, y0 + height - 0.5)
    axis.set_facecolor("#8fa3b5")
    shown = axis.imshow(
        np.ma.masked_where(view.bad, view.image),
        norm=norm,
        extent=extent,
        origin="lower",
        cmap="gray",
        interpolation="nearest" if width <= 300 else "antialiased",
    )
    axis.autoscale(False)
    axis.tick_params(labelsize=6)
    axis.locator_params(nbins=4)
    return shown


def _describe(view: CoaddView, comparison: Comparison) -> str:
    """Write name and key figures of a plane."""
    rows = comparison.metrics[comparison.metrics["plane"] == view.name]
    values = {row["name"]: row["value"] for row in rows}
    width, rms = values.get("star_fwhm", np.nan), values.get("sky_rms", np.nan)
    parts = []
    if np.isfinite(width):
        parts.append(f'star FWHM {width:.2f}"')
    if np.isfinite(rms):
        parts.append(f"sky rms {rms:.3g} nJy")
    return view.name + ("\n" + ", ".join(parts) if parts else "\n")


def _mark(axis: Axes, box: tuple[int, int, int, int], name: str) -> None:
    """Outline a zoom on the picture of the patch."""
    x0, y0, width, height = box
    axis.add_patch(Rectangle((x0, y0), width, height, fill=False, color="#ffb000", linewidth=0.9))
    axis.annotate(
        name, (x0, y0 + height), color="#ffb000", fontsize=8, xytext=(2, 2), textcoords="offset points"
    )


def _choose_zooms(view: CoaddView, comparison: Comparison, zoom: int) -> list[tuple[int, int, int, int]]:
    """Choose a crowded place and, elsewhere, the brightest extended source."""
    x0, y0, width, height = view.box
    side = min(zoom, width, height)
    x, y = comparison.sources.x, comparison.sources.y
    # Where the reference has no flux (a saturated star) there is no zoom.
    measured = np.isfinite(comparison.snr) & np.isfinite(comparison.fluxes[view.name])
    score = np.where(measured, np.clip(comparison.snr, 0, 200), 0)
    if not len(x) or not score.any():
        return [(x0 + (width - side) // 2, y0 + (height - side) // 2, side, side)] * 2

    def place(i: int) -> tuple[int, int, int, int]:
        corner_x = int(np.clip(round(x[i]) - side // 2, x0, x0 + width - side))
        corner_y = int(np.clip(round(y[i]) - side // 2, y0, y0 + height - side))
        return corner_x, corner_y, side, side

    near = np.hypot(x[:, None] - x[None], y[:, None] - y[None]) < side / 4
    crowded = int(np.argmax((score > 10) * (near @ (score > 10)) * np.sqrt(score)))
    apart = np.hypot(x - x[crowded], y - y[crowded]) > side
    extended = score * apart * ~comparison.stars
    second = int(np.argmax(extended)) if extended.any() else crowded
    return [place(crowded), place(second)]


def _draw_counts(figure: Figure, axis: Axes, view: CoaddView, n_image: np.ndarray) -> None:
    """Draw the number of inputs."""
    x0, y0, width, height = view.box
    top = max(1, int(n_image.max()))
    norm = BoundaryNorm(np.arange(-0.5, top + 1), 256) if top <= 40 else None
    shown = axis.imshow(
        n_image,
        norm=norm,
        extent=(x0 - 0.5, x0 + width - 0.5, y0 - 0.5, y0 + height - 0.5),
        origin="lower",
        cmap="viridis",
        interpolation="nearest",
    )
    ticks = np.unique(np.linspace(0, top, 6).astype(int))
    bar = figure.colorbar(shown, ax=axis, location="right", shrink=0.8, ticks=ticks)
    bar.ax.tick_params(labelsize=6)
    axis.set_title("inputs per pixel\n", fontsize=9)
    axis.tick_params(labelsize=6)
    axis.locator_params(nbins=4)


def _draw_ratios(axis: Axes, views: Sequence[CoaddView], comparison: Comparison) -> None:
    """Draw flux ratios to the reference against S/N."""
    reference = comparison.fluxes[views[0].name]
    for view, colour in zip(views[1:], _STYLES[1:], strict=False):
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = comparison.fluxes[view.name] / reference
        seen = np.isfinite(ratio) & (comparison.snr > 3)
        axis.plot(comparison.snr[seen], ratio[seen], ".", color=colour, ms=3, alpha=0.6, label=view.name)
    axis.axhline(1, color="black", linewidth=0.6)
    top = np.max(comparison.snr[np.isfinite(comparison.snr * reference)], initial=1000.0)
    axis.set(xscale="log", xlim=(3, 1.5 * top), ylim=(0.6, 1.4))
    axis.set(xlabel="S/N in the reference", ylabel="flux / reference")
    axis.set_title("aperture fluxes at one PSF", fontsize=9)
    _finish_diagram(axis)


def _draw_profiles(axis: Axes, views: Sequence[CoaddView], comparison: Comparison) -> None:
    """Draw the mean profile of the stars in each plane, peak 1."""
    places = [(comparison.sources.x[i], comparison.sources.y[i]) for i in np.flatnonzero(comparison.stars)]
    for view, colour in zip(views, _STYLES, strict=False):
        radius, value = _gather_profile(view, places)
        if len(radius):
            axis.plot(radius, value, ".", color=colour, ms=2, alpha=0.35)
        kernel = view.psf(x=view.x0 + view.box[2] // 2, y=view.y0 + view.box[3] // 2)
        if kernel is not None:
            half = kernel.shape[0] // 2
            curve = make_interp_spline(np.arange(half + 1), kernel[half, half:] / kernel[half, half])
            radius = np.linspace(0, min(half, 10), 101)
            axis.plot(radius, curve(radius), color=colour, label=view.name)
    axis.set(xlim=(0, 10), ylim=(-0.05, 1.1), xlabel="radius [px]", ylabel="profile / peak")
    axis.set_title(f"{len(places)} stars (dots), attached PSF (lines)", fontsize=9)
    _finish_diagram(axis)


def _gather_profile(view: CoaddView, places: Sequence[tuple[float, float]]) -> tuple[np.ndarray, np.ndarray]:
    """Collect the pixels of stars, scaled by the flux of the attached PSF."""
    half = 10
    radii, values = [], []
    for x, y in places:
        column, row = round(x) - view.x0, round(y) - view.y0
        if not (half <= column < view.box[2] - half and half <= row < view.box[3] - half):
            continue
        part = np.s_[row - half : row + half + 1, column - half : column + half + 1]
        kernel = view.psf(x=x, y=y)
        if kernel is None or view.bad[part].any() or view.saturated[part].any():
            continue
        dy, dx = np.mgrid[-half : half + 1, -half : half + 1]
        stamp = view.image[part]
        peak = kernel.max() / kernel.sum() * stamp.sum()
        radii.append(np.hypot(dx - (x - round(x)), dy - (y - round(y))).ravel())
        values.append((stamp / peak).ravel())
    if not radii:
        return np.zeros(0), np.zeros(0)
    return np.concatenate(radii), np.concatenate(values)


def _finish_diagram(axis: Axes) -> None:
    axis.tick_params(labelsize=6)
    axis.xaxis.label.set_size(7)
    axis.yaxis.label.set_size(7)
    axis.grid(alpha=0.3, linewidth=0.4)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=6, loc="upper right")
