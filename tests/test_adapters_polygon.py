# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pixels outside of the polygon of validity of an ExposureF."""

from __future__ import annotations

import _afw_stand_ins as fake
import numpy as np
import pytest
from _adapter_scenes import DATA_ID, SHAPE, X0, Y0, Afw, Scene, StandIns, all_libraries

from lsst.coadd.astroclearnet.core import Plane

pytestmark = pytest.mark.usefixtures("stand_ins")

CORNERS = ((X0 - 5.5, Y0 - 5.5), (X0 + 69.5, Y0 - 5.5), (X0 + 69.5, Y0 + 40.5), (X0 - 5.5, Y0 + 40.5))
"""A corner of the frame: columns to 69 and rows to 40."""
EXPOSURES = [one for one in all_libraries() if isinstance(one.values[0], StandIns)]


def set_polygon(library, exposure_f):
    if isinstance(library, Afw):
        import lsst.afw.geom
        import lsst.geom

        polygon = lsst.afw.geom.Polygon([lsst.geom.Point2D(*corner) for corner in CORNERS])
        exposure_f.info.setValidPolygon(polygon)
    else:
        exposure_f.Info.ValidPolygon = fake.Afw(Vertices=[fake.Afw(x=x, y=y) for x, y in CORNERS])
    return exposure_f


@pytest.mark.parametrize("library", EXPOSURES)
def test_pixels_outside_of_the_polygon_have_no_data(library):
    """As those outside of the bounds of a VisitImage."""
    plain = library.make(Scene())
    assert not library.adapter().adapt(plain, data_id=DATA_ID).flags.any()
    exposure = library.adapter().adapt(set_polygon(library, plain), data_id=DATA_ID)
    expected = np.full(SHAPE, np.uint32(Plane.NO_DATA))
    expected[:41, :70] = 0
    np.testing.assert_array_equal(exposure.flags, expected)
