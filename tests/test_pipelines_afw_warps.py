# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Warps, coadds and catalogues of the Science Pipelines beside our own.

The tasks of the full stack make warps and a coadd of the small repository of
ExposureF, compare them with ours, and measure sources on ours.
"""

from __future__ import annotations

import numpy as np
import pytest

REASON = "tasks that make and measure coadds are parts of the full LSST stack and not on PyPI"
for module in ("lsst.drp.tasks.make_direct_warp", "lsst.drp.tasks.assemble_coadd", "lsst.cell_coadds"):
    pytest.importorskip(module, reason=REASON, exc_type=ImportError)

import _afw_repository as stack  # noqa: E402
from _afw_pipelines import DEFAULTS, PIPELINES, QUICK, execute, load, make, measure_fluxes  # noqa: E402

from lsst.coadd.astroclearnet.adapters import find_apertures  # noqa: E402
from lsst.coadd.astroclearnet.flux_errors import noise_area, variance_between_sources  # noqa: E402
from lsst.coadd.astroclearnet.repository import put_dataset  # noqa: E402
from lsst.pipe.base import Pipeline  # noqa: E402

WARP = {"doSelectPreWarp": False, "doApplyNewBackground": True, "border": 60}


@pytest.fixture(scope="module")
def repo(tmp_path_factory):
    root = tmp_path_factory.mktemp("warps") / "repo"
    return root, stack.make_repository(root)


@pytest.fixture(scope="module")
def warps(repo):
    """Run makeDirectWarp and, on what it made, assembleCoadd."""
    pipeline = make("makeDirectWarp", "lsst.drp.tasks.make_direct_warp.MakeDirectWarpTask", WARP)
    butler = execute(*repo, pipeline, "u/test/warps")
    put_dataset(
        butler,
        assemble(butler, repo[1]),
        "deepCoadd",
        storage_class="ExposureF",
        dimensions=("skymap", "tract", "patch", "band"),
        data_id=repo[1].data_id,
        run=butler.run,
    )
    return butler


def assemble(butler, sky):
    """Return the mean of the warps: AssembleCoaddTask is no task of a
    pipeline, only those that are derived from it.
    """
    from lsst.drp.tasks.assemble_coadd import AssembleCoaddTask
    from lsst.pipe.tasks.coaddBase import makeSkyInfo

    config = AssembleCoaddTask.ConfigClass()
    config.doInputMap = config.doInterp = False
    task = AssembleCoaddTask(config=config)
    info = makeSkyInfo(sky.sky_map, tractId=stack.TRACT, patchId=sky.patch)
    refs = butler.query_datasets("deepCoadd_directWarp", order_by="visit")
    inputs = task.prepareInputs([butler.getDeferred(ref) for ref in refs], info.bbox)
    return task.run(
        info,
        warpRefList=inputs.warpRefList,
        imageScalerList=inputs.imageScalerList,
        weightList=inputs.weightList,
        psfMatchedWarpRefList=[],
    ).coaddExposure


@pytest.fixture(scope="module")
def output(repo, warps):
    """Run our pipeline on those warps."""
    pipeline = load("acn-from-warps", "assembleAcnCoadd", QUICK)
    return execute(*repo, pipeline, "u/test/acn", inputs=["u/test/warps", *DEFAULTS])


@pytest.fixture(scope="module")
def restored(repo):
    """Run our pipeline as it is by default, on the exposures."""
    fields = {"use_visit_summary": True, "apply_background": True, "cell_size": 120}
    pipeline = load("acn", "assembleAcnCoadd", fields, only=["assembleAcnCoadd"])
    return execute(*repo, pipeline, "u/test/restored")


def test_warps_give_each_detector_once(repo, output):
    table = output.get("acn_coadd_inputs", repo[1].data_id)
    expected = {(visit.id, detector) for visit in stack.VISITS for detector in stack.DETECTORS}
    assert set(zip(table["visit"], table["detector"], strict=True)) == expected and table["kept"].all()
    assert set(table["physical_filter"]) == {"HSC-I"}
    for visit in stack.VISITS:
        fwhm = table[table["visit"] == visit.id]["psf_fwhm_pixel"]
        # Interpolation broadens the PSF a little.
        np.testing.assert_allclose(fwhm, visit.sigma * 2.354820045, rtol=0.05)


@pytest.mark.parametrize("name", ["deepCoadd", "acn_coadd"])
def test_stars_have_their_fluxes(repo, output, name):
    exposure = output.get(name, repo[1].data_id, storageClass="ExposureF")
    measured, true = measure_fluxes(exposure, repo[1], fit=name == "deepCoadd")
    assert np.average(measured / true, weights=true) == pytest.approx(1, abs=0.015)


def test_aperture_corrections_of_warps_are_those_of_their_detectors(repo, output):
    coadd = output.get("acn_coadd", repo[1].data_id)
    values = coadd.aperture_corrections["base_PsfFlux_instFlux"].render(dtype=np.float64).array
    np.testing.assert_allclose(values[np.isfinite(values)], stack.APERTURE_CORRECTION, rtol=1e-5)


def test_coadd_and_reference_are_compared(repo, output):
    """The reference is read as ExposureF, with a PSF that warps made."""
    metrics = output.get("acn_coadd_comparison_metrics", repo[1].data_id)
    assert {"deepCoadd", "acn_coadd", "acn_latent"} <= set(metrics["plane"])


def match_stars(table, sky):
    """Return the row of each star, with its flux in units of the true one."""
    table = table[(table["deblend_nChild"] == 0) & ~table["base_PsfFlux_flag"]]
    x, y, flux = np.array(sky.stars).T
    distance = np.hypot(table["slot_Centroid_x"][:, None] - x, table["slot_Centroid_y"][:, None] - y)
    assert distance.min(axis=0).max() < 0.1
    found = table[distance.argmin(axis=0)]
    found["base_PsfFlux_instFlux"] /= flux
    return found


@pytest.mark.parametrize("name", ["acn-measure", "acn-measure-latent"])
def test_sources_are_measured(repo, restored, name):
    """Detection, deblending and measurement by the tasks of the stack; fluxes
    are those of the PSF, times the aperture correction. The noise, which is
    correlated, is not detected.
    """
    reason = "the deblender is part of the full LSST stack and not on PyPI"
    for module in ("lsst.meas.extensions.scarlet", "lsst.pipe.tasks.multiBand"):
        pytest.importorskip(module, reason=reason, exc_type=ImportError)
    pipeline = Pipeline.from_uri(f"{PIPELINES}/{name}.yaml")
    butler = execute(*repo, pipeline, f"u/test/{name}", inputs=["u/test/restored", *DEFAULTS])
    found = match_stars(butler.get("acnCoadd_meas", repo[1].data_id).asAstropy(), repo[1])
    assert (found["base_InputCount_value"] == len(stack.VISITS)).all()
    np.testing.assert_allclose(found["base_PsfFlux_instFlux"], stack.APERTURE_CORRECTION, rtol=0.03)
    x, y = np.array([star[:2] for star in repo[1].stars]).T
    footprints = [source.getFootprint() for source in butler.get("acnCoadd_det", repo[1].data_id)]
    peaks = [(peak.getIx(), peak.getIy()) for one in footprints for peak in one.getPeaks()]
    alone = [np.hypot(x - peak_x, y - peak_y).min() > 8 for peak_x, peak_y in peaks]
    # By the stack's defaults there are hundreds.
    assert len(peaks) >= len(x) and np.sum(alone) <= 4
    check_flags(butler, repo[1])
    check_errors(butler, repo[1])


def check_flags(butler, sky):
    """Catalogues tell which sources lie on pixels that are not trusted."""
    bad = butler.get("acn_coadd", sky.data_id).mask.get("ACN_UNTRUSTED")
    box = butler.get("acn_coadd", sky.data_id).bbox
    for catalog in ("acnCoadd_meas", "acnCoadd_forced_src"):
        table = butler.get(catalog, sky.data_id)
        centre, anywhere = (table[f"base_PixelFlags_flag_acn_untrusted{end}"] for end in ("Center", ""))
        places = (np.rint(table[f"slot_Centroid_{axis}"]).astype(int) for axis in "yx")
        at = tuple(values - start for values, start in zip(places, box.start, strict=True))
        # Nine pixels are the centre.
        assert bad[at].any() and centre[bad[at]].all() and anywhere[centre].all()
        assert not anywhere.all()


def check_errors(butler, sky):
    """Errors of PSF fluxes are those of the image of errors, and those of
    apertures hold the correlation of the noise, in both catalogues; fluxes of
    empty places scatter by them; nothing else has changed.
    """
    error, coadd = (butler.get(f"acn_coadd{end}", sky.data_id) for end in ("_psf_flux_error", ""))
    between = variance_between_sources(coadd.variance.array, ~coadd.mask.get("NO_DATA"))
    for catalog in ("acnCoadd_meas", "acnCoadd_forced_src"):
        after, before = (butler.get(f"{catalog}{end}", sky.data_id) for end in ("", "_uncorrected"))
        assert after.schema == before.schema and (after["id"] == before["id"]).all()
        good = ~after["base_PsfFlux_flag"]
        assert good.sum() >= len(sky.stars)
        place = (np.rint(after[f"slot_Centroid_{axis}"]).astype(int) for axis in "yx")
        pixels = tuple(values - start for values, start in zip(place, error.bbox.start, strict=True))
        expected = {"base_PsfFlux": error.array[pixels] * stack.APERTURE_CORRECTION}
        for flux, radius in find_apertures(before, ["base_CircularApertureFlux"]):
            area = noise_area(coadd.metadata, np.sqrt(np.pi) * radius)
            added = (area - 1) * np.pi * radius**2 * between[pixels]
            expected[flux] = np.sqrt(before[f"{flux}_instFluxErr"] ** 2 + added)
        assert len(expected) >= 11
        for flux, values in expected.items():
            np.testing.assert_allclose(after[f"{flux}_instFluxErr"][good], values[good], rtol=1e-6)
        for name in before.schema.getNames():
            if name not in {f"{flux}_instFluxErr" for flux in expected}:
                np.testing.assert_array_equal(after[name], before[name])
    check_empty_places(*(butler.get(f"acnCoadd_meas{end}", sky.data_id) for end in ("", "_uncorrected")))


def check_empty_places(after, before):
    """Fluxes at the sky objects scatter by the corrected errors, and by far
    more than those of independent pixels.
    """
    empty = after["merge_peak_sky"]
    assert empty.sum() > 40
    for flux in ("base_PsfFlux", *(f"base_CircularApertureFlux_{radius}_0" for radius in (3, 6, 12))):
        pulls = (found[f"{flux}_instFlux"] / found[f"{flux}_instFluxErr"] for found in (after, before))
        scatter, uncorrected = (np.nanstd(values[empty]) for values in pulls)
        assert 0.7 < scatter < 1.3, flux
        assert uncorrected > 1.6, flux


def test_tasks_run_by_connections_alone(repo, restored):
    """What else acn-measure.yaml sets makes better catalogues of it; nothing
    of that is needed. ``useCellCoadds`` is what chooses the connection; the
    order of bands and what calibration marks come with a real instrument.
    """
    for module in ("lsst.meas.extensions.scarlet", "lsst.pipe.tasks.multiBand"):
        pytest.importorskip(module, reason="part of the full LSST stack, not on PyPI", exc_type=ImportError)
    pipeline = Pipeline("connections alone")
    for label, task in Pipeline.from_uri(f"{PIPELINES}/acn-measure.yaml")._pipelineIR.tasks.items():
        pipeline.addTask(task.klass, label)
        settings = {name: value for config in task.config or () for name, value in config.rest.items()}
        for name, value in settings.items():
            if name.startswith("connections.") or name == "useCellCoadds":
                pipeline.addConfigOverride(label, name, value)
        if label.startswith("merge"):
            pipeline.addConfigOverride(label, "priorityList", [stack.BAND])
    pipeline.addConfigOverride("measureAcnCoadd", "doPropagateFlags", False)
    butler = execute(*repo, pipeline, "u/test/alone", inputs=["u/test/restored", *DEFAULTS])
    found = match_stars(butler.get("acnCoadd_meas", repo[1].data_id).asAstropy(), repo[1])
    np.testing.assert_allclose(found["base_PsfFlux_instFlux"], stack.APERTURE_CORRECTION, rtol=0.03)
    assert len(butler.get("acnCoadd_forced_src", repo[1].data_id)) >= len(repo[1].stars)
