# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Results on their way out: what a CellCoadd of this package holds."""

from __future__ import annotations

import astropy.units as u
import galsim
import numpy as np
import pytest
from _output_data import BOX, CELL, make_arrays, make_geometry, make_warped

from lsst.coadd.astroclearnet.adapters import (
    NO_DATA_VARIANCE,
    OUTPUT_PLANES,
    ProvenanceRecorder,
    choose_cell_size,
    make_cell_coadd,
    make_n_image,
)
from lsst.coadd.astroclearnet.core import Plane
from lsst.coadd.astroclearnet.core.warp._cut_stack import cut_stack
from lsst.daf.butler import Butler, DatasetType
from lsst.images import Box, Image
from lsst.images.cells import CellCoadd, CellIJ
from lsst.sphgeom import ConvexPolygon, LonLat, UnitVector3d


@pytest.fixture
def geometry():
    return make_geometry()


def make_coadd(geometry, **changes):
    return make_cell_coadd(
        **{**make_arrays(), **changes}, geometry=geometry, band="i", cell_size=CELL, metadata={"seed": 7}
    )


def test_everything_is_where_it_belongs(geometry):
    arrays = make_arrays()
    coadd = make_coadd(geometry)
    assert coadd.bbox == BOX
    assert coadd.unit == u.nJy and coadd.variance.unit == u.nJy**2
    np.testing.assert_array_equal(coadd.image.array, arrays["image"])
    np.testing.assert_array_equal(coadd.variance.array, arrays["variance"])
    np.testing.assert_array_equal(coadd.noise_realizations[0].array, arrays["noise"][0])
    assert (coadd.skymap, coadd.tract, coadd.patch.id, coadd.band) == ("demo", 9813, 40, "i")
    assert coadd.patch.inner_bbox == geometry.inner_bbox and coadd.patch.outer_bbox == BOX
    assert coadd.metadata["seed"] == 7
    sky = coadd.sky_projection.pixel_to_sky(x=18000.0, y=17500.0)
    assert (sky.ra.deg, sky.dec.deg) == pytest.approx((150, 2), abs=1e-9)


def test_one_psf_a_cell(geometry):
    psf = make_arrays()["psf"]
    psf[2, 1] = np.eye(1, 441, 220).reshape(21, 21)
    coadd = make_coadd(geometry, psf=psf)
    kernel = coadd.psf.compute_kernel_image(x=18000 + 1 * CELL + 5, y=17400 + 2 * CELL + 30)
    assert kernel.array[10, 10] == 1 and kernel.bbox == Box.factory[-10:11, -10:11]
    other = coadd.psf.compute_kernel_image(x=18000 + 2 * CELL + 5, y=17400 + 1 * CELL + 30)
    assert other.array[10, 10] < 0.2 and other.array.sum() == pytest.approx(1)


def test_no_value_is_nan_where_there_are_no_data(geometry):
    """Faults of all kinds end as NO_DATA with the documented fill."""
    arrays = make_arrays()
    arrays["image"][3, 4], arrays["image"][3, 5] = np.nan, np.inf
    arrays["variance"][6, :3] = 0, -1, np.nan
    arrays["psf"][1, 2] = np.nan
    no_data = np.zeros(BOX.shape, bool)
    no_data[9, 9] = True
    coadd = make_coadd(geometry, **{**arrays, "planes": {"NO_DATA": no_data}, "missing": {(1, 2)}})
    expected = no_data.copy()
    expected[3, 4:6] = expected[6, :3] = True
    expected[CELL : 2 * CELL, 2 * CELL : 3 * CELL] = True
    np.testing.assert_array_equal(coadd.mask.get("NO_DATA"), expected)
    assert np.all(coadd.image.array[expected] == 0)
    assert np.all(coadd.noise_realizations[0].array[expected] == 0)
    assert np.all(coadd.variance.array[expected] == np.float32(NO_DATA_VARIANCE))
    assert np.isfinite(coadd.image.array).all()
    assert np.isfinite(coadd.variance.array).all() and np.all(coadd.variance.array > 0)
    assert coadd.bounds.missing == {CellIJ(1, 2)}


def test_a_cell_without_psf_must_be_missing(geometry):
    psf = make_arrays()["psf"]
    psf[1, 2] = np.nan
    with pytest.raises(ValueError, match=r"PSF of cell \(1, 2\) sums to nan"):
        make_coadd(geometry, psf=psf)
    with pytest.raises(ValueError, match=r"\(3, 4, p, p\) is needed"):
        make_coadd(geometry, psf=psf[:2])


def test_planes_are_those_of_the_table(geometry):
    clipped = np.zeros(BOX.shape, bool)
    clipped[7, 8] = True
    coadd = make_coadd(geometry, planes={"CLIPPED": clipped})
    np.testing.assert_array_equal(coadd.mask.get("CLIPPED"), clipped)
    assert not coadd.mask.get("SATURATED").any()
    for plane in OUTPUT_PLANES:
        assert coadd.mask.schema.descriptions[plane.name] == plane.description != ""
    with pytest.raises(ValueError, match="'CLIPED' is not one of .*CLIPPED"):
        make_coadd(geometry, planes={"CLIPED": clipped})


def test_small_holes_keep_their_value(geometry):
    """They have no data still, and no weight."""
    hole, wide, broken = np.zeros((3, *BOX.shape), bool)
    hole[30:33, 40:43], wide[60:80, 60:90], broken[31, 41] = True, True, True
    image = np.where(broken, np.nan, 5.0).astype(np.float32)
    coadd = make_coadd(geometry, image=image, planes={"NO_DATA": hole | wide, "INTERPOLATED": hole})
    assert (coadd.image.array[hole & ~broken] == 5).all()
    assert not coadd.image.array[wide | broken].any()
    assert coadd.mask.get("NO_DATA")[hole | wide].all()
    assert (coadd.variance.array[hole | wide] == NO_DATA_VARIANCE).all()


def test_what_has_no_value_is_not_said_to_have_one(geometry):
    """NO_DATA with INTERPOLATED is what has the value of the latent."""
    arrays = make_arrays()
    arrays["psf"][1, 2] = np.nan
    arrays["image"][3, 4] = np.nan
    interpolated = np.ones(BOX.shape, bool)
    coadd = make_coadd(geometry, **{**arrays, "planes": {"INTERPOLATED": interpolated}, "missing": {(1, 2)}})
    no_data, found = coadd.mask.get("NO_DATA"), coadd.mask.get("INTERPOLATED")
    assert no_data.sum() == CELL**2 + 1
    np.testing.assert_array_equal(found, ~no_data)


def test_cell_size_that_does_not_divide_the_patch(geometry):
    with pytest.raises(ValueError, match="Cells of 50 px do not divide a patch of 160 x 120 px"):
        make_cell_coadd(**make_arrays(), geometry=geometry, band="i", cell_size=50)


@pytest.mark.parametrize(
    ("height", "width", "size"), [(4200, 4200, 200), (4100, 4200, 100), (4100, 4100, 164), (3400, 3400, 200)]
)
def test_cells_of_patches_at_the_edge_of_a_tract(height, width, size):
    """Patches of HSC tracts are clipped there, those of LSSTCam are not."""
    assert choose_cell_size(height=height, width=width, largest=200) == size


def test_no_cells_tile_the_patch():
    with pytest.raises(ValueError, match="No cells of 50 to 200 pixels .*420 x 430 pixels; .*: none"):
        choose_cell_size(height=430, width=420, largest=200)


def test_shapes_must_agree(geometry):
    with pytest.raises(ValueError, match=r"variance has shape \(3, 3\); the patch has \(120, 160\)"):
        make_coadd(geometry, variance=np.ones((3, 3)))


def test_provenance(geometry, tmp_path):
    """The inputs of each cell, their overlap, weight and PSF."""
    warped = [
        make_warped(geometry, visit=12, offset=(-40, -40), size=(200, 240)),
        make_warped(geometry, visit=11, detector=5, offset=(-40, -40), size=(200, 160)),
    ]
    recorder = ProvenanceRecorder(
        warped, geometry=geometry, instrument="HSC", day_obs={11: 20250101, 12: 20250102}
    )
    assert recorder.finish() is None
    for i in range(3):
        for j in range(4):
            x0, y0 = 18000 + CELL * j, 17400 + CELL * i
            stack = cut_stack(warped, x0=x0 - 10, y0=y0 - 10, height=60, width=60, bad=Plane.BAD)
            recorder.record(stack, i=i, j=j, cell=Box.factory[y0 : y0 + CELL, x0 : x0 + CELL])
    coadd = make_coadd(geometry, provenance=recorder.finish())
    coadd.write(tmp_path / "coadd.fits")
    provenance = CellCoadd.read(tmp_path / "coadd.fits").provenance
    assert sorted(zip(provenance.inputs["visit"], provenance.inputs["detector"], strict=True)) == [
        (11, 5),
        (12, 3),
    ]
    by_visit = {row["visit"]: row for row in provenance.inputs}
    assert by_visit[11]["day_obs"] == 20250101 and by_visit[12]["physical_filter"] == "HSC-I"
    # Visit 11 covers columns up to 120: three of four cells in a row.
    assert by_visit[11]["polygon"].area == pytest.approx(120 * 120, rel=1e-3)
    assert len(provenance.contributions) == 12 + 9
    rows = provenance.contributions[provenance.contributions["visit"] == 11]
    np.testing.assert_allclose(rows["overlap_fraction"], 1, rtol=1e-6)
    assert rows["overlaps_center"].all()
    np.testing.assert_allclose(rows["weight"], 0.25, rtol=1e-4)
    edge = rows[rows["cell_j"] == 2]
    np.testing.assert_allclose(edge["unmasked_fraction"], 38 / 40, atol=0.03)
    psf = galsim.Gaussian(fwhm=3.5).shear(g1=0.1).drawImage(nx=31, ny=31, scale=1, dtype=float)
    assert rows["psf_shape_xx"][0] > rows["psf_shape_yy"][0]
    determinant = rows["psf_shape_xx"] * rows["psf_shape_yy"] - rows["psf_shape_xy"] ** 2
    np.testing.assert_allclose(determinant**0.25, galsim.hsm.FindAdaptiveMom(psf).moments_sigma, rtol=1e-3)
    assert not rows["psf_shape_flag"].any()


def check_equal(one, other):
    np.testing.assert_array_equal(one.image.array, other.image.array)
    np.testing.assert_array_equal(one.variance.array, other.variance.array)
    np.testing.assert_array_equal(one.noise_realizations[0].array, other.noise_realizations[0].array)
    assert one.mask == other.mask
    assert one.bbox == other.bbox and one.unit == other.unit
    assert one.bounds == other.bounds and one.patch == other.patch
    for cell in one.bounds.cell_indices():
        np.testing.assert_array_equal(one.psf[cell].array, other.psf[cell].array)
    assert one.metadata["seed"] == other.metadata["seed"]
    x, y = np.array([18000.0, 18100.0]), np.array([17400.0, 17500.0])
    mine, its = (coadd.sky_projection.pixel_to_sky(x=x, y=y) for coadd in (one, other))
    assert mine.separation(its).arcsec.max() < 1e-6


def make_full(geometry):
    planes = {"CLIPPED": np.zeros(BOX.shape, bool)}
    planes["CLIPPED"][30:33] = True
    arrays = make_arrays()
    arrays["psf"][0, 0] = np.nan
    return make_coadd(geometry, **{**arrays, "planes": planes, "missing": [(0, 0)]})


def test_round_trip_through_fits(geometry, tmp_path):
    coadd = make_full(geometry)
    coadd.write(tmp_path / "coadd.fits")
    check_equal(CellCoadd.read(tmp_path / "coadd.fits"), coadd)


def test_round_trip_through_a_butler(geometry, tmp_path):
    """Predefined storage classes are enough."""
    Butler.makeRepo(tmp_path / "repo")
    with Butler.from_config(tmp_path / "repo", writeable=True) as butler:
        corners = ((149.9, 1.9), (150.1, 1.9), (150.1, 2.1), (149.9, 2.1))
        region = ConvexPolygon([UnitVector3d(LonLat.fromDegrees(*corner)) for corner in corners])
        insert = butler.registry.insertDimensionData
        insert("skymap", dict(name="demo", hash=b"demo", tract_max=10000, patch_nx_max=9, patch_ny_max=9))
        insert("tract", dict(skymap="demo", id=9813, region=region))
        insert("patch", dict(skymap="demo", tract=9813, id=40, cell_x=3, cell_y=4, region=region))
        insert("instrument", dict(name="HSC", detector_max=200, visit_max=9, exposure_max=9, class_name="x"))
        insert("physical_filter", dict(instrument="HSC", name="HSC-I", band="i"))
        data_id = dict(skymap="demo", tract=9813, patch=40, band="i")
        dimensions = ("skymap", "tract", "patch", "band")
        butler.collections.register("test")
        coadd, counts = make_full(geometry), np.arange(BOX.area, dtype=np.uint16).reshape(BOX.shape)
        n_image = make_n_image(counts, geometry=geometry)
        for name, storage_class, content in (("acn_coadd", "CellCoadd", coadd), ("n", "ImageV2", n_image)):
            dataset_type = DatasetType(name, dimensions, storage_class, universe=butler.dimensions)
            butler.registry.registerDatasetType(dataset_type)
            butler.put(content, name, data_id, run="test")
        check_equal(butler.get("acn_coadd", data_id, collections="test"), coadd)
        read = butler.get("n", data_id, collections="test")
        assert isinstance(read, Image) and read.bbox == BOX
        np.testing.assert_array_equal(read.array, counts)
        part = butler.get(
            "acn_coadd",
            data_id,
            collections="test",
            parameters={"bbox": Box.factory[17400:17450, 18050:18090]},
        )
        np.testing.assert_array_equal(part.image.array, coadd.image[part.bbox].array)
