# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Catalogues of sources to inject: columns, places, the same for a seed."""

import weakref
from unittest import mock

import numpy as np
import pytest
from astropy.wcs import WCS
from conftest import DATA_ID, WHERE

from lsst.coadd.astroclearnet.adapters import exposure_from_visit_image
from lsst.coadd.astroclearnet.injection import (
    CoverageMap,
    InjectionConfig,
    _prepare,
    find_site,
    make_catalog_for_site,
    make_injection_catalog,
    map_coverage,
)
from lsst.coadd.astroclearnet.injection._area import to_unit_vectors
from lsst.coadd.astroclearnet.injection._catalog import _take_apart
from lsst.daf.butler import Butler


def make_coverage(small_patch, **options):
    return [
        map_coverage(
            exposure_from_visit_image(one.exposure_or_handle, data_id=one.data_id), band="i", **options
        )
        for one in small_patch.inputs
    ]


def test_catalogue_has_the_columns_of_upstream(small_patch):
    coverage = make_coverage(small_patch, avoid=1.0)
    config = InjectionConfig(density=60, seed=2, min_exposures=2)
    table = make_injection_catalog(config, patches=[small_patch.geometry], coverage=coverage)
    expected = "injection_id ra dec source_type mag n half_light_radius q beta trunc"
    assert table.colnames == expected.split()
    assert len(table) > 5 and set(table["source_type"]) == {"DeltaFunction", "Sersic"}
    is_star = table["source_type"] == "DeltaFunction"
    assert np.array_equal(table["q"].mask, is_star) and np.all(table["q"][~is_star] <= 1)
    assert np.all((table["mag"] >= 20) & (table["mag"] <= 26))
    again = make_injection_catalog(config, patches=[small_patch.geometry], coverage=coverage[::-1])
    assert all(np.array_equal(table[name], again[name]) for name in ("ra", "dec", "mag", "source_type"))
    other = make_injection_catalog(
        InjectionConfig(density=60, seed=3), patches=[small_patch.geometry], coverage=coverage
    )
    assert not np.array_equal(table["ra"][:3], other["ra"][:3])


@pytest.mark.parametrize("avoid", [0.0, 1.0])
def test_places_are_covered_apart_and_off_bright_sources(small_patch, avoid):
    geometry, truth = small_patch.geometry, small_patch.truth_catalog
    table = make_injection_catalog(
        InjectionConfig(density=200, avoid=avoid, separation=1.0),
        patches=[geometry],
        coverage=make_coverage(small_patch, avoid=avoid),
    )
    x, y = geometry.wcs.sky_to_pixel(ra=np.asarray(table["ra"]), dec=np.asarray(table["dec"]))
    box = geometry.outer_bbox
    assert np.all((x >= box.x.start - 0.5) & (x < box.x.stop - 0.5))
    assert np.all((y >= box.y.start - 0.5) & (y < box.y.stop - 0.5))
    apart = np.hypot(x[:, None] - x, y[:, None] - y)[np.triu_indices(len(x), 1)] * 0.168
    assert len(table) > 20 and apart.min() >= 1.0
    bright = truth[(truth["mag"] < 22) & truth["in_patch"]]
    distance = np.hypot(x[:, None] - np.asarray(bright["x"]), y[:, None] - np.asarray(bright["y"]))
    assert (distance.min() * 0.168 > 1.0) == (avoid > 0)


def test_planes_of_one_exposure_are_kept_at_a_time(small_repo, small_patch, monkeypatch):
    """Those of a tract would fill hundreds of gigabytes; the catalogue is that
    of having all of them at once, bit by bit.
    """
    made, most = [], 0

    def map_and_count(*args, **options):
        nonlocal most
        most = max(most, sum(one() is not None for one in made))
        coverage = map_coverage(*args, **options)
        made.append(weakref.ref(coverage))
        return coverage

    monkeypatch.setattr(_prepare, "map_coverage", map_and_count)
    config, lines = InjectionConfig(density=60, seed=2), []
    with Butler.from_config(str(small_repo)) as butler:
        site = find_site(butler, inputs=["HSC/defaults"], where=WHERE, dataset_type="calexp")
        table = make_catalog_for_site(butler, site, config, report=lines.append)
    assert len(made) == len(lines) == len(small_patch.inputs) and most <= 1
    coverage = make_coverage(small_patch, avoid=config.avoid)
    whole = make_injection_catalog(config, patches=[small_patch.geometry], coverage=coverage)
    assert len(table) > 5 and all(np.array_equal(table[name], whole[name]) for name in ("ra", "dec", "mag"))


def test_sky_map_of_many_patches_is_read_once(small_repo):
    """That of a survey takes seconds to read, and a tract has 81 patches."""
    place = DATA_ID["skymap"], DATA_ID["tract"], DATA_ID["patch"]
    with Butler.from_config(str(small_repo)) as butler:
        with mock.patch.object(butler, "get", wraps=butler.get) as get:
            geometries = _prepare._read_geometries(butler, ["HSC/defaults"], [place] * 3)
    assert get.call_count == 1 and [one.patch for one in geometries] == [place[2]] * 3


@pytest.mark.parametrize("number", [0, 3, 60, 10_000])
def test_places_that_keep_their_distance_are_the_first_ones(number):
    """The same as of comparing each with all that were taken before it."""
    place, taken = np.random.default_rng(4).uniform(0, 10, (1500, 2)), []
    for k, one in enumerate(place):
        if all(np.hypot(*(one - place[j])) > 1.0 for j in taken):
            taken.append(k)
    assert _take_apart(place, 1.0, number).tolist() == taken[:number] and 40 < len(taken) < 100
    assert _take_apart(place[:0], 1.0, number).tolist() == []


class TurnedFrame:
    """Pixels of a frame that lies turned on a patch, and a count of the places
    that were looked up in them.
    """

    def __init__(self, patch_wcs, *, x, y, angle):
        self._wcs, self._middle, self._turn = patch_wcs, x + 1j * y, np.exp(1j * angle)
        self.n_asked = 0

    def pixel_to_sky(self, *, x, y):
        place = self._middle + self._turn * (np.asarray(x) + 1j * np.asarray(y))
        return self._wcs.pixel_to_sky(x=place.real, y=place.imag)

    def sky_to_pixel(self, *, ra, dec):
        self.n_asked += len(ra)
        x, y = self._wcs.sky_to_pixel(ra=ra, dec=dec)
        place = (x + 1j * y - self._middle) / self._turn
        return place.real, place.imag


def test_only_places_near_a_frame_are_looked_up(small_patch, monkeypatch):
    """The catalogue is that of looking up all of them, bit by bit."""
    geometry, rng = small_patch.geometry, np.random.default_rng(8)
    box, coverage = geometry.outer_bbox, []
    for k in range(24):
        x, y = rng.uniform(box.x.start, box.x.stop), rng.uniform(box.y.start, box.y.stop)
        frame = TurnedFrame(geometry.wcs, x=x, y=y, angle=rng.uniform(0, 2 * np.pi))
        height, width = (45, 80) if k % 2 else (70, 25)
        occupied = rng.uniform(size=(height, width)) < 0.1
        planes = {"usable": np.ones_like(occupied), "occupied": occupied}
        coverage.append(CoverageMap(band="i", x0=-width // 2, y0=-height // 2, wcs=frame, **planes))
    config = InjectionConfig(density=500, separation=0.5)
    table = make_injection_catalog(config, patches=[geometry], coverage=coverage)
    n_asked = sum(one.wcs.n_asked for one in coverage)
    with monkeypatch.context() as patch:
        patch.setattr(CoverageMap, "find_near", lambda self, places: np.arange(len(places)))
        whole = make_injection_catalog(config, patches=[geometry], coverage=coverage)
    assert len(table) > 100 and all(np.array_equal(table[n], whole[n]) for n in table.colnames)
    assert n_asked < 0.2 * (sum(one.wcs.n_asked for one in coverage) - n_asked)


@pytest.mark.parametrize("right_ascension", [150.0, 0.0])
@pytest.mark.parametrize("declination", [0.0, 89.99])
def test_no_place_on_a_frame_is_far_from_it(right_ascension, declination):
    """Across 0 in right ascension and at the pole, too; and if nobody knows
    where the frame is, all places are near.
    """
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.cdelt = ["RA---TAN", "DEC--TAN"], [-0.168 / 3600, 0.168 / 3600]
    wcs.wcs.crval = [right_ascension, declination]
    wcs.wcs.set()
    plane = np.ones((400, 200), bool)
    frame = CoverageMap(band="i", x0=-100, y0=-200, wcs=PlainMap(wcs), usable=plane, occupied=plane)
    y, x = np.mgrid[-300:301, -300:301].reshape(2, -1) * 1.0
    sky = PlainMap(wcs).pixel_to_sky(x=x, y=y)
    places = to_unit_vectors(*sky)
    here, _ = frame.look(ra=sky[0], dec=sky[1])
    near = np.isin(np.arange(len(places)), frame.find_near(places))
    assert near[here].all() and not near[np.hypot(x, y) > 240].any()
    lost = CoverageMap(band="i", x0=0, y0=0, wcs=PlainMap(None), usable=plane, occupied=plane)
    assert len(lost.find_near(places)) == len(places)


class PlainMap:
    """A FITS WCS as a sky map; without one, places are not known."""

    def __init__(self, wcs):
        self._wcs = wcs

    def pixel_to_sky(self, *, x, y):
        return self._wcs.all_pix2world(x, y, 0) if self._wcs else (np.full_like(x, np.nan),) * 2

    def sky_to_pixel(self, *, ra, dec):
        return self._wcs.all_world2pix(ra, dec, 0)
