# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Injected sources and their truth: which is which, where, and how many."""

import dataclasses
import types

import numpy as np
import pytest
from astropy.table import Table
from test_inject import draw_points, exact, make_view

from lsst.coadd.astroclearnet.adapters import exposure_from_visit_image
from lsst.coadd.astroclearnet.inject_acn_sources import InjectionFailedError
from lsst.coadd.astroclearnet.injection import (
    InjectionConfig,
    InjectionError,
    Pair,
    list_differences,
    make_injection_catalog,
    make_truth,
    map_coverage,
    measure_injection,
    merge_injected,
    put_injection_catalog,
)
from lsst.coadd.astroclearnet.simulate import flux_from_mag
from lsst.daf.butler import Butler

OPTIONS = {"mag_edges": [23.0, 27.0, 31.0], "match_radius": 0.5}


def turn(exposure_or_patch, degrees):
    """Move something on the sky by an angle in right ascension."""
    wcs = exposure_or_patch.wcs

    class Turned:
        def pixel_to_sky(self, *, x, y):
            ra, dec = wcs.pixel_to_sky(x=x, y=y)
            return (ra + degrees) % 360, dec

        def sky_to_pixel(self, *, ra, dec):
            return wcs.sky_to_pixel(ra=(np.asarray(ra) - degrees) % 360, dec=dec)

    return Turned()


def make_points(x, y, flux):
    """Return a catalogue as `make_truth` describes it."""
    catalog = Table({"x": np.asarray(x) + 100.0, "y": np.asarray(y) + 50.0})
    catalog["mag"] = 31.4 - 2.5 * np.log10(flux)
    catalog["type"] = ["star"] * len(catalog)
    return catalog


def test_sources_of_catalogues_that_share_their_ids_are_all_true(small_patch):
    geometry = small_patch.geometry
    x, y = geometry.outer_bbox.x.center, geometry.outer_bbox.y.center
    ra, dec = geometry.wcs.pixel_to_sky(x=np.array([x - 30, x + 30]), y=np.array([y, y]))
    two = [
        Table({"injection_id": [0], "ra": [a], "dec": [d], "source_type": ["Star"], "mag": [20.0]})
        for a, d in zip(ra, dec, strict=True)
    ]
    outputs = [
        exact().run(
            injection_catalogs=two[::step], input_exposure=one.exposure_or_handle, data_id=one.data_id
        )
        for step, one in zip([1, -1] * len(small_patch.inputs), small_patch.inputs, strict=False)
    ]
    injected = merge_injected([one.output_catalog for one in outputs])
    assert len(injected) == 2 and injected["n_exposures"].min() >= 2
    _, image = make_truth(injected, geometry, target_fwhm=2.5)
    assert image.array.sum() == pytest.approx(2 * flux_from_mag(20.0), rel=0.002)


def test_sources_without_ids_are_refused(small_patch):
    one = small_patch.inputs[0]
    catalog = Table({"ra": [0.0], "dec": [0.0], "source_type": ["Star"], "mag": [20.0]})
    with pytest.raises(InjectionFailedError, match="no column injection_id"):
        exact().run(injection_catalogs=[catalog], input_exposure=one.exposure_or_handle, data_id=one.data_id)


@pytest.mark.parametrize("dec", [95.0, np.nan])
def test_places_off_the_sky_are_refused_before_anything_is_stored(dec, tmp_path):
    Butler.makeRepo(str(tmp_path))
    catalog = Table({"ra": [150.0, 150.0], "dec": [2.0, dec], "source_type": ["Star"] * 2, "mag": [20.0] * 2})
    with Butler.from_config(str(tmp_path), writeable=True) as butler:
        with pytest.raises(InjectionError, match="no place on the sky in 1 of 2 rows"):
            put_injection_catalog(butler, catalog, bands=["i"], run="u/test/catalog")
        assert not butler.collections.query("u/test/*")


def test_one_detection_is_one_source():
    x, y = np.array([60, 62, 150]), np.array([60, 60, 120])  # the first two cannot be told apart
    light = draw_points(x, y, [1000.0] * 3)
    before = np.random.default_rng(3).normal(0, 1, light.shape)
    pair = Pair(after=make_view("acn", before + light), before=make_view("acn before", before))
    metrics, sources = measure_injection(
        [pair], make_view("truth", light), make_points(x, y, np.full(3, 1000.0)), **OPTIONS
    )
    assert sources["found_acn"].sum() == 2
    row = metrics[metrics["name"] == "completeness_star_mag_23_27"][0]
    assert row["value"] == pytest.approx(2 / 3) and row["n"] == 3


def test_rates_are_on_the_area_that_was_searched():
    light = draw_points([60], [60], [1000.0])
    before = np.random.default_rng(3).normal(0, 1, light.shape)
    after = before + light + draw_points([40], [150], [500.0])
    planes = []
    for name, image in (("acn", after), ("acn before", before)):
        view = make_view(name, image)
        view.saturated[:, 110:] = True
        planes.append(view)
    metrics, _ = measure_injection(
        [Pair(after=planes[0], before=planes[1])],
        make_view("truth", light),
        make_points([60], [60], [1000.0]),
        **OPTIONS,
    )
    values = {row["name"]: row for row in metrics}
    # 10 pixels from every edge, and from the saturated half.
    area = (110 - 20) * (200 - 20) * (0.2 / 60) ** 2
    assert values["false_positives"]["value"] == pytest.approx(1 / area)
    row = values["false_detections_before"]
    assert row["value"] == 0 and row["error"] == pytest.approx(1 / area)


def test_what_is_never_negative_has_no_negative_detections():
    light = draw_points([60], [60], [1000.0])
    noisy = np.random.default_rng(3).normal(0, 1, light.shape)
    restored = [make_view(name, image) for name, image in (("latent", light), ("before", 0 * light))]
    pairs = [
        Pair(after=make_view("acn", noisy + light), before=make_view("acn before", noisy)),
        Pair(after=restored[0], before=restored[1]),
    ]
    metrics, _ = measure_injection(
        pairs, make_view("truth", light), make_points([60], [60], [1000.0]), **OPTIONS
    )
    rows = {row["plane"]: row for row in metrics[metrics["name"] == "false_detections_before"]}
    assert np.isfinite(rows["acn"]["value"]) and np.isnan(rows["latent"]["value"])


def test_other_exposures_are_a_difference():
    made = {"config": "{}", "n_inputs": 12}
    assert list_differences(made, dict(made)) == []
    assert list_differences(made, made | {"n_inputs": 9}) == ["n_inputs"]


def test_patches_where_right_ascension_passes_zero(small_patch):
    geometry = small_patch.geometry
    exposures = [
        exposure_from_visit_image(one.exposure_or_handle, data_id=one.data_id) for one in small_patch.inputs
    ]
    # The middle of the patch, and of one exposure, lies between two pixels
    # of which one is before and one behind 0.
    config = InjectionConfig(density=60, seed=2)
    there = [map_coverage(one, band="i", avoid=1.0) for one in exposures]
    usual = make_injection_catalog(config, patches=[geometry], coverage=there)
    for middle in (geometry, exposures[0]):
        if middle is geometry:
            box = geometry.outer_bbox
            x, y = (box.x.start + box.x.stop) / 2, (box.y.start + box.y.stop) / 2
        else:
            height, width = middle.image.shape
            x, y = middle.x0 + width / 2, middle.y0 + height / 2
        ra, _ = middle.wcs.pixel_to_sky(x=np.array([x + 0.5]), y=np.array([y]))
        turned = [dataclasses.replace(one, wcs=turn(one, -ra[0])) for one in exposures]
        coverage = [map_coverage(one, band="i", avoid=1.0) for one in turned]
        assert all(np.array_equal(a.occupied, b.occupied) for a, b in zip(coverage, there, strict=True))
        patch = types.SimpleNamespace(
            skymap="s",
            tract=geometry.tract,
            patch=0,
            outer_bbox=geometry.outer_bbox,
            wcs=turn(geometry, -ra[0]),
        )
        table = make_injection_catalog(config, patches=[patch], coverage=coverage)
        assert len(table) == len(usual)
        assert np.allclose((table["ra"] + ra[0]) % 360, usual["ra"], atol=1e-9)


def test_distance_from_bright_sources_is_kept_in_every_direction(small_patch):
    one = small_patch.inputs[0]
    exposure = exposure_from_visit_image(one.exposure_or_handle, data_id=one.data_id)
    image = np.zeros_like(exposure.image)
    image[200:210, 200:210] = 1e3 * np.sqrt(np.median(exposure.variance))
    exposure = dataclasses.replace(exposure, image=image, flags=np.zeros_like(exposure.flags))
    occupied = map_coverage(exposure, band="i", avoid=5.0).occupied
    reach = 5.0 / 0.168
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    distance = np.hypot(np.maximum(abs(x - 204.5) - 4.5, 0), np.maximum(abs(y - 204.5) - 4.5, 0))
    assert occupied[distance < 0.95 * reach].all() and not occupied[distance > 1.05 * reach].any()


def test_sources_of_overlapping_tracts_keep_their_distance(small_patch):
    geometry = small_patch.geometry
    coverage = [
        map_coverage(
            exposure_from_visit_image(one.exposure_or_handle, data_id=one.data_id), band="i", avoid=0.0
        )
        for one in small_patch.inputs
    ]
    patches = [geometry, dataclasses.replace(geometry, tract=geometry.tract + 1)]
    config = InjectionConfig(density=100, separation=3.0, avoid=0.0)
    table = make_injection_catalog(config, patches=patches, coverage=coverage)
    x, y = geometry.wcs.sky_to_pixel(ra=np.asarray(table["ra"]), dec=np.asarray(table["dec"]))
    apart = np.hypot(x[:, None] - x, y[:, None] - y)[np.triu_indices(len(x), 1)] * 0.168
    assert len(table) > 20 and apart.min() > 2.99
