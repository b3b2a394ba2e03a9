# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Images of lsst.images on their way in: units, masks, faults."""

from __future__ import annotations

import logging
import types

import astropy.units as u
import numpy as np
import pytest
from _adapter_scenes import make_wcs

from lsst.coadd.astroclearnet._coadds import view_from_cell_coadd
from lsst.coadd.astroclearnet.adapters import (
    INPUT_PLANES,
    VisitImageAdapter,
    exposure_from_visit_image,
    make_adapter,
)
from lsst.coadd.astroclearnet.core import InvalidExposureError, Plane, UncalibratedExposureError
from lsst.coadd.astroclearnet.repository._visit_images import DetectorInfo, make_visit_image
from lsst.daf.butler import Butler
from lsst.images import Box, Image, MaskPlane, Polygon
from lsst.images.fields import ChebyshevField, ProductField
from lsst.images.psfs import GaussianPointSpreadFunction, PointSpreadFunction
from lsst.images.serialization import ArchiveReadError

DATA_ID = {"instrument": "HSC", "visit": 1228, "detector": 50}
SHAPE = (90, 120)
X0, Y0 = 30, 700


class StampPsf(PointSpreadFunction):
    """A PSF model that returns whatever array it was given."""

    def __init__(self, array, bounds=None, start=(0, 0)):
        self.array, self.asked, self.start = array, [], start
        self._bounds = bounds or Box.factory[0:2000, 0:2000]

    bounds = property(lambda self: self._bounds)
    kernel_bbox = property(lambda self: Box.from_shape(self.array.shape, start=self.start))

    def compute_kernel_image(self, *, x, y):
        self.asked.append((x, y))
        return Image(self.array, bbox=self.kernel_bbox)

    def compute_stellar_image(self, *, x, y):
        raise NotImplementedError

    compute_stellar_bbox = compute_stellar_image


def make_image(planes=None, **fields):
    rng = np.random.default_rng(1)
    bounds = Box.factory[0:2000, 0:2000]
    fields = {
        "image": rng.normal(10, 1, SHAPE),
        "variance": np.full(SHAPE, 4.0),
        "psf": GaussianPointSpreadFunction(1.6, bounds=bounds, stamp_size=31),
        **fields,
    }
    return make_visit_image(
        fields.pop("image"),
        fields.pop("variance"),
        planes or {},
        x0=X0,
        y0=Y0,
        wcs=make_wcs(),
        detector=DetectorInfo(id=50, name="1_50", width=2000, height=2000),
        physical_filter="HSC-I",
        band="i",
        instrument="HSC",
        visit=1228,
        **fields,
    )


def test_image_in_njy():
    visit_image = make_image()
    exposure = exposure_from_visit_image(visit_image, data_id=DATA_ID)
    np.testing.assert_array_equal(exposure.image, visit_image.image.array)
    np.testing.assert_array_equal(exposure.variance, 4)
    assert not exposure.flags.any()
    assert exposure.image.dtype == exposure.variance.dtype == np.float32
    assert exposure.flags.dtype == np.uint32
    assert (exposure.x0, exposure.y0) == (X0, Y0)
    assert exposure.label == "visit=1228 detector=50"
    assert exposure.physical_filter == "HSC-I"
    assert exposure.psf(x=X0, y=Y0).sum() == pytest.approx(1, abs=1e-5)


def test_sky_positions_are_those_of_the_whole_detector():
    """FITS pixel (1001, 1001) is pixel (1000, 1000), wherever the box is."""
    wcs = exposure_from_visit_image(make_image(), data_id=DATA_ID).wcs
    ra, dec = wcs.pixel_to_sky(x=np.array([1000.0, 90.0]), y=np.array([1000.0, 720.0]))
    assert ra[0] == pytest.approx(150, abs=1e-9) and dec[0] == pytest.approx(2, abs=1e-9)
    np.testing.assert_allclose(make_wcs().all_world2pix(ra, dec, 0), [[1000, 90], [1000, 720]], atol=1e-6)
    np.testing.assert_allclose(wcs.sky_to_pixel(ra=ra, dec=dec), [[1000, 90], [1000, 720]], atol=1e-6)


def test_flux_density_unit_is_converted():
    exposure = exposure_from_visit_image(make_image(unit=u.uJy), data_id=DATA_ID)
    assert exposure.image.mean() == pytest.approx(10e3, rel=0.01)
    np.testing.assert_allclose(exposure.variance, 4e6, rtol=1e-6)


def test_scaling_that_varies_over_the_frame():
    """A photometric calibration may be a polynomial."""
    # 30 nJy per count in the middle, 10 % more at the right edge.
    visit_image = make_image(
        image=np.full(SHAPE, 2.0), unit=u.electron, calibration=np.array([[30.0, 3.0], [0.0, 0.0]])
    )
    exposure = exposure_from_visit_image(visit_image, data_id=DATA_ID)
    column = np.arange(SHAPE[1])
    scaling = 30 + 3 * (column - (SHAPE[1] - 1) / 2) / (SHAPE[1] / 2)
    np.testing.assert_allclose(exposure.image, np.broadcast_to(2 * scaling, SHAPE), rtol=1e-5)
    np.testing.assert_allclose(exposure.variance, np.broadcast_to(4 * scaling**2, SHAPE), rtol=1e-5)


def test_scaling_that_is_a_product():
    """As that of a fit of the whole survey is: zero point times flat field
    times area of the pixels.
    """
    visit_image = make_image(image=np.full(SHAPE, 2.0), unit=u.electron)
    bbox = visit_image.bbox
    flat = ChebyshevField(bbox, np.array([[1.0, 0.1], [0.05, 0.0]]), unit=u.nJy / u.electron)
    area = ChebyshevField(bbox, np.array([[30.0, 0.0], [3.0, 0.0]]))
    visit_image.photometric_scaling = ProductField([flat, area])
    exposure = exposure_from_visit_image(visit_image, data_id=DATA_ID)
    scaling = flat.render(bbox).array * area.render(bbox).array
    np.testing.assert_allclose(exposure.image, 2 * scaling, rtol=1e-5)
    np.testing.assert_allclose(exposure.variance, 4 * scaling**2, rtol=1e-5)


def test_pixels_outside_of_the_bounds_are_left_out():
    """A vignetted corner, say: the image says where it is valid."""
    x = np.array([X0 - 0.5, X0 + 59.5, X0 + 59.5, X0 - 0.5])
    y = np.array([Y0 - 0.5, Y0 - 0.5, Y0 + 89.5, Y0 + 89.5])
    visit_image = make_image()
    visit_image._bounds = Polygon(x_vertices=x, y_vertices=y)
    flags = exposure_from_visit_image(visit_image, data_id=DATA_ID).flags
    assert not flags[:, :60].any() and (flags[:, 60:] == Plane.NO_DATA).all()


@pytest.mark.parametrize("unit", [u.electron, u.dimensionless_unscaled, u.s])
def test_image_without_calibration(unit):
    with pytest.raises(InvalidExposureError, match=r"visit=1228 detector=50.*converted to nJy.*Attach"):
        exposure_from_visit_image(make_image(unit=unit), data_id=DATA_ID)


def test_calibration_of_another_kind():
    """A scaling that does not lead to nJy is no calibration."""
    visit_image = make_image(unit=u.electron, calibration=30.0)
    visit_image.photometric_scaling = visit_image.photometric_scaling * u.s
    with pytest.raises(InvalidExposureError, match="visit=1228 detector=50"):
        exposure_from_visit_image(visit_image, data_id=DATA_ID)


@pytest.mark.parametrize("psf", [None, ArchiveReadError("no reader for it.")])
def test_image_without_psf(psf):
    with pytest.raises(InvalidExposureError, match=r"visit=1228 detector=50.*[lL]eave the exposure out"):
        exposure_from_visit_image(make_image(psf=psf), data_id=DATA_ID)


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        (np.full((31, 31), np.nan), "NaN"),
        (np.zeros((31, 31)), "sums to 0"),
        (np.full((31, 31), 0.9 / 961), "sums to 0.9"),
    ],
)
def test_bad_psf(kernel, message):
    with pytest.raises(InvalidExposureError, match=f"visit=1228 detector=50.*{message}"):
        exposure_from_visit_image(make_image(psf=StampPsf(kernel)), data_id=DATA_ID)


@pytest.mark.parametrize(("shape", "start"), [((31, 35), (-15, -19)), ((30, 31), (-14, -15))])
def test_origin_of_the_kernel_marks_the_star(shape, start):
    """The box need not be symmetric about it."""
    array = np.zeros(shape)
    array[-start[0], -start[1]], array[-start[0] + 1, -start[1]] = 0.75, 0.25
    exposure = exposure_from_visit_image(make_image(psf=StampPsf(array, start=start)), data_id=DATA_ID)
    kernel = exposure.psf(x=50, y=720)
    centre = len(kernel) // 2
    assert kernel.shape == (2 * centre + 1, 2 * centre + 1) and kernel.sum() == 1
    assert kernel[centre, centre] == 0.75 and kernel[centre + 1, centre] == 0.25


def test_psf_is_evaluated_inside_its_bounds():
    psf = StampPsf(np.full((31, 31), 1 / 961), bounds=Box.factory[100:1500, 50:1900], start=(-15, -15))
    exposure = exposure_from_visit_image(make_image(psf=psf), data_id=DATA_ID)
    exposure.psf(x=-3, y=1999)
    assert psf.asked[-1] == (50, 1499)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite(value, caplog):
    image = np.ones(SHAPE)
    image[3, 4:9] = value
    with caplog.at_level(logging.INFO):
        exposure = exposure_from_visit_image(make_image(image=image), data_id=DATA_ID)
    assert np.argwhere(exposure.flags).tolist() == [[3, x] for x in range(4, 9)]
    assert np.all(exposure.flags[3, 4:9] == Plane.NO_DATA)
    assert "visit=1228 detector=50: 5 pixels without a possible value and 0" in caplog.text


@pytest.mark.parametrize("value", [0, -4, np.nan, np.inf])
def test_variance_that_is_not_positive(value, caplog):
    variance = np.ones(SHAPE)
    variance[10:12, 20] = value
    with caplog.at_level(logging.INFO):
        exposure = exposure_from_visit_image(make_image(variance=variance), data_id=DATA_ID)
    assert np.argwhere(exposure.flags).tolist() == [[10, 20], [11, 20]]
    assert "0 pixels without a possible value and 2 without a positive variance" in caplog.text


def test_exposure_that_is_masked_as_a_whole_is_no_error():
    planes = {"NO_DATA": np.ones(SHAPE, bool)}
    exposure = exposure_from_visit_image(make_image(planes, image=np.full(SHAPE, np.nan)), data_id=DATA_ID)
    assert np.all(exposure.flags == Plane.NO_DATA)


def test_mask_planes_become_canonical():
    planes = {}
    for n, name in enumerate(["SATURATED", "COSMIC_RAY", "DETECTION_EDGE", "STREAK", "DETECTED"]):
        planes[name] = np.zeros(SHAPE, bool)
        planes[name][n] = True
    flags = exposure_from_visit_image(make_image(planes), data_id=DATA_ID).flags
    unrepaired = Plane.COSMIC_RAY | Plane.UNREPAIRED
    expected = [Plane.SATURATED, unrepaired, Plane.DETECTION_EDGE, Plane.STREAK, 0, 0]
    assert flags[:6, 7].tolist() == [int(plane) for plane in expected]


def add_plane(visit_image, name, marked):
    """Give an image a plane that `make_visit_image` does not know."""
    mask = visit_image.mask.add_planes([MaskPlane(name, "Not in the table.")])
    mask.set(name, marked)
    visit_image._mask = mask


@pytest.mark.parametrize("name", ["INJECTED", "INJECTED_CORE", "FAKE", "ITL_DIP"])
def test_planes_that_leave_no_pixel_out_are_read(name):
    visit_image, marked = make_image(), np.zeros(SHAPE, bool)
    marked[3, 4:9] = True
    if name in visit_image.mask.schema.names:
        visit_image.mask.set(name, marked)
    else:
        add_plane(visit_image, name, marked)
    flags = exposure_from_visit_image(visit_image, data_id=DATA_ID).flags
    np.testing.assert_array_equal(flags, np.where(marked, Plane[name], 0))


def test_unknown_plane_of_an_image_alone_is_named(caplog):
    """An instrument may have planes of its own; they are ignored."""
    visit_image = make_image()
    add_plane(visit_image, "GHOST", np.ones(SHAPE, bool))
    for count in (1, 2):
        assert not exposure_from_visit_image(visit_image, data_id=DATA_ID).flags.any()
        warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
        assert len(warnings) == count and "GHOST" in warnings[-1].getMessage()


def test_both_dialects_of_mask_planes():
    """Every pair of lsst.images' own table is in ours."""
    from lsst.images import get_legacy_difference_image_mask_planes, get_legacy_visit_image_mask_planes

    for name, plane in get_legacy_visit_image_mask_planes().items():
        assert INPUT_PLANES[name] == INPUT_PLANES[plane.name]
    assert set(get_legacy_difference_image_mask_planes()) - set(INPUT_PLANES) <= {
        "SAT_TEMPLATE",
        "HIGH_VARIANCE",
    }
    assert {plane for plane in INPUT_PLANES.values() if plane is not None} == set(Plane) - {Plane.UNREPAIRED}


@pytest.mark.parametrize(("unit", "text"), [(u.dimensionless_unscaled, "''"), (u.electron, "'electron'")])
def test_unit_that_is_none_of_flux_is_told(unit, text):
    """Also where it has no name."""
    pattern = f"have the unit {text}, which cannot be converted to nJy: .*Attach a photometric_scaling"
    with pytest.raises(UncalibratedExposureError, match=pattern):
        exposure_from_visit_image(make_image(unit=unit), data_id=DATA_ID)
    with pytest.raises(ValueError, match=f"acn_coadd has the unit {text}, which cannot"):
        view_from_cell_coadd(types.SimpleNamespace(unit=unit), name="acn_coadd")


def test_make_adapter():
    assert make_adapter("images") == VisitImageAdapter()
    with pytest.raises(ValueError, match="images, afw; got 'jpeg'"):
        make_adapter("jpeg")


def test_summary_does_not_depend_on_what_was_read_before(small_repo):
    """The image may be the last of the patch before, too: lsst.images then
    has no PSF for a handle.
    """
    with Butler.from_config(str(small_repo), collections="HSC/defaults") as butler:
        ref = butler.query_datasets("calexp", with_dimension_records=True)[0]
        handle = butler.getDeferred(ref)
        adapter, data_id = VisitImageAdapter(), dict(ref.dataId.mapping)
        first = adapter.summarize(handle, data_id=data_id).psf_fwhm
        handle.get()
        assert adapter.summarize(handle, data_id=data_id).psf_fwhm == pytest.approx(first) and first > 0.4
