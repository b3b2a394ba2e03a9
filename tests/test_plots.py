# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""The picture of a comparison."""

import dataclasses

import numpy as np
import pytest
from astropy.table import Table
from test_metrics import draw_view, gaussian

from lsst.coadd.astroclearnet.comparison._metrics import compare_views
from lsst.coadd.astroclearnet.comparison._tract import make_tract_figure
from lsst.coadd.astroclearnet.comparison.pictures._diagrams import (
    make_exposure_figure,
    make_fit_figure,
    make_flux_figure,
    make_psf_figure,
)
from lsst.coadd.astroclearnet.comparison.pictures._plots import make_comparison_figure
from lsst.coadd.astroclearnet.comparison.pictures._style import COLOURS, choose_places


@pytest.fixture(scope="module")
def views():
    reference, _ = draw_view("deepCoadd", gaussian(4.2), seed=1)
    coadd, _ = draw_view("acn_coadd", gaussian(2.5), seed=2)
    bad = reference.bad.copy()
    bad[:50, :80] = True
    return [dataclasses.replace(reference, bad=bad), coadd]


def draw(views, n_image=None, **options):
    comparison = compare_views(views)
    if n_image is None:
        n_image = np.full(views[0].image.shape, 12)
    return make_comparison_figure(views, comparison, n_image=n_image, title="tract=1 patch=2", **options)


def find_images(figure):
    """Return the pictures of the planes with their axes, row by row."""
    return [axis for axis in figure.axes if axis.images and axis.images[0].get_cmap().name == "gray"]


def find_cmap(figure, name):
    return [axis for axis in figure.axes if axis.images and axis.images[0].get_cmap().name == name]


def test_planes_share_one_stretch_in_njy(views):
    figure = draw(views)
    axes = find_images(figure)
    assert len(axes) == 2 * (1 + len(find_zooms(figure)))
    limits = {axis.images[0].get_clim() for axis in axes}
    assert len(limits) == 1
    low, high = limits.pop()
    assert low == pytest.approx(-3, rel=0.1) and high > 90
    labels = [axis.get_xlabel() for axis in figure.axes]
    assert any("nJy" in label and "deepCoadd" in label for label in labels)
    assert figure.get_suptitle() == "tract=1 patch=2"


def find_zooms(figure):
    """Return label and limits of each zoom."""
    zooms = {}
    for axis in find_images(figure):
        label = axis.get_ylabel().split("\n")[0]
        if label and label != "patch":
            zooms[label.split(": ")[1]] = axis.images[0].get_extent()
    return zooms


def test_zooms_show_what_they_are_called(views):
    """A pair, a saturated star and a residual put where nothing else is."""
    reference, coadd = views
    y, x = np.mgrid[:360, :360]

    def blob(x0, y0, flux):
        return flux * np.exp(-0.5 * ((x - x0) ** 2 + (y - y0) ** 2) / 1.8**2)

    pair = blob(46, 310, 800) + blob(52, 312, 700)
    planes = []
    for view in (reference, coadd):
        saturated = view.saturated.copy()
        saturated[40:48, 300:308] = True
        planes.append(dataclasses.replace(view, image=view.image + pair, saturated=saturated))
    planes[1] = dataclasses.replace(planes[1], image=planes[1].image + blob(220, 222, 3000))
    zooms = find_zooms(draw(planes, zoom=40))
    expected = {
        "blended pair": (1049, 2311),
        "saturated star": (1303.5, 2043.5),
        "worst residual": (1220, 2222),
    }
    for label, (px, py) in expected.items():
        x0, x1, y0, y1 = zooms[label]
        assert abs((x0 + x1) / 2 - px) < 6 and abs((y0 + y1) / 2 - py) < 6, label
    assert "faint source" in zooms and "bright galaxy" in zooms
    # The worst residual has no row of its own where another zoom shows it.
    planes[1] = dataclasses.replace(planes[1], image=views[1].image + pair + blob(48, 306, 9000))
    zooms = find_zooms(draw(planes, zoom=40))
    assert "worst residual" not in zooms
    assert sum(label.endswith(", worst residual") for label in zooms) == 1


def test_a_pair_is_no_galaxy(views):
    """A pair that only the sharper plane tells apart is broad, too."""
    y, x = np.mgrid[:360, :360]

    def pair(sigma):
        return sum(
            9000 / sigma**2 * np.exp(-0.5 * ((x - px) ** 2 + (y - 222) ** 2) / sigma**2)
            for px in (217.5, 222.5)
        )

    planes = [
        dataclasses.replace(view, image=view.image + pair(fwhm / 2.355))
        for view, fwhm in zip(views, (4.2, 2.5), strict=True)
    ]
    x0, x1, y0, y1 = find_zooms(draw(planes, zoom=40))["bright galaxy"]
    assert np.hypot((x0 + x1) / 2 - 1220, (y0 + y1) / 2 - 2222) > 20


def test_patch_is_shown_where_it_has_data(views):
    """A field of a quarter of the patch fills the picture."""
    nothing = np.ones(views[0].bad.shape, dtype=bool)
    nothing[150:330, 20:200] = False
    planes = [dataclasses.replace(view, bad=view.bad | nothing) for view in views]
    for shown, side in ((planes, 196), (views, 360)):
        axis = next(axis for axis in draw(shown).axes if axis.get_ylabel().startswith("patch"))
        assert axis.images[0].get_array().shape == (side, side)


def test_axes_are_patch_pixels(views):
    figure = draw(views, zoom=60)
    patch, _, zoom, *_ = find_images(figure)
    assert patch.images[0].get_extent() == [999.5, 1359.5, 1999.5, 2359.5]
    x0, x1, y0, y1 = zoom.images[0].get_extent()
    assert (x1 - x0, y1 - y0) == (60, 60)
    row, column = round(y0 + 0.5) - 2000, round(x0 + 0.5) - 1000
    shown = zoom.images[0].get_array()
    np.testing.assert_array_equal(shown, views[0].image[row : row + 60, column : column + 60])


def test_zooms_at_the_edge_have_their_letter(views):
    """What is bright is in a corner of the patch."""
    image = views[1].image.copy()
    image[-20:-16, -20:-16] += 50 * image.max()
    figure = draw([views[0], dataclasses.replace(views[1], image=image)])
    patch = find_images(figure)[0]
    _, y0, _, height = views[0].box
    boxes = [box.get_bbox() for box in patch.patches]
    assert any(box.y1 == y0 + height - 0.5 for box in boxes)
    # A letter whose place is beyond the limits is not drawn.
    (left, right), (low, high) = patch.get_xlim(), patch.get_ylim()
    places = [text.xy for text in patch.texts]
    assert len(places) == len(boxes) == len(find_zooms(figure))
    assert all(left <= x <= right and low <= y <= high for x, y in places)


def test_zooms_beyond_what_is_shown_have_their_letter(views):
    """A part of the patch has data, and only that is shown."""
    outside = np.ones_like(views[0].bad)
    outside[60:300, 60:300] = False
    parts = []
    for view in views:
        image = view.image.copy()
        image[280:284, 280:284] += 50 * views[1].image.max()
        parts.append(dataclasses.replace(view, bad=outside, image=image))
    figure = draw(parts)
    patch = find_images(figure)[0]
    (left, right), (low, high) = patch.get_xlim(), patch.get_ylim()
    boxes = [box.get_bbox() for box in patch.patches]
    assert right - left < views[0].box[2] and any(box.x1 > right or box.y1 > high for box in boxes)
    places = [text.xy for text in patch.texts]
    assert len(places) == len(boxes)
    assert all(left <= x <= right and low <= y <= high for x, y in places)


def test_residual_is_reference_minus_plane_in_its_own_colours(views):
    comparison = compare_views(views)
    patch = find_cmap(draw(views), "PuOr")[0]
    shown = patch.images[0].get_array()
    expected = comparison.residuals["acn_coadd"]
    np.testing.assert_array_equal(np.ma.getmaskarray(shown), ~np.isfinite(expected))
    np.testing.assert_array_equal(shown.compressed(), expected[np.isfinite(expected)])
    assert "deepCoadd" in patch.get_title() and "acn_coadd" in patch.get_title()


def test_pixels_without_data_are_not_drawn(views):
    patch, other, *_ = find_images(draw(views))
    assert patch.images[0].get_array().mask[:50, :80].all()
    assert not np.any(other.images[0].get_array().mask)


def test_key_figures_stand_above_the_planes(views):
    first, second, *_ = find_images(draw(views))
    assert "deepCoadd" in first.get_title() and "stars 0.7" in first.get_title()
    assert "acn_coadd" in second.get_title() and 'stars 0.42"' in second.get_title()


@pytest.mark.parametrize("top", [0, 1, 33, 200])
def test_any_number_of_inputs_can_be_drawn(views, top, tmp_path):
    n_image = np.minimum(np.arange(360)[:, None] * np.ones(360), top).astype(np.uint16)
    path = tmp_path / "figure.png"
    draw(views, n_image).savefig(path, dpi=40)
    assert path.stat().st_size > 10_000


def test_blank_sky_can_be_drawn(views, tmp_path):
    rng = np.random.default_rng(1)
    blank = [
        dataclasses.replace(view, image=rng.normal(0, 1, view.image.shape).astype(np.float32))
        for view in views
    ]
    comparison = compare_views(blank)
    figures = [draw(blank)]
    figures += [make(blank, comparison, title="blank") for make in (make_flux_figure, make_psf_figure)]
    for figure in figures:
        figure.savefig(tmp_path / "figure.png", dpi=40)


def test_flux_figure_holds_the_measurements(views):
    comparison = compare_views(views)
    ratios, x, y = make_flux_figure(views, comparison, title="a patch").axes
    points = ratios.lines[0].get_ydata()
    with np.errstate(invalid="ignore"):
        expected = comparison.fluxes["acn_coadd"] / comparison.fluxes["deepCoadd"]
    assert np.isin(points, expected).all() and len(points) > 30
    assert ratios.get_ylabel() == "flux / reference" and "mas" in x.get_ylabel() and "mas" in y.get_ylabel()
    assert "AB" in y.get_xlabel()


def test_psf_figure_has_stars_and_psf_of_each_plane(views):
    comparison = compare_views(views)
    widths, *profiles = make_psf_figure(views, comparison, title="a patch").axes
    assert [axis.get_title() for axis in profiles] == ["deepCoadd", "acn_coadd"]
    for axis, fwhm in zip(profiles, (4.2, 2.5), strict=True):
        radius, profile = axis.lines[1].get_data()
        assert np.interp(fwhm / 2, radius, profile) == pytest.approx(0.5, abs=0.04)
    assert len(widths.lines[0].get_ydata()) == np.sum(comparison.stars)
    # Part of the axis is not logarithmic, and says so.
    linear_below = profiles[0].yaxis.get_transform().linthresh
    assert f"linear below {linear_below:g}" in profiles[0].get_ylabel()


def test_rates_are_not_drawn_below_zero():
    rows = [("false_positive_rate", "acn_coadd", 0.0, 0.88), ("sky_mean", "acn_coadd", 0.0, 0.88)]
    rows = [(5, *row, "", 1, "", "") for row in rows]
    names = ("patch", "name", "plane", "value", "error", "unit", "n", "statistic", "definition")
    table = Table(rows=rows, names=names)
    figure = make_tract_figure(table, names=["false_positive_rate", "sky_mean"], title="a tract")
    lows = [axis.containers[0][2][0].get_segments()[0][0][1] for axis in figure.axes]
    assert lows == pytest.approx([0, -0.88])


@pytest.mark.parametrize(
    ("names", "colours"),
    [
        (["deepCoadd", "acn_coadd", "acn_latent"], ["#000000", "#0072b2", "#d55e00"]),
        (["deepCoadd", "acn_latent"], ["#000000", "#d55e00"]),
        (["acn_latent", "acn_coadd"], ["#d55e00", "#0072b2"]),
        (["injected_deepCoadd", "injected_acn_coadd"], ["#000000", "#0072b2"]),
        (["one", "two", "three"], ["#000000", "#0072b2", "#d55e00"]),
    ],
)
def test_a_plane_has_one_colour_everywhere(names, colours):
    assert [COLOURS[k] for k in choose_places(names)] == colours


def test_more_planes_than_colours_can_be_told_a_place():
    places = choose_places(["acn_coadd", *map(str, range(9))])
    assert len(places) == 10 and set(places) <= set(range(len(COLOURS))) and places[1:].count(1) == 0


def test_fit_figure_shows_each_stage():
    rows = [
        (cell, 0, stage, step, 1 / (1 + step) + cell, np.nan, 1.0)
        for cell in range(5)
        for stage, n in (("statistic", 4), ("latent", 1))
        for step in range(n)
    ]
    names = ("cell_i", "cell_j", "stage", "step", "loss", "held_out_loss", "chi2")
    history = Table(rows=rows, names=names)
    figure = make_fit_figure(history, title="a patch")
    titles = [axis.get_title().split("\n") for axis in figure.axes[:2]]
    assert [title[0] for title in titles] == ["stage: statistic", "stage: latent"]
    assert all(len(title) > 1 for title in titles)  # and what happens there
    np.testing.assert_allclose(figure.axes[0].lines[0].get_ydata(), 2 + 1 / (1 + np.arange(4)))
    assert make_fit_figure(history[:0], title="") is None


def test_exposure_figure_tells_used_from_dropped(tmp_path):
    rows = [(30, 2, True, 1.1, 0.6), (20, 1, True, 0.9, 0.7), (25, 1, False, np.nan, 2.5)]
    inputs = Table(rows=rows, names=("visit", "detector", "kept", "chi2", "psf_fwhm_arcsec"))
    figure = make_exposure_figure(inputs, title="a patch")
    chi2, width = figure.axes
    assert list(chi2.lines[0].get_ydata()) == [0.9, 1.1]
    assert list(width.lines[1].get_ydata()) == [2.5]
    assert [label.get_text() for label in width.get_xticklabels()] == ["20 / 1", "25 / 1", "30 / 2"]
    figure.savefig(tmp_path / "figure.png", dpi=40)
    assert make_exposure_figure(inputs[:0], title="") is None


@pytest.mark.parametrize("n", [12, 540])
@pytest.mark.parametrize("chi2", [np.nan, 1.3])
def test_exposure_figure_keeps_its_room(n, chi2, tmp_path):
    """For as many exposures as a deep patch has, and if all that was dropped
    is known.
    """
    inputs = Table({"visit": np.arange(n), "detector": np.arange(n) % 81, "kept": np.arange(n) != 3})
    inputs["chi2"], inputs["psf_fwhm_arcsec"] = np.where(inputs["kept"], 1.0, chi2), 0.7
    figure = make_exposure_figure(inputs, title="a patch")
    figure.savefig(tmp_path / "figure.png", dpi=40)
    assert [axis.get_position().height > 0.2 for axis in figure.axes] == [True, True]
    points = figure.axes[0].lines[0].get_markersize()
    assert points * n < 1.2 * 72 * figure.get_figwidth()  # one beside the other
