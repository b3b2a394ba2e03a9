# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Catalogues of sources to inject: columns, places, the same for a seed."""

import numpy as np
import pytest

from lsst.coadd.astroclearnet.adapters import exposure_from_visit_image
from lsst.coadd.astroclearnet.injection import InjectionConfig, make_injection_catalog, map_coverage


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
