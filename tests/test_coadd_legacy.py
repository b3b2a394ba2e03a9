# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Coadds as the full stack reads them: ExposureF and MultipleCellCoadd.

The conversions are those of lsst.images 30.2026.4300 (cells/_coadd.py, lines
556-715; other line numbers below are of that package, too). They need
lsst.afw, which PyPI does not have: what they ask of a coadd is checked
everywhere, the result where it can be made.
"""

import dataclasses
import sys
import types

import astropy.units as u
import numpy as np
import pytest
import shapely

import lsst
from lsst.coadd.astroclearnet.adapters import (
    OUTPUT_PLANES,
    ApertureCorrectionStacker,
    ProvenanceRecorder,
    make_cell_coadd,
)
from lsst.coadd.astroclearnet.assemble_acn_coadd import AssembleAcnCoaddConfig, AssembleAcnCoaddTask
from lsst.coadd.astroclearnet.core import Plane
from lsst.images import Box, Mask, MaskSchema, get_legacy_deep_coadd_mask_planes
from lsst.images.cells import CellCoadd, CellIJ

pytestmark = pytest.mark.usefixtures("hasty_filling")

WARNING = "lsst.afw is not installed: PyPI does not have it"


@pytest.fixture(scope="module")
def coadds(small_patch, tmp_path_factory):
    """Assemble a patch whose lower left cell has no data; read it back."""
    config = AssembleAcnCoaddConfig()
    config.update(cell_size=50)
    box = small_patch.geometry.outer_bbox
    inputs = []
    for one in small_patch.inputs:
        image = one.exposure_or_handle.copy()
        sky = small_patch.geometry.sky_projection.pixel_to_sky(
            x=box.x.start + np.array([-60.0, 54.0, 54.0, -60.0]),
            y=box.y.start + np.array([-60.0, -60.0, 54.0, 54.0]),
        )
        corners = image.sky_projection.sky_to_pixel(sky)
        blank = shapely.Polygon(np.transpose([corners.x, corners.y]))
        y, x = np.indices(image.bbox.shape)
        inside = shapely.contains_xy(blank, x + image.bbox.x.start, y + image.bbox.y.start)
        image.mask.set("NO_DATA", image.mask.get("NO_DATA") | inside)
        inputs.append(dataclasses.replace(one, exposure_or_handle=image))
    result = AssembleAcnCoaddTask(config=config).run(inputs=inputs, geometry=small_patch.geometry, band="i")
    folder = tmp_path_factory.mktemp("coadds")
    read = {}
    for name in ("latent", "coadd"):
        path = folder / f"{name}.fits"
        getattr(result, name).write(path)
        read[name] = CellCoadd.read(path)
    return read


@pytest.mark.parametrize("name", ["latent", "coadd"])
def test_all_that_the_conversions_ask_for_is_there(coadds, name):
    coadd = coadds[name]
    # _coadd.py:583-586: nJy, and a box that ends where cells do.
    assert coadd.unit == u.nJy and coadd.bbox == coadd.bounds.bbox == coadd.grid.bbox
    assert coadd.band == "i"
    # _coadd.py:602: every cell that is there has inputs.
    present = set(coadd.bounds.cell_indices())
    assert CellIJ(0, 0) in coadd.bounds.missing and CellIJ(0, 0) not in present and len(present) == 15
    rows = coadd.provenance.contributions
    assert {CellIJ(int(row["cell_i"]), int(row["cell_j"])) for row in rows} == present
    # _provenance.py:376-389: each is one of the inputs, each with a polygon.
    keys = {(row["instrument"], row["visit"], row["detector"]) for row in coadd.provenance.inputs}
    assert {(row["instrument"], row["visit"], row["detector"]) for row in rows} == keys
    assert all(row["polygon"].area > 0 for row in coadd.provenance.inputs)
    # _psf.py:200-210 and lsst/cell_coadds _multiple_cell_coadd.py: images of
    # double precision, all of one odd size.
    kernels = [coadd.psf[cell].array for cell in present]
    assert {kernel.dtype for kernel in kernels} == {np.dtype(float)}
    assert len({kernel.shape for kernel in kernels}) == 1 and kernels[0].shape[0] % 2 == 1
    for kernel in kernels:
        assert kernel.sum() == pytest.approx(1, abs=1e-9)
        y, x = np.indices(kernel.shape) - kernel.shape[0] // 2
        assert abs((kernel * x).sum()) < 0.01 and abs((kernel * y).sum()) < 0.01
    # _masked_image.py:576-578: metadata of types that a PropertyList takes.
    assert all(isinstance(value, str | int | float | bool) for value in coadd.metadata.values())
    assert all(np.isfinite(v) for v in coadd.metadata.values() if isinstance(v, float))
    assert coadd.mask.schema.names == {plane.name for plane in OUTPUT_PLANES}


class AfwMask:
    """A Mask of lsst.afw, with the planes that each has (lsst/afw 714e0ed6d
    src/image/detail/MaskDict.cc:187-201) and those that are added.
    """

    def __init__(self, box):
        self.array = np.zeros((box.y.end - box.y.begin, box.x.end - box.x.begin), np.int32)
        self.planes = ["BAD", "SAT", "INTRP", "CR", "EDGE", "DETECTED", "DETECTED_NEGATIVE", "SUSPECT"]
        self.planes += ["NO_DATA", "VIGNETTED", "STREAK"]

    def addMaskPlane(self, name):
        if name not in self.planes:
            self.planes.append(name)
        return self.planes.index(name)


def test_every_plane_is_in_a_mask_of_afw(stand_ins, monkeypatch):
    """Under its own name where the table of lsst.images has no other."""
    afw, image = types.ModuleType("lsst.afw"), types.ModuleType("lsst.afw.image")
    afw.image, image.Mask = image, AfwMask
    monkeypatch.setattr(lsst, "afw", afw, raising=False)
    monkeypatch.setitem(sys.modules, "lsst.afw", afw)
    monkeypatch.setitem(sys.modules, "lsst.afw.image", image)
    mask = Mask(0, schema=MaskSchema(OUTPUT_PLANES), bbox=Box.factory[0:1, 0 : len(OUTPUT_PLANES)])
    for n, plane in enumerate(OUTPUT_PLANES):
        mask.set(plane.name, np.arange(len(OUTPUT_PLANES))[np.newaxis] == n)
    result = mask.to_legacy(get_legacy_deep_coadd_mask_planes())
    legacy = {"SATURATED": "SAT", "COSMIC_RAY": "CR", "INTERPOLATED": "INTRP"}
    names = [legacy.get(plane.name, plane.name) for plane in OUTPUT_PLANES]
    assert result.array[0].tolist() == [1 << result.planes.index(name) for name in names]
    assert {"INJECTED", "INJECTED_CORE", "FAKE", "ITL_DIP"} <= set(names)
    # There are 32, for all masks of a process (Mask.h:499): deblending, cell
    # coadds and image differences add seven to these.
    assert len(result.planes) <= 25


def test_cells_without_data_are_filled(coadds):
    for coadd in coadds.values():
        cell = np.s_[:50, :50]
        assert coadd.mask.get("NO_DATA")[cell].all()
        assert (coadd.image.array[cell] == 0).all() and np.isfinite(coadd.variance.array).all()


def test_noise_is_described(coadds):
    about = coadds["coadd"].metadata
    assert len(coadds["coadd"].noise_realizations) == 1
    # Neighbours share most of the PSF; far pixels share nothing.
    assert 0.3 < about["noise_correlation_1_0"] < 1 and abs(about["noise_correlation_5_0"]) < 0.3
    assert about["noise_area_5"] > about["noise_area_40"] > 0
    assert 0 <= about["untrusted"] <= 1 and about["untrusted_saturated"] <= about["untrusted"]


def make_corrected(one, corrections):
    fields = {name: (lambda *, x, y, value=value: value) for name, value in corrections.items()}
    return dataclasses.replace(one, aperture_corrections=fields)


@pytest.mark.parametrize("linear", [True, False])
def test_aperture_corrections(linear, tmp_path):
    """Inverses are averaged by weight; a latent has those of the PSF flux."""
    from _output_data import BOX, CELL, make_arrays, make_geometry, make_warped

    geometry = make_geometry()
    place = {"offset": (-20, -20), "size": (160, 200)}
    first = {"base_PsfFlux_instFlux": 1.1, "base_PsfFlux_instFluxErr": 0.01, "k_instFlux": 1.5}
    second = {"base_PsfFlux_instFlux": 1.0, "base_PsfFlux_instFluxErr": 0.02, "k_instFlux": 1.2}
    warped = [
        make_corrected(make_warped(geometry, visit=1, variance=4, **place), first),
        make_corrected(make_warped(geometry, visit=2, variance=12, **place), second),
        # Without corrections, and off the first column of cells.
        make_warped(geometry, visit=3, offset=(50, -20), size=(160, 200)),
    ]
    from lsst.coadd.astroclearnet.core.warp._cut_stack import cut_stack
    from lsst.images import Box

    stacker = ApertureCorrectionStacker(warped, linear=linear)
    recorder = ProvenanceRecorder(warped, geometry=geometry, instrument="HSC", day_obs={1: 1, 2: 1, 3: 1})
    for i, j in np.ndindex(3, 4):
        x0, y0 = 18000 + CELL * j, 17400 + CELL * i
        stack = cut_stack(warped, x0=x0, y0=y0, height=CELL, width=CELL, bad=Plane.BAD)
        cell = Box.factory[y0 : y0 + CELL, x0 : x0 + CELL]
        recorder.record(stack, i=i, j=j, cell=cell)
        stacker.add(stack, i=i, j=j, cell=cell)
    found = stacker.finish(shape=(3, 4))
    mean = 4 / (3 / 1.1 + 1 / 1.0)
    np.testing.assert_allclose(found["base_PsfFlux_instFlux"], mean, rtol=1e-6)
    error = mean**2 * np.hypot(3 * 0.01 / 1.1**2, 1 * 0.02 / 1.0**2) / 4
    np.testing.assert_allclose(found["base_PsfFlux_instFluxErr"], error, rtol=1e-6)
    np.testing.assert_allclose(found["k_instFlux"], 4 / (3 / 1.5 + 1 / 1.2) if linear else mean, rtol=1e-6)
    coadd = make_cell_coadd(
        **make_arrays(),
        geometry=geometry,
        band="i",
        cell_size=CELL,
        provenance=recorder.finish(),
        aperture_corrections=found,
    )
    coadd.write(tmp_path / "coadd.fits")
    field = CellCoadd.read(tmp_path / "coadd.fits").aperture_corrections["base_PsfFlux_instFlux"]
    assert field.value_in_cell(CellIJ(1, 2)) == pytest.approx(mean) and field.bounds.bbox == BOX


def average_corrections(warped, *, halo=0, **scales):
    """Return the correction of the first cell of a mean."""
    from _output_data import CELL

    from lsst.coadd.astroclearnet.core.warp._cut_stack import cut_stack

    x0, y0, side = 18000 - halo, 17400 - halo, CELL + 2 * halo
    stack = cut_stack(warped, x0=x0, y0=y0, height=side, width=side, bad=Plane.BAD)
    stacker = ApertureCorrectionStacker(warped, linear=True)
    stacker.add(stack, i=0, j=0, cell=Box.factory[17400 : 17400 + CELL, 18000 : 18000 + CELL])
    return stacker.finish(shape=(1, 1), **scales)["k_instFlux"][0, 0]


def test_aperture_correction_counts_by_the_pixels_in_the_cell():
    from _output_data import CELL, make_geometry, make_warped

    geometry = make_geometry()
    whole = make_warped(geometry, visit=1, offset=(-20, -20), size=(160, 200))
    whole = make_corrected(whole, {"k_instFlux": 1.0})
    for start, share in ((CELL + 1, 0), (CELL // 2 - 2, 0.5)):  # two columns are lost to interpolation
        beside = make_warped(geometry, visit=2, offset=(start, -20), size=(160, 100))
        beside = make_corrected(beside, {"k_instFlux": 1.5})
        expected = (1 + share) / (1 / 1.0 + share / 1.5)
        assert average_corrections([whole, beside], halo=10) == pytest.approx(expected, rel=1e-6)


def test_aperture_correction_has_the_weight_of_the_fit():
    """One whose variances the fit found to be four times as large."""
    from _output_data import make_geometry, make_warped

    geometry, place = make_geometry(), {"offset": (-20, -20), "size": (160, 200)}
    warped = [
        make_corrected(make_warped(geometry, visit=visit, **place), {"k_instFlux": value})
        # The last is no number to average.
        for visit, value in ((1, 1.0), (2, 1.5), (3, np.inf))
    ]
    assert average_corrections(warped) == pytest.approx(2 / (1 + 1 / 1.5))
    scales = {warped[1].label: 4.0}
    assert average_corrections(warped, noise_scale=scales) == pytest.approx(1.25 / (1 + 0.25 / 1.5))


@pytest.mark.parametrize("name", ["latent", "coadd"])
def test_as_exposure(coadds, name):
    """What ``butler.get(..., storageClass="ExposureF")`` gives."""
    pytest.importorskip("lsst.afw.image", reason=WARNING)
    from lsst.geom import Point2D

    coadd = coadds[name]
    exposure = coadd.to_legacy()
    box = coadd.bbox
    assert (exposure.getX0(), exposure.getY0()) == (box.x.start, box.y.start)
    np.testing.assert_array_equal(exposure.image.array, coadd.image.array)
    np.testing.assert_array_equal(exposure.variance.array, coadd.variance.array)
    assert exposure.getPhotoCalib().getCalibrationMean() == 1 and exposure.metadata["BUNIT"] == "nJy"
    assert exposure.filter.bandLabel == "i" and not exposure.filter.hasPhysicalLabel()
    x, y = box.x.start + 120.0, box.y.start + 80.0
    sky = coadd.sky_projection.pixel_to_sky(x=np.array([x]), y=np.array([y]))[0]
    point = exposure.wcs.pixelToSky(Point2D(x, y))
    assert point.getRa().asDegrees() == pytest.approx(sky.ra.deg, abs=1e-8)
    assert point.getDec().asDegrees() == pytest.approx(sky.dec.deg, abs=1e-8)
    kernel = exposure.psf.computeKernelImage(Point2D(x, y)).array
    np.testing.assert_allclose(kernel, coadd.psf.compute_kernel_image(x=x, y=y).array)
    legacy = {"SATURATED": "SAT", "COSMIC_RAY": "CR", "INTERPOLATED": "INTRP"}
    for plane in coadd.mask.schema.names:
        bit = exposure.mask.getPlaneBitMask(legacy.get(plane, plane))
        np.testing.assert_array_equal((exposure.mask.array & bit) != 0, coadd.mask.get(plane))


def test_as_cell_coadd(coadds):
    """What detection, deblending and measurement are given."""
    pytest.importorskip("lsst.cell_coadds", reason=WARNING)
    coadd = coadds["coadd"]
    stitched = coadd.to_legacy_cell_coadd().stitch()
    np.testing.assert_array_equal(stitched.image.array, coadd.image.array)
    exposure = stitched.asExposure()
    inputs = exposure.info.getCoaddInputs()
    assert sorted(set(inputs.ccds["visit"])) == sorted(set(coadd.provenance.inputs["visit"]))
    assert len(stitched.noise_realizations) == 1
