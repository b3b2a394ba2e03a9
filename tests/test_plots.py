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
from test_metrics import draw_view, gaussian

from lsst.coadd.astroclearnet._metrics import compare_views
from lsst.coadd.astroclearnet._plots import make_comparison_figure


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


def test_planes_share_one_stretch_in_njy(views):
    figure = draw(views)
    axes = find_images(figure)
    assert len(axes) == 6
    limits = {axis.images[0].get_clim() for axis in axes}
    assert len(limits) == 1
    low, high = limits.pop()
    assert low == pytest.approx(-3, rel=0.1) and high > 90
    labels = [axis.get_xlabel() for axis in figure.axes]
    assert any("nJy" in label and "deepCoadd" in label for label in labels)
    assert figure.get_suptitle() == "tract=1 patch=2"


def test_axes_are_patch_pixels(views):
    patch, _, zoom, same_zoom, *_ = find_images(draw(views, zoom=60))
    assert patch.images[0].get_extent() == [999.5, 1359.5, 1999.5, 2359.5]
    x0, x1, y0, y1 = zoom.images[0].get_extent()
    assert (x1 - x0, y1 - y0) == (60, 60)
    assert same_zoom.images[0].get_extent() == [x0, x1, y0, y1]
    row, column = round(y0 + 0.5) - 2000, round(x0 + 0.5) - 1000
    shown = zoom.images[0].get_array()
    np.testing.assert_array_equal(shown, views[0].image[row : row + 60, column : column + 60])


def test_pixels_without_data_are_not_drawn(views):
    patch, other, *_ = find_images(draw(views))
    assert patch.images[0].get_array().mask[:50, :80].all()
    assert not np.any(other.images[0].get_array().mask)


def test_key_figures_stand_above_the_planes(views):
    first, second, *_ = find_images(draw(views))
    assert "deepCoadd" in first.get_title() and "star FWHM 0.7" in first.get_title()
    assert "acn_coadd" in second.get_title() and 'star FWHM 0.42"' in second.get_title()


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
    figure = draw(blank)
    assert len(find_images(figure)) == 6
    figure.savefig(tmp_path / "figure.png", dpi=40)
