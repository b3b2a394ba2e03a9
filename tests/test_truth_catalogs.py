# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Catalogues of injected, true or reference sources: what is made of them."""

import dataclasses

import astropy.units as u
import galsim
import numpy as np
import pytest
from astropy.table import Table
from test_assemble_acn_coadd import make_task, run
from test_metrics import X0, Y0, draw_view, gaussian

from lsst.coadd.astroclearnet.compare_acn_coadd import CompareAcnCoaddConfig, CompareAcnCoaddTask
from lsst.coadd.astroclearnet.comparison._fluxes import expected_fluxes
from lsst.coadd.astroclearnet.comparison._photometry import Sources, aperture_fluxes
from lsst.coadd.astroclearnet.comparison._truth import read_catalog
from lsst.coadd.astroclearnet.injection import make_truth, merge_injected


class PlainMap:
    """A pixel is a second of arc."""

    def sky_to_pixel(self, *, ra, dec):
        return X0 + 3600 * ra, Y0 + 3600 * dec

    def pixel_to_sky(self, *, x, y):
        return (x - X0) / 3600, (y - Y0) / 3600


@pytest.fixture(scope="module")
def like():
    view, _ = draw_view("deepCoadd", gaussian(4.2))
    return dataclasses.replace(view, wcs=PlainMap(), pixel_scale=0.5)


def make_catalog(**columns):
    return Table({"ra": [100 / 3600], "dec": [120 / 3600], "mag": [20.0]} | columns)


def measure(profile, like):
    """Return the flux that an aperture of 6 pixels finds."""
    seen = galsim.Convolve(profile, galsim.Gaussian(fwhm=5.3))
    place = galsim.PositionD(181.3, 180.8)
    image = seen.drawImage(galsim.ImageF(360, 360, scale=1.0), center=place, method="no_pixel").array
    nothing = np.zeros(image.shape, bool)
    sources = Sources(x=np.array([X0 + 180.3]), y=np.array([Y0 + 179.8]), sky=nothing)
    return aperture_fluxes(image, sources, radius=6.0, view=like)[0]


@pytest.mark.parametrize("index", [0.6, 1.0, 2.5, 4.0])
@pytest.mark.parametrize(("axis_ratio", "trunc"), [(0.3, 5.0), (1.0, 5.0), (0.6, 0.0)])
def test_apertures_hold_what_is_drawn(index, axis_ratio, trunc, like):
    sizes = np.array([0.8, 2.3, 2.6, 7.0])  # px
    found = expected_fluxes(
        np.full(4, 100.0),
        sizes,
        np.full(4, index),
        axis_ratio=np.full(4, axis_ratio),
        trunc=trunc * sizes,
        fwhm=5.3,
        radius=6.0,
    )
    for size, value in zip(sizes, found, strict=True):
        galaxy = galsim.Sersic(n=index, half_light_radius=size, trunc=trunc * size, flux=100.0)
        assert value == pytest.approx(
            measure(galaxy.shear(q=axis_ratio, beta=40 * galsim.degrees), like), rel=0.002
        )


def test_apertures_hold_what_is_drawn_of_a_star(like):
    nothing = np.zeros(1)
    shape = {"axis_ratio": nothing + 1, "trunc": nothing}
    found = expected_fluxes(nothing + 100, nothing, nothing + 1, **shape, fwhm=5.3, radius=6.0)
    assert found[0] == pytest.approx(measure(galsim.DeltaFunction(flux=100.0), like), rel=5e-4)


def test_units_of_columns_are_converted(like):
    plain = read_catalog(make_catalog(flux=[3631.0]), like=like)
    other = make_catalog(flux=[3631e-9] * u.Jy, half_light_radius=[1 / 60] * u.arcmin, type=["galaxy"])
    other["ra"], other["dec"] = np.radians(other["ra"]) * u.rad, np.radians(other["dec"]) * u.rad
    truth = read_catalog(other, like=like)
    assert truth.flux == pytest.approx(plain.flux, rel=1e-12)
    assert truth.x == pytest.approx(plain.x) and truth.y == pytest.approx(plain.y)
    assert truth.half_light_radius == pytest.approx([2.0])
    with pytest.raises(ValueError, match="flux .* is in electron, which cannot be converted to nJy"):
        read_catalog(make_catalog(flux=[1.0] * u.electron), like=like)


@pytest.mark.parametrize(
    ("kind", "index"), [("Gaussian", 0.5), ("Exponential", 1.0), ("DeVaucouleurs", 4.0), ("Sersic", 2.5)]
)
def test_source_types_tell_their_profile(like, small_patch, kind, index):
    columns = {"source_type": [kind], "half_light_radius": [1.0], "n": [2.5], "trunc": [4.0], "q": [0.4]}
    truth = read_catalog(make_catalog(**columns), like=like)
    assert list(truth.sersic_n) == [index] and not truth.is_star[0]
    assert list(truth.trunc) == [8.0] and list(truth.axis_ratio) == [0.4]
    # The same by way of what was injected.
    geometry = small_patch.geometry
    box = geometry.outer_bbox
    ra, dec = geometry.wcs.pixel_to_sky(x=np.array([box.x.center]), y=np.array([box.y.center]))
    injected = Table(columns | {"ra": ra, "dec": dec, "mag": [20.0], "injection_id": [1], "n_exposures": [2]})
    catalog, _ = make_truth(injected, geometry, target_fwhm=2.5)
    assert list(catalog["sersic_n"]) == [index] and list(catalog["trunc"]) == [4.0]


def test_patch_without_injected_sources_is_compared(small_patch):
    coadd = run(make_task(method="mean"), small_patch)
    empty, _ = make_truth(merge_injected([]), small_patch.geometry, target_fwhm=2.5)
    config = CompareAcnCoaddConfig()
    config.update(use_catalog=True, use_tables=False, use_latent=False)
    result = CompareAcnCoaddTask(config=config).run(
        reference=coadd.coadd, coadd=coadd.coadd, truth_catalog=empty
    )
    rows = {row["name"]: row for row in result.metrics}
    assert rows["completeness_snr_100"]["n"] == 0 and np.isnan(rows["completeness_snr_100"]["value"])
    assert rows["sky_rms"]["value"] > 0
