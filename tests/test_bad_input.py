# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the tasks do with input that is not as it should be."""

import dataclasses
import logging
import re

import astropy.units as u
import numpy as np
import pytest
import torch
from scipy.ndimage import binary_dilation

from lsst.coadd.astroclearnet.assemble_acn_coadd import (
    AssembleAcnCoaddConfig,
    AssembleAcnCoaddTask,
    CoaddInput,
    UnusableInputsError,
)
from lsst.coadd.astroclearnet.core import CoreError
from lsst.images import XY, Box, Image
from lsst.images.psfs import PointSpreadFunction
from lsst.images.serialization import ArchiveReadError
from lsst.pipe.base import NoWorkFound

pytestmark = pytest.mark.usefixtures("hasty_filling")


def make_task(**fields):
    config = AssembleAcnCoaddConfig()
    config.update(**({"method": "mean"} | fields))
    config.validate()
    return AssembleAcnCoaddTask(config=config)


def run(task, patch, inputs, geometry=None):
    return task.run(inputs=inputs, geometry=geometry or patch.geometry, band="i")


def spoil(inputs, change, which=1):
    """Return the inputs with a changed copy of one exposure."""
    image = inputs[which].exposure_or_handle.copy()
    change(image)
    changed = CoaddInput(exposure_or_handle=image, data_id=inputs[which].data_id)
    return [*inputs[:which], changed, *inputs[which + 1 :]]


@pytest.fixture(scope="module")
def clean(small_patch):
    return run(make_task(use_interpolated=False), small_patch, small_patch.inputs)


def assert_dropped(result, caplog, text):
    """One exposure was dropped, and said so in the table and in the log."""
    table = result.inputs_table
    assert list(table["kept"]) == [True, False, True, True]
    assert text in table["reason"][1] and "visit=29326 detector=49" in table["reason"][1]
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert any("visit=29326 detector=49" in line and text in line for line in warnings)
    assert result.n_image.array.max() == 3
    assert np.isfinite(result.coadd.image.array).all()


class StampPsf(PointSpreadFunction):
    """A PSF that returns one array everywhere."""

    def __init__(self, array):
        self.array = array

    bounds = property(lambda self: Box.factory[0:5000, 0:5000])
    kernel_bbox = property(lambda self: Box.from_shape(self.array.shape))

    def compute_kernel_image(self, *, x, y):
        return Image(self.array, bbox=self.kernel_bbox)

    def compute_stellar_image(self, *, x, y):
        raise NotImplementedError

    compute_stellar_bbox = compute_stellar_image


def lose_psf(image):
    image._psf = None


def break_psf(image):
    image._psf = ArchiveReadError("its record is not complete.")


def unnormalise_psf(image):
    image._psf = StampPsf(np.full((31, 31), 0.7 / 961))


def nan_psf(image):
    image._psf = StampPsf(np.full((31, 31), np.nan))


def lose_calibration(image):
    image._photometric_scaling = None


def lose_variance(image):
    image.variance.array.fill(np.nan)


def zero_calibration(image):
    image._photometric_scaling = 0.0 * image.photometric_scaling


def change_band(image):
    image._band = "r"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lose_psf, "has no PSF"),
        (break_psf, "PSF"),
        (unnormalise_psf, "sums to 0.7"),
        (nan_psf, "NaN"),
        (lose_variance, "No pixel of visit=29326 detector=49 has a finite and positive variance"),
        (change_band, "has band 'r', the patch is made of band 'i'"),
    ],
)
def test_unusable_exposure_is_dropped_with_a_warning(small_patch, caplog, change, text):
    result = run(make_task(), small_patch, spoil(small_patch.inputs, change))
    assert_dropped(result, caplog, text)


def test_unusable_exposure_is_an_error_if_asked_for(small_patch):
    inputs = spoil(small_patch.inputs, lose_psf)
    text = r"1 of 4 inputs cannot be used \(on_bad_input is 'raise'\); .* visit=29326 detector=49 has no PSF"
    with pytest.raises(UnusableInputsError, match=text):
        run(make_task(on_bad_input="raise"), small_patch, inputs)


@pytest.mark.parametrize("change", [lose_calibration, zero_calibration])
def test_exposure_without_calibration_is_an_error(small_patch, change):
    """What its pixels mean is not known, whatever is done with others."""
    inputs = spoil(small_patch.inputs, change)
    with pytest.raises(
        UnusableInputsError, match="to nJy stops the patch.*visit=29326 detector=49"
    ) as caught:
        run(make_task(on_bad_input="drop", max_bad_fraction=1.0), small_patch, inputs)
    assert "max_bad_fraction" not in str(caught.value)


def test_wcs_that_is_not_finite_is_dropped(small_patch, caplog):
    one = small_patch.inputs[1]
    image = one.exposure_or_handle.convert_unit(u.nJy)
    right = image.sky_projection

    class Nowhere:
        def apply_forward(self, *, x, y):
            return XY(np.full(np.shape(x), np.nan), np.full(np.shape(y), np.nan))

        apply_inverse = apply_forward

    class Projection:
        pixel_to_sky_transform = Nowhere()

        def __getattr__(self, name):
            return getattr(right, name)

    image._image._sky_projection = Projection()
    broken = CoaddInput(exposure_or_handle=image, data_id=one.data_id)
    result = run(make_task(), small_patch, [small_patch.inputs[0], broken, *small_patch.inputs[2:]])
    assert_dropped(result, caplog, "WCS")


def test_fault_that_is_known_before_is_dropped(small_patch, caplog):
    one = dataclasses.replace(small_patch.inputs[1], fault="has no skyCorr")
    result = run(make_task(), small_patch, [small_patch.inputs[0], one, *small_patch.inputs[2:]])
    assert_dropped(result, caplog, "has no skyCorr")


class OddPsf(StampPsf):
    """A PSF that fails in a way of its own."""

    def __init__(self):
        super().__init__(np.ones((3, 3)))

    def compute_kernel_image(self, *, x, y):
        raise IndexError("index 7 is out of bounds")


@pytest.mark.parametrize("broken", ["psf", "read"])
def test_exception_of_any_kind_costs_its_exposure_alone(small_patch, caplog, broken):
    """Models and formatters of other packages raise what they like."""
    one = small_patch.inputs[1]
    if broken == "psf":
        inputs = spoil(small_patch.inputs, lambda image: setattr(image, "_psf", OddPsf()))
    else:

        class Handle:
            dataId = one.data_id

            def get(self, **options):
                raise KeyError("EXTNAME")

        handle = dataclasses.replace(one, exposure_or_handle=Handle())
        inputs = [small_patch.inputs[0], handle, *small_patch.inputs[2:]]
    result = run(make_task(), small_patch, inputs)
    text = (
        "(IndexError: index 7 is out of bounds)"
        if broken == "psf"
        else "cannot be read (KeyError: 'EXTNAME')"
    )
    assert_dropped(result, caplog, text)
    assert re.search("leave (it|the exposure) out", result.inputs_table["reason"][1])
    with pytest.raises(UnusableInputsError, match="visit=29326 detector=49"):
        run(make_task(on_bad_input="raise"), small_patch, inputs)


def test_data_id_of_another_band_is_dropped(small_patch, caplog):
    one = small_patch.inputs[1]
    other = dataclasses.replace(one, data_id=one.data_id | {"band": "z"})
    result = run(make_task(), small_patch, [small_patch.inputs[0], other, *small_patch.inputs[2:]])
    assert_dropped(result, caplog, "has band 'z'")


def test_mixed_units_become_one(small_patch, clean):
    """An exposure in another unit of flux density gives the same coadd."""
    image = small_patch.inputs[1].exposure_or_handle.convert_unit(u.uJy)
    inputs = list(small_patch.inputs)
    inputs[1] = dataclasses.replace(inputs[1], exposure_or_handle=image)
    result = run(make_task(use_interpolated=False), small_patch, inputs)
    np.testing.assert_allclose(result.coadd.image.array, clean.coadd.image.array, atol=0.02)
    assert result.inputs_table["kept"].all()


def test_most_inputs_unusable_is_an_error(small_patch):
    inputs = small_patch.inputs
    for which in (0, 1, 2):
        inputs = spoil(inputs, lose_psf, which)
    with pytest.raises(UnusableInputsError, match="3 of 4 inputs cannot be used.*visit=29324") as caught:
        run(make_task(), small_patch, inputs)
    assert caught.value.metadata["n_bad"] == 3
    result = run(make_task(max_bad_fraction=1.0), small_patch, inputs)
    assert result.inputs_table["kept"].sum() == 1
    # That there is no work would not tell that the inputs are to blame.
    with pytest.raises(UnusableInputsError, match=r"4 of 4 inputs cannot be used \(none is left\)"):
        run(make_task(max_bad_fraction=1.0), small_patch, spoil(inputs, lose_psf, 3))


def test_masked_exposure_is_left_out(small_patch):
    inputs = spoil(small_patch.inputs, lambda image: image.mask.set("BAD", np.ones(image.bbox.shape, bool)))
    table = run(make_task(), small_patch, inputs).inputs_table
    assert list(table["kept"]) == [True, False, True, True]
    assert table["reason"][1] == "no good pixel on the patch"


def set_pixels(plane, value):
    def change(image):
        getattr(image, plane).array[150:170, 140:170] = value

    return change


@pytest.mark.parametrize(
    ("plane", "value"),
    [
        ("image", np.nan),
        ("image", np.inf),
        ("image", -np.inf),
        ("variance", 0.0),
        ("variance", -1.0),
        ("variance", np.nan),
        ("variance", np.inf),
    ],
)
def test_bad_pixels_are_left_out(small_patch, clean, plane, value):
    task = make_task(use_interpolated=False)
    result = run(task, small_patch, spoil(small_patch.inputs, set_pixels(plane, value)))
    fewer = result.n_image.array.astype(int) - clean.n_image.array
    # 20 x 30 px, and what the interpolation smears around them; of the others
    # a few are clipped in one case and not in the other.
    assert 500 < np.count_nonzero(fewer < 0) < 1200
    assert np.count_nonzero(fewer > 0) < 50
    assert np.isfinite(result.coadd.image.array).all()
    assert np.isfinite(result.coadd.variance.array).all() and (result.coadd.variance.array > 0).all()
    # The bad pixels reach a saturated star: in its halo, where the exposures
    # differ by their PSFs, it matters which of them are left.
    halo = binary_dilation(clean.coadd.mask.get("SATURATED"), iterations=10)
    here = (fewer == 0) & (clean.n_image.array > 0) & ~halo
    assert here.mean() > 0.8
    np.testing.assert_allclose(
        result.coadd.image.array[here], clean.coadd.image.array[here], atol=clean_sigma(clean)
    )


def clean_sigma(result):
    """Return the sigma of a sky pixel."""
    return float(np.sqrt(np.median(result.coadd.variance.array)))


@pytest.mark.parametrize("method", ["mm", "acn"])
def test_bad_pixels_are_left_out_of_the_latent(small_patch, method):
    """A NaN in one exposure must not spread through Fourier transforms."""
    task = make_task(method=method, mm_iterations=3)
    result = run(task, small_patch, spoil(small_patch.inputs, set_pixels("image", np.nan)))
    for coadd in (result.latent, result.coadd):
        assert np.isfinite(coadd.image.array).all() and np.isfinite(coadd.variance.array).all()
        assert (coadd.mask.get("NO_DATA") == (result.n_image.array == 0)).all()


@pytest.mark.parametrize("method", ["mean", "mm", "acn"])
def test_one_exposure_works_with_a_warning(small_patch, caplog, method):
    result = run(make_task(method=method, mm_iterations=5), small_patch, small_patch.inputs[:1])
    assert result.n_image.array.max() == 1
    assert np.isfinite(result.coadd.image.array).all()
    assert "one visit only" in caplog.text


def test_too_few_inputs_is_no_work(small_patch):
    with pytest.raises(NoWorkFound, match="1 of 1 inputs can be used, of 1 visits; min_inputs is 3"):
        run(make_task(min_inputs=3), small_patch, small_patch.inputs[:1])


def test_detectors_of_one_visit_count_once(small_patch):
    """What a cosmic ray does must be seen on another visit."""
    first, second = small_patch.inputs[:2]
    other = dataclasses.replace(
        second, data_id={**second.data_id, "visit": first.data_id["visit"], "detector": 99}
    )
    with pytest.raises(NoWorkFound, match="2 of 2 inputs can be used, of 1 visits; min_inputs is 2"):
        run(make_task(min_inputs=2), small_patch, [first, other])


def test_no_overlap_is_no_work(small_patch):
    box = small_patch.geometry.outer_bbox
    away = Box.factory[box.y.start + 700 : box.y.stop + 700, box.x.start : box.x.stop]
    geometry = dataclasses.replace(small_patch.geometry, outer_bbox=away)
    with pytest.raises(NoWorkFound, match="0 of 4 inputs.*does not overlap the patch"):
        run(make_task(), small_patch, small_patch.inputs, geometry)


def test_cells_that_do_not_fit_are_refused_before_reading(small_patch):
    box = small_patch.geometry.outer_bbox
    odd = Box.factory[box.y.start : box.y.start + 199, box.x.start : box.x.stop]
    geometry = dataclasses.replace(small_patch.geometry, outer_bbox=odd)
    with pytest.raises(ValueError, match="tract=9813 patch=40 .*No cells of 25 to 100 .*200 x 199 .*: none"):
        run(make_task(cell_size=100), small_patch, [unread(small_patch)], geometry)


def unread(patch):
    """Return an input whose pixels nobody may ask for."""

    class Handle:
        dataId = patch.inputs[0].data_id

        def get(self):
            raise AssertionError("read too early")

    return CoaddInput(exposure_or_handle=Handle(), data_id=patch.inputs[0].data_id)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_missing_device_is_an_error_before_reading(small_patch):
    with pytest.raises(CoreError, match="device='cuda' was asked for.*'auto' or 'cpu'"):
        run(make_task(device="cuda"), small_patch, [unread(small_patch)])
