# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Synthetic sources in real exposures: fluxes, places, noise, the command."""

import astropy.units as u
import galsim
import numpy as np
import pytest
from astropy.table import MaskedColumn, Table, vstack
from conftest import to_njy

from lsst.coadd.astroclearnet._coadds import CoaddView, sample_gaussian
from lsst.coadd.astroclearnet.adapters import SkyProjectionMap, exposure_from_visit_image
from lsst.coadd.astroclearnet.gather_acn_injected import GatherAcnInjectedTask
from lsst.coadd.astroclearnet.inject_acn_sources import (
    InjectAcnSourcesConfig,
    InjectAcnSourcesTask,
    InjectionFailedError,
)
from lsst.coadd.astroclearnet.injection import (
    FLAGS,
    Pair,
    add_photon_noise,
    estimate_gain,
    make_truth,
    measure_injection,
    merge_injected,
)
from lsst.coadd.astroclearnet.simulate import flux_from_mag

MAG = 20.0
FLUX = float(flux_from_mag(MAG))


def exact(**values):
    """Return a task without noise."""
    config = InjectAcnSourcesConfig()
    config.update(**({"add_noise": False, "inject_variance": False} | values))
    return InjectAcnSourcesTask(config=config)


@pytest.fixture(scope="module")
def catalog(small_patch):
    """Return a star in the middle of the patch and a galaxy beside it."""
    geometry = small_patch.geometry
    x, y = geometry.outer_bbox.x.center, geometry.outer_bbox.y.center
    ra, dec = geometry.wcs.pixel_to_sky(x=np.array([x + 0.3, x + 43.7]), y=np.array([y - 0.2, y - 40.4]))
    nothing = [True, False]
    return Table(
        {
            "injection_id": [7, 3],
            "ra": ra,
            "dec": dec,
            "source_type": ["DeltaFunction", "Sersic"],
            "mag": [MAG, MAG],
            "n": MaskedColumn([0.0, 1.0], mask=nothing),
            "half_light_radius": MaskedColumn([0.0, 0.5], mask=nothing),
            "q": MaskedColumn([0.0, 0.5], mask=nothing),
            "beta": MaskedColumn([0.0, 30.0], mask=nothing),
        }
    )


@pytest.fixture(scope="module")
def injected(small_patch, catalog):
    """Return each image, what came out without noise, and its added light."""
    task, results = exact(), []
    for one in small_patch.inputs:
        before = one.exposure_or_handle
        outputs = task.run(injection_catalogs=[catalog], input_exposure=before, data_id=one.data_id)
        light = to_njy(outputs.output_exposure) - to_njy(before)
        results.append((one, outputs, light))
    return results


def stamps(injected, number, half):
    """Return image, stamp of the added light and place of one source in each
    exposure that has the whole stamp; two or more have.
    """
    found = []
    for one, outputs, light in injected:
        image = one.exposure_or_handle
        for row in outputs.output_catalog[outputs.output_catalog["injection_id"] == number]:
            place = float(row["x"]), float(row["y"])
            corner = round(place[0]) - half, round(place[1]) - half
            column, line = corner[0] - image.bbox.x.start, corner[1] - image.bbox.y.start
            size = 2 * half + 1
            if min(column, line) >= 0:
                stamp = light[line : line + size, column : column + size]
                if stamp.shape == (size, size):
                    found.append((image, np.ascontiguousarray(stamp), place, corner))
    assert len(found) >= 2
    return found


@pytest.mark.parametrize(("number", "accuracy"), [(7, 0.005), (3, 0.01)])
def test_fluxes_are_true_in_every_exposure(injected, number, accuracy):
    for image, stamp, _, _ in stamps(injected, number, 20):
        assert image.unit == u.adu  # the calibration is used
        assert stamp.sum() == pytest.approx(FLUX, rel=accuracy)


def test_fit_of_the_exposures_own_psf_finds_the_flux(small_patch, catalog):
    n_whole = 0
    for one in small_patch.inputs:
        image = one.exposure_or_handle
        outputs = exact().run(injection_catalogs=[catalog[:1]], input_exposure=image, data_id=one.data_id)
        light = to_njy(outputs.output_exposure) - to_njy(image)
        row = outputs.output_catalog[0]
        model = image.psf.compute_stellar_image(x=float(row["x"]), y=float(row["y"]))
        kernel = model.array / model.array.sum()
        corner = model.bbox.y.start - image.bbox.y.start, model.bbox.x.start - image.bbox.x.start
        part = light[corner[0] : corner[0] + kernel.shape[0], corner[1] : corner[1] + kernel.shape[1]]
        if part.shape != kernel.shape:
            continue  # the frame ends here
        n_whole += 1
        assert np.sum(part * kernel) / np.sum(kernel**2) == pytest.approx(FLUX, rel=0.005)
        assert np.abs(part - FLUX * kernel).max() < 0.005 * part.max()
    assert n_whole >= 2


@pytest.mark.parametrize(("number", "index"), [(7, 0), (3, 1)])
def test_places_agree_over_visits(injected, catalog, number, index):
    row = catalog[index]
    for image, stamp, _, corner in stamps(injected, number, 12):
        found = galsim.hsm.FindAdaptiveMom(galsim.ImageD(stamp, xmin=corner[0], ymin=corner[1]))
        center = found.moments_centroid
        wcs = SkyProjectionMap(image.sky_projection)
        ra, dec = wcs.pixel_to_sky(x=np.array([center.x]), y=np.array([center.y]))
        offset = np.hypot((ra[0] - row["ra"]) * np.cos(np.radians(dec[0])), dec[0] - row["dec"])
        assert offset * 3600 < 0.005


def test_galaxy_keeps_its_angle_in_turned_frames(injected):
    for image, stamp, place, _ in stamps(injected, 3, 15):
        shape = galsim.hsm.FindAdaptiveMom(galsim.ImageD(stamp)).observed_shape
        angle = 0.5 * np.arctan2(shape.g2, shape.g1)
        x, y = (
            start + np.array([0.0, step])
            for start, step in zip(place, (np.cos(angle), np.sin(angle)), strict=True)
        )
        ra, dec = SkyProjectionMap(image.sky_projection).pixel_to_sky(x=x, y=y)
        found = np.degrees(np.arctan2(np.diff(dec)[0], np.diff(ra)[0] * np.cos(np.radians(dec[0]))))
        assert (found - 30 + 90) % 180 - 90 == pytest.approx(0, abs=8)  # the PSF is not round


def test_nothing_else_changes(injected):
    for one, outputs, light in injected:
        before, after = one.exposure_or_handle, outputs.output_exposure
        touched = after.mask.get("INJECTED")
        assert np.all(light[~touched] == 0) and touched.any() and not touched.all()
        assert 9 <= after.mask.get("INJECTED_CORE").sum() <= 18
        assert np.array_equal(before.variance.array, after.variance.array)
        assert "INJECTED" not in before.mask.schema.names
        for name in before.mask.schema.names:
            assert np.array_equal(before.mask.get(name), after.mask.get(name))
        assert after.psf is before.psf and after.bbox == before.bbox and after.unit == before.unit
        assert after.band == before.band and after.obs_info == before.obs_info
        assert dict(after.metadata) == dict(before.metadata) | {"INJECTED": "calexp"}
        assert outputs.output_catalog.colnames[:5] == [
            *("injection_id", "injection_flag", "injection_draw_size", "x", "y")
        ]


def test_noise_is_that_of_the_photons(small_patch, catalog):
    one = small_patch.inputs[0]
    image = one.exposure_or_handle
    quiet = exact().run(injection_catalogs=[catalog], input_exposure=image, data_id=one.data_id)
    config = InjectAcnSourcesConfig()
    noisy = [
        InjectAcnSourcesTask(config=config).run(
            injection_catalogs=[part], input_exposure=image, data_id=one.data_id
        )
        for part in (catalog, catalog[::-1])
    ]
    first, again = (outputs.output_exposure for outputs in noisy)
    assert np.array_equal(first.image.array, again.image.array)  # whatever the order
    config.noise_seed = 1
    other = InjectAcnSourcesTask(config=config).run(
        injection_catalogs=[catalog], input_exposure=image, data_id=one.data_id
    )
    assert not np.array_equal(first.image.array, other.output_exposure.image.array)
    light = quiet.output_exposure.image.array.astype(float) - image.image.array
    bright = light > 30  # adu; the simulated detectors have 3 electrons each
    raised = first.variance.array.astype(float) - image.variance.array
    np.testing.assert_allclose(raised[bright], light[bright] / 3, rtol=0.02)
    error = first.image.array.astype(float) - quiet.output_exposure.image.array
    pull = error[bright] / np.sqrt(light[bright] / 3)
    assert bright.sum() > 100 and abs(pull.mean()) < 0.3 and pull.std() == pytest.approx(1, abs=0.2)


def test_gain_is_found_in_the_variance(small_patch):
    one = small_patch.inputs[0]
    exposure = exposure_from_visit_image(one.exposure_or_handle, data_id=one.data_id)
    scale = float(np.median(to_njy(one.exposure_or_handle) / one.exposure_or_handle.image.array))
    assert estimate_gain(exposure) * scale == pytest.approx(3, rel=0.02)
    flat = exposure.variance.copy()
    flat[...] = np.median(flat)
    object.__setattr__(exposure, "variance", flat)
    assert np.isnan(estimate_gain(exposure))
    light = np.array([[-1.0, 0.0, 1e4]])
    rng = np.random.default_rng(1)
    np.testing.assert_allclose(add_photon_noise(light, gain=1e4, rng=rng), light, rtol=0.01)


def test_bad_rows_are_flagged_and_the_others_injected(small_patch, catalog):
    one = small_patch.inputs[0]
    rows = vstack([catalog[:1], catalog[1:], catalog[1:], catalog[1:]])
    rows["injection_id"] = np.arange(4)
    rows["source_type"] = ["Star", "Nebula", "Sersic", "Sersic"]
    rows["n"][2] = 9.0
    rows["mag"][3] = np.nan
    outputs = exact().run(
        injection_catalogs=[rows], input_exposure=one.exposure_or_handle, data_id=one.data_id
    )
    flags = outputs.output_catalog["injection_flag"]
    expected = [0, *(1 << FLAGS[name] for name in ("TYPE_UNKNOWN", "SERSIC_EXTREME", "MAG_BAD"))]
    assert list(flags) == expected
    assert outputs.output_catalog["injection_draw_size"][0] > 20
    assert merge_injected([outputs.output_catalog])["injection_id"].tolist() == [0]
    with pytest.raises(InjectionFailedError, match="no column half_light_radius"):
        rows.remove_column("half_light_radius")
        exact().run(injection_catalogs=[rows], input_exposure=one.exposure_or_handle, data_id=one.data_id)


def test_images_without_sources_are_copied(small_patch, catalog):
    one = small_patch.inputs[0]
    far = catalog.copy()
    far["dec"] -= 60
    for tables in ([], [far]):
        outputs = exact().run(
            injection_catalogs=tables, input_exposure=one.exposure_or_handle, data_id=one.data_id
        )
        assert np.array_equal(outputs.output_exposure.image.array, one.exposure_or_handle.image.array)
        assert len(outputs.output_catalog) == 0


def test_truth_is_what_the_comparison_reads(small_patch, injected, catalog):
    geometry = small_patch.geometry
    task = GatherAcnInjectedTask()
    outputs = task.run(
        injected_catalogs=[outputs.output_catalog for _, outputs, _ in injected], geometry=geometry
    )
    truth = outputs.truth_catalog
    assert set(small_patch.truth_catalog.colnames) - set(truth.colnames) == {"g1", "g2", "pair", "saturated"}
    assert truth["id"].tolist() == [3, 7] and truth["type"].tolist() == ["galaxy", "star"]
    assert truth["n_exposures"].max() == len(injected)
    np.testing.assert_allclose(truth["flux"], FLUX)
    np.testing.assert_allclose(truth["ra"], np.asarray(catalog["ra"])[::-1])
    assert outputs.truth_image.bbox == geometry.outer_bbox and outputs.truth_image.unit == u.nJy
    assert outputs.truth_image.array.sum(dtype=float) == pytest.approx(2 * FLUX, rel=0.01)
    empty, image = make_truth(merge_injected([]), geometry, target_fwhm=2.5)
    assert len(empty) == 0 and not image.array.any()


def make_view(name, image):
    """Look at an image with a Gaussian PSF of 3 px and noise of 1 nJy."""
    kernel = sample_gaussian(3.0, 31)
    nothing = np.zeros(image.shape, bool)
    return CoaddView(
        name=name,
        image=image.astype(np.float32),
        variance=np.ones(image.shape, np.float32),
        bad=nothing,
        saturated=nothing,
        x0=100,
        y0=50,
        pixel_scale=0.2,
        psf=lambda *, x, y: kernel,
    )


def draw_points(x, y, flux):
    image = np.zeros((200, 220))
    for column, row, value in zip(x, y, flux, strict=True):
        image[row - 15 : row + 16, column - 15 : column + 16] += value * sample_gaussian(3.0, 31)
    return image


def test_injected_sources_are_told_from_those_that_were_there():
    rng = np.random.default_rng(3)
    x, y = (grid.ravel() for grid in np.meshgrid(np.arange(30, 200, 30), np.arange(30, 180, 30)))
    flux = np.where(np.arange(len(x)) < 15, 1000.0, 2.0)  # S/N 200, and 0.4
    catalog = Table({"x": x + 100.0, "y": y + 50.0, "mag": 31.4 - 2.5 * np.log10(flux)})
    catalog["type"] = ["star", "galaxy"] * 15
    light = draw_points(x, y, flux)
    # One injected source lies on an old one, others 5 px beside old ones.
    before = rng.normal(0, 1, light.shape) + draw_points(
        [x[0], x[3] + 5, 45], [y[0], y[3], 45], [5e3, 300, 5e3]
    )
    after = before + 0.98 * light + draw_points([105], [105], [500])
    pair = Pair(after=make_view("acn", after), before=make_view("acn before", before))
    options = {"mag_edges": [23.0, 27.0, 31.0], "match_radius": 0.5}
    metrics, sources = measure_injection([pair], make_view("truth", light), catalog, **options)
    values = {row["name"]: row for row in metrics}
    assert values["completeness_star_mag_23_27"]["value"] == 1
    assert values["completeness_star_mag_27_31"]["value"] == 0
    assert values["completeness_star_mag_23_27"]["n"] == 7  # without the one on an old source
    assert not sources["usable_acn"][0] and np.all(sources["usable_acn"][1:])
    for kind in ("star", "galaxy"):
        assert values[f"flux_bias_{kind}_mag_23_27"]["value"] == pytest.approx(-0.02, abs=0.002)
    area = light[10:-10, 10:-10].size * (0.2 / 60) ** 2  # without the margin that is not searched
    assert values["false_positives"]["value"] == pytest.approx(1 / area)  # the source of no catalogue
    assert values["false_detections_before"]["n"] == 0 and values["n_split"]["value"] == 0
    alone, _ = measure_injection([Pair(after=pair.after)], make_view("truth", light), catalog, **options)
    assert np.isnan(alone["value"][alone["name"] == "false_positives"][0])
    with pytest.raises(ValueError, match="acn covers"):
        measure_injection([pair], make_view("truth", light[:-1]), catalog)
