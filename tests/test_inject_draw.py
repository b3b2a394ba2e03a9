# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""How injected sources are drawn: shapes, and galaxies that are large."""

import galsim
import numpy as np
import pytest
from _register_data import make_wcs
from astropy.table import Table

from lsst.coadd.astroclearnet._coadds import sample_gaussian
from lsst.coadd.astroclearnet.core.warp._frame import Frame
from lsst.coadd.astroclearnet.injection import FLAGS, make_profile
from lsst.coadd.astroclearnet.injection._draw import draw_light
from lsst.coadd.astroclearnet.simulate import flux_from_mag

MAG = 20.0
FLUX = float(flux_from_mag(MAG))


def test_shape_is_that_on_the_sky():
    """The angle goes from East to North, whatever the frame."""
    table = Table(
        {"source_type": ["Sersic"], "n": [1.0], "half_light_radius": [1.0], "q": [0.4], "beta": [30.0]}
    )
    image = make_profile(table[0]).drawImage(nx=81, ny=81, scale=0.2)
    moments = galsim.hsm.FindAdaptiveMom(image)
    shape = moments.observed_shape
    assert np.degrees(0.5 * np.arctan2(shape.g2, shape.g1)) == pytest.approx(30, abs=1)
    assert (1 - shape.g) / (1 + shape.g) == pytest.approx(0.4, abs=0.02)


@pytest.mark.parametrize("flip", [False, True])
def test_galaxy_is_not_cut_off_at_a_stamp(flip):
    """It may be as large as the frame, either way round."""
    table = Table(
        {
            "ra": [150.0],
            "dec": [2.0],
            "source_type": ["Exponential"],
            "mag": [MAG],
            "half_light_radius": [9.0],
        }
    )
    wcs = make_wcs(x=400, y=400, scale=0.168, flip=flip)
    frame = Frame(label="frame", wcs=wcs, x0=0, y0=0, width=801, height=801)
    light = draw_light(table, frame, psf=lambda *, x, y: sample_gaussian(fwhm=4.0, size=31)).light
    assert light.sum() == pytest.approx(FLUX, rel=2e-3)
    assert light.max() == light[400, 400]


def test_galaxy_too_large_to_draw_is_flagged():
    """It would need more memory than there is; the others are drawn."""
    table = Table(
        {
            "ra": [150.0, 150.0],
            "dec": [2.0, 2.0],
            "source_type": ["Sersic", "Star"],
            "n": [6.0, 0.0],
            "mag": [MAG, MAG],
            "half_light_radius": [60.0, 0.0],
        }
    )
    frame = Frame(label="frame", wcs=make_wcs(x=50, y=50, scale=0.168), x0=0, y0=0, width=101, height=101)
    drawn = draw_light(table, frame, psf=lambda *, x, y: sample_gaussian(fwhm=4.0, size=31))
    assert drawn.light.sum() == pytest.approx(FLUX, rel=1e-3)
    assert list(drawn.catalog["injection_flag"]) == [1 << FLAGS["FFT_SIZE_ERROR"], 0]
