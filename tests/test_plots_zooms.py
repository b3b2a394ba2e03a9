# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Zooms of the picture of a comparison: where they are, and their names."""

import dataclasses

import numpy as np
import pytest
from test_metrics import draw_view, gaussian
from test_plots import draw, find_images

from lsst.coadd.astroclearnet.comparison._metrics import compare_views
from lsst.coadd.astroclearnet.comparison.pictures import _plots
from lsst.coadd.astroclearnet.comparison.pictures._zooms import Zoom, choose_zooms


@pytest.fixture(scope="module")
def views():
    planes = (("deepCoadd", 4.2), ("acn_coadd", 2.5))
    return [draw_view(name, gaussian(fwhm), seed=k)[0] for k, (name, fwhm) in enumerate(planes)]


@pytest.mark.parametrize("shift", [(12, 18), (26, 0), (30, -22), (-36, 20)])
def test_zooms_do_not_lie_on_each_other(views, shift):
    """A residual near a saturated star is seen all the same: in its zoom, or
    in one that makes room for it.
    """
    y, x = np.mgrid[:360, :360]
    px, py = 303.5 + shift[0], 43.5 + shift[1]
    planes = []
    for view in views:
        saturated = view.saturated.copy()
        saturated[43:45, 303:305] = True
        planes.append(dataclasses.replace(view, saturated=saturated))
    blob = 9000 * np.exp(-0.5 * ((x - px) ** 2 + (y - py) ** 2) / 1.8**2)
    planes[1] = dataclasses.replace(planes[1], image=planes[1].image + blob)
    comparison = compare_views(planes)
    zooms = choose_zooms(planes, comparison, side=40)
    assert_apart(zooms)
    for label, place in {
        "saturated star": (1303.5, 2043.5),
        "worst residual": (1000 + px, 2000 + py),
    }.items():
        (zoom,) = (zoom for zoom in zooms if label in zoom.label.split(", "))
        assert all(0 < at - low < side for at, low, side in zip(place, zoom.box, zoom.box[2:], strict=False))
    assert choose_zooms(planes, comparison, side=40) == zooms
    # Where the patch has no room, there are fewer.
    assert_apart(choose_zooms(planes, comparison, side=130))


def assert_apart(zooms):
    boxes = np.array([zoom.box for zoom in zooms])
    for k, (x, y, side, _) in enumerate(boxes):
        assert np.all(np.abs(boxes[:k, :2] - (x, y)).max(axis=1, initial=0) >= side), zooms


def test_long_names_of_zooms_have_room(views, monkeypatch):
    """A place can be there for three reasons."""
    name = "bright galaxy, saturated star, worst residual"
    zooms = [Zoom(label=name, box=(1000 + 72 * k, 2000, 72, 72)) for k in range(2)]
    monkeypatch.setattr(_plots, "choose_zooms", lambda *args, **options: zooms)
    figure = draw(views)
    figure.draw_without_rendering()
    named = [axis for axis in find_images(figure) if axis.get_ylabel()]
    _, first, second = (axis.yaxis.label.get_window_extent() for axis in named)
    assert not first.overlaps(second)
    assert all(figure.bbox.x0 <= text.x0 and figure.bbox.y0 <= text.y0 for text in (first, second))
