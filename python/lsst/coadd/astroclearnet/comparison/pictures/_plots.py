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

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colorbar import Colorbar
from matplotlib.colors import AsinhNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

from ..._coadds import CoaddView
from .._metrics import Comparison
from ._style import find_units
from ._zooms import Zoom, choose_zooms

_ZOOM = 72  # side of the zooms, in pixels
_NO_DATA = "#8fa3b5"
_MARK = "#ffb000"
_SIGNS = {"arcsec": '"', "pix": " px", "count": "counts"}

_Box = tuple[int, int, int, int]


def make_comparison_figure(
    views: Sequence[CoaddView],
    comparison: Comparison,
    *,
    n_image: np.ndarray | None = None,
    exposure: CoaddView | None = None,
    extra: Sequence[CoaddView] = (),
    title: str,
    zoom: int = _ZOOM,
) -> Figure:
    """Draw the planes at one stretch: the patch, and zooms on some sources.

    Parameters
    ----------
    views
        Planes on the same pixels; the first is the reference.
    comparison
        What was measured on them.
    n_image
        Number of inputs for each pixel, ``(y, x)``.
    exposure
        One exposure on these pixels, drawn before the coadds.
    extra
        Planes drawn after them: the truth of a simulation.
    title
        The data id, and what else stands over the picture.
    zoom
        Side of the zooms, in pixels.

    Returns
    -------
    `matplotlib.figure.Figure`
        Not tied to any window system.
    """
    reference = views[0]
    rms = comparison.sky_rms if np.isfinite(comparison.sky_rms) and comparison.sky_rms > 0 else 1.0
    images = [*([exposure] if exposure else []), *views, *extra]
    zooms = choose_zooms(views, comparison, side=zoom)
    residual = next(iter(comparison.residuals.items()), None)
    n_columns = len(images) + (residual is not None) + (n_image is not None)
    n_rows = 1 + len(zooms)
    figure, axes, bars = _lay_out(n_rows, n_columns, len(images), n_lines=1 + title.count("\n"))
    norm = AsinhNorm(linear_width=2 * rms, vmin=-3 * rms, vmax=_find_top(reference, rms))
    boxes = [_find_data(views), *(place.box for place in zooms)]
    for column, view in enumerate(images):
        for axis, box in zip(axes[:, column], boxes, strict=True):
            shown = _draw(axis, view.cutout(box), norm)
        axes[0, column].set_title(_describe(view, comparison), fontsize=8)
    units = find_units(comparison)
    text = f"flux [{units.flux} / px]; asinh stretch"
    if np.isfinite(comparison.sky_rms):
        text += f", sky rms of {comparison.noise_plane} = {comparison.sky_rms:.3g} {units.flux}"
    if any(view.bad.any() for view in views):
        text += "; blue-grey: no data"
    _add_stretch_bar(figure, shown, bars[0], norm, rms, text)
    if residual is not None:
        bar = _draw_residual(figure, axes[:, len(images)], bars[1], boxes, reference, residual, rms)
        bar.set_label(f"{units.flux} / px", fontsize=8)
    if n_image is not None:
        _draw_counts(figure, axes[:, -1], bars[-1], boxes, reference, n_image)
    _label(axes, zooms, units.name_pixel(reference))
    figure.suptitle(title, fontsize=10, y=1 - 0.08 / figure.get_figheight())
    return figure


def _lay_out(
    n_rows: int, n_columns: int, n_images: int, *, n_lines: int
) -> tuple[Figure, np.ndarray, list[Axes]]:
    """Place panels and colour bars, in inches.

    An automatic layout of so many panels takes longer than all the rest.
    """
    side, gap, left, bottom, head = 2.2, 0.28, 0.75, 0.95, 0.45
    top = head + 0.2 * n_lines
    width = left + n_columns * (side + 0.12) + 0.1
    height = bottom + n_rows * (side + gap) + top
    figure = Figure(figsize=(width, height), dpi=110)
    axes = np.empty((n_rows, n_columns), dtype=object)
    for row in range(n_rows):
        for column in range(n_columns):
            x, y = left + column * (side + 0.12), bottom + (n_rows - 1 - row) * (side + gap) + 0.1
            axes[row, column] = figure.add_axes((x / width, y / height, side / width, side / height))
    bars = []
    for first, last in ((0, n_images - 1), *((k, k) for k in range(n_images, n_columns))):
        start, end = left + first * (side + 0.12) + 0.1, left + last * (side + 0.12) + side - 0.1
        bars.append(figure.add_axes((start / width, 0.48 / height, (end - start) / width, 0.1 / height)))
    return figure, axes, bars


def _find_data(views: Sequence[CoaddView]) -> _Box:
    """Return the square with all pixels that have data, and a margin; the
    patch if that is not much more.
    """
    x0, y0, width, height = views[0].box
    rows, columns = np.nonzero(np.any([~view.bad for view in views], axis=0))
    if not len(rows):
        return views[0].box
    side = 1.1 * max(np.ptp(rows), np.ptp(columns))
    if side > 0.9 * min(width, height):
        return views[0].box
    side = int(side)
    left = int(np.clip((columns.min() + columns.max() - side) // 2, 0, width - side))
    bottom = int(np.clip((rows.min() + rows.max() - side) // 2, 0, height - side))
    return x0 + left, y0 + bottom, side, side


def _find_top(view: CoaddView, rms: float) -> float:
    """Choose the upper end of the stretch: bright, but not the brightest."""
    good = view.image[~view.bad]
    return max(100 * rms, float(np.percentile(good, 99.95))) if good.size else 100 * rms


def _choose_ticks(rms: float, top: float) -> list[float]:
    """Return 0 and 1, 3, 10, 30... times a round value near the rms."""
    unit = 10 ** np.round(np.log10(rms))
    steps = [unit * factor * 10.0**power for power in range(9) for factor in (1, 3)]
    return [0.0, *(step for step in steps if step <= top)]


def _show(axis: Axes, image: np.ndarray, box: _Box, norm: Normalize | None, cmap: str) -> AxesImage:
    """Draw pixels with their patch coordinates."""
    x0, y0, width, height = box
    axis.set_facecolor(_NO_DATA)
    shown = axis.imshow(
        image,
        norm=norm,
        extent=(x0 - 0.5, x0 + width - 0.5, y0 - 0.5, y0 + height - 0.5),
        origin="lower",
        cmap=cmap,
        interpolation="nearest" if width <= 300 else "antialiased",
    )
    axis.autoscale(False)
    axis.tick_params(labelsize=6)
    axis.locator_params(nbins=3)
    return shown


def _draw(axis: Axes, view: CoaddView, norm: Normalize) -> AxesImage:
    """Draw one plane; pixels without data are blue-grey."""
    return _show(axis, np.ma.masked_where(view.bad, view.image), view.box, norm, "gray")


def _cut(image: np.ndarray, box: _Box, view: CoaddView) -> np.ndarray:
    """Return the part of an array of the patch inside a box."""
    x0, y0, width, height = box
    return image[y0 - view.y0 : y0 - view.y0 + height, x0 - view.x0 : x0 - view.x0 + width]


def _describe(view: CoaddView, comparison: Comparison) -> str:
    """Write name and key figures of a plane."""
    rows = comparison.metrics[comparison.metrics["plane"] == view.name]
    values = {row["name"]: (row["value"], _SIGNS.get(row["unit"], row["unit"])) for row in rows}
    (width, length), (rms, unit) = (values.get(name, (np.nan, "")) for name in ("star_fwhm", "sky_rms"))
    parts = []
    if np.isfinite(width):
        parts.append(f"stars {width:.2f}{length}")
    if np.isfinite(rms):
        parts.append(f"sky rms {rms:.3g} {unit}")
    if not parts and view.configuration:
        parts.append(view.configuration)
    return view.name + "\n" + ", ".join(parts)


def _add_stretch_bar(
    figure: Figure,
    shown: AxesImage,
    place: Axes,
    norm: AsinhNorm,
    rms: float,
    text: str,
) -> None:
    """Add the colour bar of the planes."""
    bar = figure.colorbar(shown, cax=place, orientation="horizontal")
    bar.set_label(text, fontsize=8)
    ticks = _choose_ticks(rms, norm.vmax)
    bar.set_ticks(ticks, labels=[f"{tick:g}" for tick in ticks], fontsize=7)
    bar.ax.minorticks_off()


def _draw_residual(
    figure: Figure,
    axes: np.ndarray,
    place: Axes,
    boxes: Sequence[_Box],
    reference: CoaddView,
    residual: tuple[str, np.ndarray],
    rms: float,
) -> Colorbar:
    """Draw the reference minus the second plane; return the colour bar."""
    name, image = residual
    for axis, box in zip(axes, boxes, strict=True):
        part = np.ma.masked_invalid(_cut(image, box, reference))
        shown = _show(axis, part, box, Normalize(-3 * rms, 3 * rms), "PuOr")
    axes[0].set_title(f"{reference.name}\n- {name}, at one PSF", fontsize=8)
    bar = figure.colorbar(shown, cax=place, orientation="horizontal", extend="both")
    bar.ax.tick_params(labelsize=7)
    return bar


def _draw_counts(
    figure: Figure,
    axes: np.ndarray,
    place: Axes,
    boxes: Sequence[_Box],
    reference: CoaddView,
    n_image: np.ndarray,
) -> None:
    """Draw the number of inputs."""
    top = max(1, int(n_image.max()))
    for axis, box in zip(axes, boxes, strict=True):
        shown = _show(axis, _cut(n_image, box, reference), box, Normalize(0, top), "viridis")
    axes[0].set_title("n_image\ninputs used", fontsize=8)
    ticks = np.unique(np.linspace(0, top, 5).astype(int))
    bar = figure.colorbar(shown, cax=place, orientation="horizontal", ticks=ticks)
    bar.set_label("exposures", fontsize=8)
    bar.ax.tick_params(labelsize=7)


def _label(axes: np.ndarray, zooms: Sequence[Zoom], pixel: str) -> None:
    """Name the rows and mark the zooms on the pictures of the patch."""
    for axis in axes[:, 1:].flat:
        axis.tick_params(labelleft=False)
    for axis in axes[-1]:
        axis.set_xlabel(f"x [{pixel}]", fontsize=7)
    names = ["patch", *(f"{letter}: {zoom.label}" for letter, zoom in zip("ABCDEFG", zooms, strict=False))]
    for axis, name in zip(axes[:, 0], names, strict=True):
        # A name of two lines is as long as a row, and a third has no room.
        text = f"{name}\ny [px]" if len(name) <= 36 else textwrap.fill(f"{name}; y [px]", 36)
        axis.set_ylabel(text, fontsize=8)
    for k, (letter, zoom) in enumerate(zip("ABCDEFG", zooms, strict=False)):
        x0, y0, width, height = zoom.box
        x0, y0 = x0 - 0.5, y0 - 0.5  # from the edge of its pixels
        # Inside, where no end of the picture cuts it, and in another corner
        # than the next, whose box may touch this one.
        right, low = k % 2, k // 2 % 2
        corner = x0 + right * width, y0 + (1 - low) * height
        for axis in axes[0]:
            limits = zip(corner, (axis.get_xlim(), axis.get_ylim()), strict=True)
            axis.add_patch(Rectangle((x0, y0), width, height, fill=False, color=_MARK, linewidth=0.9))
            axis.annotate(
                letter,
                tuple(np.clip(place, *ends) for place, ends in limits),
                color=_MARK,
                fontsize=8,
                xytext=(2 - 4 * right, 4 * low - 2),
                textcoords="offset points",
                ha="right" if right else "left",
                va="bottom" if low else "top",
                annotation_clip=True,
            )
