# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""What every adapter owes to the core, whatever the library.

Each test makes the same scene as an image of each library: of lsst.images
always, of lsst.afw where it can be imported, and of stand-ins for afw
everywhere.
"""

from __future__ import annotations

import dataclasses
import logging
from types import SimpleNamespace

import galsim
import numpy as np
import pytest
from _adapter_scenes import DATA_ID, DIALECTS, LABEL, SCALE, SHAPE, X0, Y0, Scene, all_libraries, make_wcs

from lsst.coadd.astroclearnet.adapters import ALWAYS_LEFT_OUT, PlaneTranslator, _afw, _images
from lsst.coadd.astroclearnet.core import InvalidExposureError, Plane, UncalibratedExposureError
from lsst.coadd.astroclearnet.core.warp._register import WarpPlan
from lsst.images import Box

pytestmark = pytest.mark.usefixtures("stand_ins")


@pytest.fixture(params=all_libraries())
def library(request):
    return request.param


def adapt(library, scene, **options):
    image = library.make(scene)
    return library.adapter(**options).adapt(image, data_id=DATA_ID, extras=library.extras(scene, **options))


def mark(*pixels):
    marked = np.zeros(SHAPE, bool)
    marked[tuple(np.transpose(pixels))] = True
    return marked


def test_pixels_are_in_njy(library):
    exposure = adapt(library, Scene())
    np.testing.assert_allclose(exposure.image, 60.0, rtol=1e-6)
    np.testing.assert_allclose(exposure.variance, 4 * 900.0, rtol=1e-6)
    assert exposure.image.dtype == exposure.variance.dtype == np.float32
    assert exposure.image.shape == exposure.variance.shape == exposure.flags.shape == SHAPE


def test_calibration_may_vary_over_the_frame(library):
    scene = Scene(calibration=(30.0, 3.0))
    exposure = adapt(library, scene)
    np.testing.assert_allclose(exposure.image, 2 * scene.scaling, rtol=1e-5)
    np.testing.assert_allclose(exposure.variance, 4 * scene.scaling**2, rtol=1e-5)
    assert exposure.image[0, -1] / exposure.image[0, 0] > 1.2


def test_pixels_whose_calibration_is_not_positive_become_no_data(library, caplog):
    """A polynomial may fall below 0 at the edge of the frame."""
    scene = Scene(calibration=(30.0, -60.0))
    with caplog.at_level(logging.INFO):
        flags = adapt(library, scene).flags
    np.testing.assert_array_equal(flags == Plane.NO_DATA, scene.scaling <= 0)
    assert (
        f"{LABEL}: {np.count_nonzero(flags)} pixels without a finite and positive photometric" in caplog.text
    )


@pytest.mark.parametrize("value", [np.nan, 0.0, np.inf, -30.0])
def test_calibration_that_is_nowhere_positive_is_an_error(library, value):
    if library.name == "afw" and not value >= 0:
        pytest.skip("afw makes no such calibration")
    with pytest.raises(
        UncalibratedExposureError, match=f"calibration of {LABEL} is.*finite.*calibrate it or"
    ):
        adapt(library, Scene(calibration=(value, 0.0)))


@pytest.mark.parametrize("value", [np.nan, 0.0, -4.0])
def test_variance_without_any_usable_value_is_an_error(library, value):
    """It is no lack of good pixels: nothing says what they are worth."""
    scene = Scene(variance=np.full(SHAPE, value))
    with pytest.raises(InvalidExposureError, match=f"No pixel of {LABEL} has a finite and positive variance"):
        adapt(library, scene)
    empty = dataclasses.replace(scene, planes={"NO_DATA": np.ones(SHAPE, bool)})
    assert (adapt(library, empty).flags == Plane.NO_DATA).all()


def test_without_calibration_it_is_an_error_that_names_the_data_id(library):
    with pytest.raises(UncalibratedExposureError, match=LABEL):
        adapt(library, Scene(calibration=None))


def test_without_psf_it_is_an_error_that_names_the_data_id(library):
    with pytest.raises(InvalidExposureError, match=f"{LABEL} has no PSF"):
        adapt(library, Scene(sigma=None))


def test_identity(library):
    exposure = adapt(library, Scene())
    assert (exposure.visit, exposure.detector, exposure.physical_filter) == (1228, 50, "HSC-R2")
    assert exposure.label == LABEL and (exposure.x0, exposure.y0) == (X0, Y0)


def test_both_dialects_of_mask_planes_become_one(library):
    planes = {name: mark((n, 7)) for n, name in enumerate(DIALECTS)}
    planes["INTERPOLATED"] |= planes["COSMIC_RAY"]
    flags = adapt(library, Scene(planes=planes)).flags
    expected = {name: getattr(Plane, name, Plane(0)) for name in DIALECTS}
    expected["COSMIC_RAY"] |= Plane.INTERPOLATED
    assert flags.dtype == np.uint32
    assert flags[: len(DIALECTS), 7].tolist() == [int(plane) for plane in expected.values()]
    assert np.count_nonzero(flags) == len(DIALECTS) - 1  # DETECTED is no reason to leave a pixel out


def test_cosmic_ray_that_was_not_interpolated_is_told_apart(library):
    flags = adapt(library, Scene(planes={"COSMIC_RAY": mark((4, 4))})).flags
    assert flags[4, 4] == Plane.COSMIC_RAY | Plane.UNREPAIRED


def test_unknown_plane_is_ignored_with_one_warning_of_each_adapter(library, caplog):
    """A task makes one for each run: the log of every quantum has it."""
    image = library.make(Scene(unknown_plane="HOME_MADE"))
    for count in (1, 2):
        adapter = library.adapter()
        for _ in range(2):
            assert not adapter.adapt(image, data_id=DATA_ID).flags.any()
        warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
        assert len(warnings) == count and "HOME_MADE" in warnings[-1]
    assert adapter == library.adapter()  # what it has named is no setting


def test_own_plane_of_a_site_is_left_out(library, caplog):
    """If the configuration names it; of others it is still told."""
    image = library.make(Scene(unknown_plane="HOME_MADE"))
    adapter = dataclasses.replace(
        library.adapter(), planes=PlaneTranslator(extra_bad=frozenset(["HOME_MADE"]))
    )
    flags = adapter.adapt(image, data_id=DATA_ID).flags
    assert flags.all() and (flags & ALWAYS_LEFT_OUT != 0).all()
    assert not [record for record in caplog.records if record.levelno == logging.WARNING]
    assert adapter != library.adapter()


def test_value_that_no_detector_gives_becomes_no_data(library):
    """Interpolation would spread it over half of the patch."""
    scene = Scene()
    scene.counts[3, 4] = 1e9
    assert np.argwhere(adapt(library, scene).flags == Plane.NO_DATA).tolist() == [[3, 4]]


@pytest.mark.parametrize("plane", ["counts", "variance"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_become_no_data(library, plane, value):
    scene = Scene()
    getattr(scene, plane)[3, 4:9] = value
    assert np.argwhere(adapt(library, scene).flags == Plane.NO_DATA).tolist() == [[3, x] for x in range(4, 9)]


@pytest.mark.parametrize("value", [0.0, -4.0])
def test_variance_that_is_not_positive_becomes_no_data(library, value):
    scene = Scene()
    scene.variance[3, 4:9] = value
    assert np.argwhere(adapt(library, scene).flags == Plane.NO_DATA).tolist() == [[3, x] for x in range(4, 9)]


def test_positions_are_those_of_the_whole_detector(library):
    wcs = adapt(library, Scene()).wcs
    x, y = np.meshgrid([1000.0, 90.0, 30.0], [1000.0, 720.0])
    ra, dec = wcs.pixel_to_sky(x=x, y=y)
    expected = make_wcs().all_pix2world(x, y, 0)
    assert ra.shape == dec.shape == (2, 3)
    np.testing.assert_allclose((ra, dec), expected, atol=1e-8)
    assert ra[0, 0] == pytest.approx(150, abs=1e-9)
    np.testing.assert_allclose(wcs.sky_to_pixel(ra=ra, dec=dec), (x, y), atol=1e-5)
    assert np.shape(wcs.pixel_to_sky(x=1.0, y=2.0)[0]) == ()


def test_kernel_is_odd_centred_and_complete(library):
    psf = adapt(library, Scene(sigma=1.6)).psf
    for x, y in ((X0, Y0), (X0 + 60.3, Y0 + 44.8)):
        kernel = psf(x=x, y=y)
        height, width = kernel.shape
        assert height % 2 and width % 2
        assert np.unravel_index(kernel.argmax(), kernel.shape) == (height // 2, width // 2)
        assert kernel.sum() == pytest.approx(1, abs=1e-3)
        moments = galsim.hsm.FindAdaptiveMom(galsim.Image(np.asarray(kernel, float)))
        assert moments.moments_sigma == pytest.approx(np.hypot(1.6, 0), rel=0.05)


def test_psf_without_a_value_is_an_error_that_names_the_data_id(library, monkeypatch):
    """Whatever the model raises, far from where it was tried first."""
    psf = adapt(library, Scene()).psf

    def fail(*args, **kwargs):
        raise IndexError("no star near")

    class Broken:
        bounds = getattr(psf.psf, "bounds", None)
        computeKernelImage = compute_kernel_image = fail

    broken = dataclasses.replace(psf, psf=Broken())
    with pytest.raises(
        InvalidExposureError, match=f"PSF of {LABEL} has no value at x=60 y=720.*no star near"
    ):
        broken(x=60.0, y=720.0)


def test_psf_may_have_a_hole_at_the_centre_of_the_frame(library, monkeypatch):
    """That is no reason to lose the rest; a cell there is left out later."""
    image = library.make(Scene())
    x, y = X0 + (SHAPE[1] - 1) / 2, Y0 + (SHAPE[0] - 1) / 2

    class Holed:
        def __init__(self, psf):
            self.psf = psf

        def __call__(self, **place):
            if np.hypot(place["x"] - x, place["y"] - y) < 12:
                raise InvalidExposureError("It has no value there.")
            return self.psf(**place)

    for name in ("VisitImagePsf", "ExposurePsf"):
        module = _images if name == "VisitImagePsf" else _afw
        real = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *args, real=real: Holed(real(*args)))
    exposure = library.adapter().adapt(image, data_id=DATA_ID)
    with pytest.raises(InvalidExposureError):
        exposure.psf(x=x, y=y)
    assert exposure.psf(x=x + 12, y=y).sum() == pytest.approx(1, abs=1e-3)


def test_warps_without_a_class_or_a_unit_are_an_error_that_names_the_visit(library):
    """lsst.images has no class for warps; afw's must be in nJy."""
    box = Box.factory[Y0 : Y0 + 20, X0 : X0 + 20]
    wcs = adapt(library, Scene()).wcs
    with pytest.raises(InvalidExposureError, match="visit=1228"):
        library.adapter().adapt_warp(library.make(Scene()), data_id=DATA_ID, wcs=wcs, box=box, bad=Plane.BAD)


def test_image_itself_is_not_changed(library):
    scene = Scene(counts=np.arange(SHAPE[0] * SHAPE[1], dtype=float).reshape(SHAPE), background=3.0)
    image = library.make(scene)
    before = library.pixels(image).copy()
    options = {"revert": True, "apply": True}
    library.adapter(**options).adapt(image, data_id=DATA_ID, extras=library.extras(scene, **options))
    np.testing.assert_array_equal(library.pixels(image), before)


def test_handles_are_read_when_they_are_needed_and_not_kept(library):
    images = []

    def read():
        images.append(library.make(Scene()))
        return images[-1]

    handle = SimpleNamespace(get=read, dataId=DATA_ID)
    adapter = library.adapter()
    first, second = (adapter.adapt(handle, data_id=DATA_ID) for _ in range(2))
    assert len(images) == 2
    np.testing.assert_array_equal(first.image, second.image)
    assert not np.shares_memory(first.image, second.image)


@pytest.mark.parametrize(("revert", "apply"), [(False, False), (True, False), (False, True), (True, True)])
def test_backgrounds_are_added_and_subtracted_before_calibration(library, revert, apply):
    scene = Scene(background=5.0, sky_correction=0.5, calibration=(30.0, 3.0))
    exposure = adapt(library, scene, revert=revert, apply=apply)
    counts = 2.0 + 5.0 * revert - 0.5 * apply
    np.testing.assert_allclose(exposure.image, counts * scene.scaling, rtol=1e-5)
    np.testing.assert_allclose(exposure.variance, 4 * scene.scaling**2, rtol=1e-5)


def test_aperture_corrections(library):
    exposure = adapt(library, Scene(aperture_correction=0.97))
    assert set(exposure.aperture_corrections) == {"base_PsfFlux_instFlux"}
    assert exposure.aperture_corrections["base_PsfFlux_instFlux"](x=X0 + 3, y=Y0 + 5) == pytest.approx(0.97)
    assert not adapt(library, Scene()).aperture_corrections


def test_summary_without_statistics_has_the_width_of_the_psf(library):
    summary = library.adapter().summarize(library.make(Scene(sigma=2.0)), data_id=DATA_ID, names=["nPsfStar"])
    assert summary.psf_fwhm == pytest.approx(2.0 * 2.3548 * SCALE, rel=0.05)
    assert not summary.statistics and summary.visit is None


def test_summary_has_the_statistics_that_are_asked_for(library):
    statistics = {"psfSigma": 1.5, "pixelScale": 0.2, "nPsfStar": 17, "starEMedian": 0.1, "skyNoise": 3.0}
    image = library.make(Scene(statistics=statistics))
    wanted = ["nPsfStar", "starEMedian", "psfApFluxDelta", "no_such_column"]
    summary = library.adapter().summarize(image, data_id=DATA_ID, names=wanted)
    assert summary.psf_fwhm == pytest.approx(1.5 * 0.2 * 2.3548, rel=1e-4)
    known = {name: value for name, value in summary.statistics.items() if not np.isnan(value)}
    assert known == {name: value for name, value in statistics.items() if name != "skyNoise"}


def test_summary_of_an_image_without_psf_is_empty(library):
    summary = library.adapter().summarize(library.make(Scene(sigma=None)), data_id=DATA_ID)
    assert np.isnan(summary.psf_fwhm) and not summary.statistics


def test_summary_of_a_warp_without_a_record_of_its_inputs_is_empty(library):
    summary = library.adapter().summarize_warp(library.make(Scene()), data_id=DATA_ID)
    assert np.isnan(summary.psf_fwhm) and not summary.statistics and summary.visit is None


def test_band(library):
    assert library.adapter().find_band(library.make(Scene())) == "r"


def test_artifacts(library):
    clipped = np.zeros((40, 50), bool)
    clipped[5:7, 9] = True
    artifacts = library.adapter().read_artifacts(library.artifact_mask(clipped, x0=8000, y0=-30))
    np.testing.assert_array_equal(artifacts.clipped, clipped)
    assert (artifacts.x0, artifacts.y0) == (8000, -30)


class TractMap:
    """The grid of a tract: the detector's, turned and elsewhere."""

    def __init__(self):
        self.wcs = make_wcs()
        c, s = np.cos(0.3), np.sin(0.3)
        self.wcs.wcs.cdelt = [1, 1]
        self.wcs.wcs.pc = np.array([[-c, s], [s, c]]) * SCALE / 3600
        self.wcs.wcs.crpix = [5001, 401]

    def pixel_to_sky(self, *, x, y):
        return self.wcs.all_pix2world(x, y, 0)

    def sky_to_pixel(self, *, ra, dec):
        return self.wcs.all_world2pix(ra, dec, 0)


def test_a_star_keeps_flux_and_place_on_the_grid(library):
    """Units, WCS, origin and PSF together: a star of 6000 nJy at a sky
    position, seen on the tract.
    """
    x, y, flux = 64.3, 41.6, 200.0
    star = galsim.Gaussian(sigma=1.6).withFlux(flux)
    stamp = galsim.Image(np.zeros(SHAPE), xmin=0, ymin=0)
    star.drawImage(stamp, center=galsim.PositionD(x, y), scale=1)
    exposure = adapt(library, Scene(counts=stamp.array))
    tract = TractMap()
    ra, dec = exposure.wcs.pixel_to_sky(x=np.array([X0 + x]), y=np.array([Y0 + y]))
    place = np.ravel(tract.sky_to_pixel(ra=ra, dec=dec))
    x0, y0 = (int(value) - 25 for value in place)
    warped = WarpPlan.make(exposure, wcs=tract, x0=x0, y0=y0, height=51, width=51, bad=Plane.BAD).warp()
    image = warped.image.astype(float)
    assert image.sum() == pytest.approx(30 * flux, rel=0.005)
    rows, columns = np.indices(image.shape)
    centroid = [(columns * image).sum() / image.sum(), (rows * image).sum() / image.sum()]
    np.testing.assert_allclose(np.add(centroid, (warped.x0, warped.y0)), place, atol=0.03)
    kernel = warped.psf(x=place[0], y=place[1])
    assert kernel.max() * 30 * flux == pytest.approx(image.max(), rel=0.08)
