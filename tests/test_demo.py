# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""The demo repository: what is in it, and what a second run does to it."""

from __future__ import annotations

import json
import resource

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from click.testing import CliRunner
from conftest import DATA_ID, WHERE

from lsst.coadd.astroclearnet import demo, repository, simulate
from lsst.coadd.astroclearnet.adapters import PatchGeometry
from lsst.coadd.astroclearnet.cli._demo import demo as demo_command
from lsst.coadd.astroclearnet.cli._main import main
from lsst.daf.butler import Butler
from lsst.images import XY

CONFIG = demo.DemoConfig(n_visits=5, size=200, seed=2)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A demo repository of five small visits, made once."""
    root = tmp_path_factory.mktemp("demo") / "repo"
    assert demo.make_demo_repository(root, CONFIG)
    return root


@pytest.fixture(scope="module")
def butler(root):
    return Butler.from_config(str(root), collections=["HSC/defaults"])


@pytest.fixture(scope="module")
def simulated():
    """The exposures that the repository was made from, drawn again."""
    survey, wcs = CONFIG.survey, CONFIG.tract.wcs
    catalog = simulate.make_catalog(survey.scene)
    plan = simulate.plan_visits(survey, wcs)[0]
    exposure = simulate.simulate_exposure(
        plan, plan.detectors[0], config=survey, catalog=catalog, grid_wcs=wcs
    )
    return catalog, exposure


def test_records_are_those_of_hsc(butler):
    (instrument,) = butler.query_dimension_records("instrument")
    assert instrument.name == "HSC"
    assert instrument.class_name == "lsst.obs.subaru.HyperSuprimeCam"
    assert (instrument.detector_max, instrument.visit_max, instrument.visit_system) == (200, 21474800, 0)
    detectors = {record.id: record for record in butler.query_dimension_records("detector")}
    assert (detectors[50].full_name, detectors[50].raft, detectors[50].name_in_raft) == ("1_12", "1", "12")
    (physical_filter,) = butler.query_dimension_records("physical_filter")
    assert (physical_filter.name, physical_filter.band) == ("HSC-I", "i")
    (patch,) = butler.query_dimension_records("patch")
    assert (patch.id, patch.cell_x, patch.cell_y) == (40, 4, 4)
    # Identifiers of sources have room for so many patches.
    (sky_map,) = butler.query_dimension_records("skymap")
    assert sky_map.patch_nx_max * sky_map.patch_ny_max > patch.id
    assert sky_map.tract_max > patch.tract
    visits = butler.query_dimension_records("visit")
    assert len(visits) == 5
    assert all(visit.timespan.end > visit.timespan.begin for visit in visits)


def test_every_exposure_is_found_by_the_patch(butler):
    """The spatial join that a quantum graph makes."""
    everything = butler.query_datasets("calexp", "HSC/defaults")
    found = butler.query_datasets("calexp", "HSC/defaults", where=WHERE)
    assert {ref.id for ref in found} == {ref.id for ref in everything}
    detectors = [(ref.dataId["visit"], ref.dataId["detector"]) for ref in found]
    assert len(detectors) == 6 and len({visit for visit, _ in detectors}) == 5
    elsewhere = WHERE.replace("patch=40", "patch=41")
    assert not butler.query_datasets("calexp", "HSC/defaults", where=elsewhere, explain=False)


def test_geometry_is_a_patch_in_a_tract(butler):
    geometry = PatchGeometry.from_dict(
        butler.get("acn_sky_geometry", skymap="hsc_rings_demo"), tract=9813, patch=40
    )
    assert geometry.outer_bbox.shape == (200, 200)
    assert geometry.inner_bbox.shape == (100, 100)
    assert geometry.outer_bbox.x.start == 350 and geometry.tract_bbox.shape == (900, 900)
    ra, dec = geometry.wcs.pixel_to_sky(x=np.array([449.5, 450.5]), y=np.array([449.5, 449.5]))
    assert (ra[0], dec[0]) == (pytest.approx(150.25), pytest.approx(2.23))
    assert (ra[0] - ra[1]) * np.cos(np.deg2rad(2.23)) * 3600 == pytest.approx(0.168, rel=1e-4)


def test_calexp_is_the_simulated_exposure(butler, simulated):
    _, exposure = simulated
    data_id = {"instrument": "HSC", "visit": exposure.plan.visit, "detector": exposure.detector.id}
    image = butler.get("calexp", data_id)
    assert (image.bbox.x.start, image.bbox.y.start) == (exposure.x0, exposure.y0)
    assert image.unit == u.adu and image.band == "i" and image.physical_filter == "HSC-I"
    np.testing.assert_array_equal(image.image.array, exposure.image)
    np.testing.assert_array_equal(image.variance.array, exposure.variance)
    for name, marked in exposure.planes.items():
        np.testing.assert_array_equal(image.mask.get(name), marked, err_msg=name)
    assert image.detector.name == "1_12" and image.detector.bbox.shape == (4176, 2048)
    scaling = image.photometric_scaling
    assert scaling.unit == u.nJy / u.adu
    middle = scaling(x=np.array([image.bbox.x.center]), y=np.array([image.bbox.y.center]))
    assert middle[0] == pytest.approx(exposure.plan.calibration, rel=1e-3)


def test_calexp_has_the_psf_and_wcs_it_was_drawn_with(butler, simulated):
    catalog, exposure = simulated
    data_id = {"instrument": "HSC", "visit": exposure.plan.visit, "detector": exposure.detector.id}
    image = butler.get("calexp", data_id)
    x, y = exposure.x0 + 40.2, exposure.y0 + 250.7
    kernel = image.psf.compute_kernel_image(x=x, y=y).array
    drawn = exposure.psf.draw(x, y, stamp_size=51, center=True).array
    np.testing.assert_allclose(kernel, drawn / drawn.sum(), atol=1e-6)
    sky = image.sky_projection.pixel_to_sky(XY(x, y))
    ra, dec = exposure.wcs.all_pix2world(x, y, 0)
    assert sky.ra.deg == pytest.approx(float(ra), abs=1e-9)
    assert sky.dec.deg == pytest.approx(float(dec), abs=1e-9)
    assert image.detector.orientation.yaw.to_value(u.deg) == pytest.approx(180.05, abs=0.01)


def test_sources_are_where_the_truth_says(butler):
    """From the catalogue through the WCS of each image to a bright pixel."""
    table = butler.get("acn_truth_catalog", DATA_ID)
    star = table[table["saturated"]][0]
    hit = 0
    for ref in butler.query_datasets("calexp", "HSC/defaults"):
        image = butler.get(ref)
        pixel = image.sky_projection.sky_to_pixel(SkyCoord(star["ra"], star["dec"], unit="deg"))
        x, y = round(float(pixel.x)) - image.bbox.x.start, round(float(pixel.y)) - image.bbox.y.start
        height, width = image.image.array.shape
        if 0 <= x < width and 0 <= y < height:
            assert image.mask.get("SATURATED")[y, x]
            hit += 1
    assert hit >= 3


def test_truth_images_hold_the_catalogue(butler):
    table = butler.get("acn_truth_catalog", DATA_ID)
    assert table["flux"].unit == u.nJy and table["ra"].unit == u.deg
    box = PatchGeometry.from_dict(
        butler.get("acn_sky_geometry", skymap="hsc_rings_demo"), tract=9813, patch=40
    ).outer_bbox
    totals, peaks = {}, {}
    for name in ("acn_truth_image_2p0", "acn_truth_image", "acn_truth_image_3p5", "acn_truth_image_seeing"):
        image = butler.get(name, DATA_ID)
        assert image.bbox == box and image.unit == u.nJy
        totals[name], peaks[name] = image.array.sum(dtype=float), image.array.max()
    inside = table["flux"][table["in_patch"]].sum()
    # Sources at the edge lose or add a little.
    assert totals["acn_truth_image"] == pytest.approx(inside, rel=0.05)
    assert sorted(peaks, key=peaks.get, reverse=True) == list(peaks)
    star = table[table["saturated"]][0]
    image = butler.get("acn_truth_image", DATA_ID)
    peak = np.unravel_index(image.array.argmax(), image.array.shape)
    assert abs(peak[1] + box.x.start - star["x"]) <= 0.5 and abs(peak[0] + box.y.start - star["y"]) <= 0.5
    sigma = 2.5 / np.sqrt(8 * np.log(2))
    distance = np.hypot(peak[1] + box.x.start - star["x"], peak[0] + box.y.start - star["y"])
    expected = star["flux"] / (2 * np.pi * sigma**2) * np.exp(-0.5 * (distance / sigma) ** 2)
    assert peaks["acn_truth_image"] == pytest.approx(expected, rel=0.01)


def test_the_same_seed_gives_the_same_pixels(tmp_path):
    config = demo.DemoConfig(n_visits=1, size=200, seed=2)
    arrays = []
    for name in ("one", "two"):
        demo.make_demo_repository(tmp_path / name, config)
        butler = Butler.from_config(str(tmp_path / name), collections=["HSC/defaults"])
        (ref,) = butler.query_datasets("calexp", "HSC/defaults")
        arrays.append(butler.get(ref).image.array)
    np.testing.assert_array_equal(*arrays)


def test_a_complete_repository_is_left_alone(root):
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*.fits")}
    lines = []
    assert not demo.make_demo_repository(root, CONFIG, report=lines.append)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*.fits")} == before
    assert "complete already" in lines[0]


def test_other_options_are_not_mistaken_for_the_same(root):
    with pytest.raises(
        repository.RepositoryError,
        match=r"made with other options \(--seed \d+ --visits \d+ --size 200\); give --overwrite",
    ):
        demo.make_demo_repository(root, demo.DemoConfig(n_visits=4, size=200, seed=2))
    assert json.loads((root / demo.MARKER).read_text())["complete"]


def test_an_interrupted_repository_is_made_anew(tmp_path, monkeypatch):
    config = demo.DemoConfig(n_visits=2, size=200)
    root, put = tmp_path / "repo", repository.write_visit

    def interrupted(*args, **kwargs):
        if kwargs["info"].visit > 29324:
            raise KeyboardInterrupt
        return put(*args, **kwargs)

    monkeypatch.setattr("lsst.coadd.astroclearnet.demo._demo.write_visit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        demo.make_demo_repository(root, config)
    assert not json.loads((root / demo.MARKER).read_text())["complete"]
    monkeypatch.undo()
    lines = []
    assert demo.make_demo_repository(root, config, report=lines.append)
    assert "incomplete" in lines[0]
    butler = Butler.from_config(str(root), collections=["HSC/defaults"])
    assert len(butler.query_datasets("calexp", "HSC/defaults")) == 2


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_repository_in_the_making_is_left_alone(tmp_path, monkeypatch, overwrite):
    """A second command in the same folder stops; the first goes on."""
    root, put, config = tmp_path / "repo", repository.write_visit, demo.DemoConfig(n_visits=1, size=200)

    def start_second(*args, **kwargs):
        with pytest.raises(repository.RepositoryError, match="Another process is making .* was changed"):
            demo.make_demo_repository(root, config, overwrite=overwrite)
        return put(*args, **kwargs)

    monkeypatch.setattr("lsst.coadd.astroclearnet.demo._demo.write_visit", start_second)
    assert demo.make_demo_repository(root, config)
    with Butler.from_config(str(root), collections=["HSC/defaults"]) as butler:
        assert len(butler.query_datasets("calexp")) == 1


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_that_is_no_demo_is_never_touched(tmp_path, overwrite):
    root = tmp_path / "mine"
    root.mkdir()
    (root / "butler.yaml").write_text("precious")
    with pytest.raises(repository.RepositoryError, match="not a demo repository; nothing was changed"):
        demo.make_demo_repository(root, CONFIG, overwrite=overwrite)
    assert (root / "butler.yaml").read_text() == "precious"
    assert [path.name for path in root.iterdir()] == ["butler.yaml"]


def test_overwrite_replaces_a_complete_demo(tmp_path):
    root = tmp_path / "repo"
    demo.make_demo_repository(root, demo.DemoConfig(n_visits=1, size=200))
    config = demo.DemoConfig(n_visits=1, size=200, seed=9)
    assert demo.make_demo_repository(root, config, overwrite=True)
    assert json.loads((root / demo.MARKER).read_text())["config"]["seed"] == 9


def test_command_makes_and_keeps(tmp_path):
    runner, arguments = CliRunner(), ["demo", str(tmp_path / "repo"), "--visits", "1", "--size", "200"]
    first = runner.invoke(main, arguments)
    assert first.exit_code == 0, first.output
    assert "1/1 Visit 29324: " in first.output and "Wrote" in first.output
    second = runner.invoke(main, arguments)
    assert second.exit_code == 0 and "nothing to do" in second.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--size", "250"], "size must be a multiple of 200"),
        (["--visits", "0"], "n_visits must be within 1 to 200"),
        (["--seed", "-1"], "seed must not be negative"),
    ],
)
def test_command_refuses_bad_options(tmp_path, options, message):
    result = CliRunner().invoke(demo_command, [str(tmp_path / "repo"), *options])
    assert result.exit_code == 2 and message in result.output
    assert not (tmp_path / "repo").exists()


def test_command_error_is_one_line(tmp_path):
    (tmp_path / "file").write_text("mine")
    result = CliRunner().invoke(main, ["demo", str(tmp_path)])
    assert result.exit_code == 1
    assert result.output.startswith("Error: ") and len(result.output.strip().splitlines()) == 1


def test_create_repository_needs_an_empty_folder(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(repository.RepositoryError, match="not an empty folder; nothing was changed"):
        repository.create_repository(tmp_path)
    with pytest.raises(repository.RepositoryError, match="not an empty folder"):
        repository.create_repository(tmp_path / "file")


@pytest.mark.parametrize(
    ("limit", "message"),
    [(300_000, "The registry of {} cannot"), (1_300_000, "{} cannot be written: File")],
)
def test_a_full_disk_is_one_line_and_leaves_a_mark(limit, message, tmp_path):
    """A limit on the size of files, one below that of an image, stands for a
    full disk.
    """
    root = tmp_path / "repo"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limits[1]))
    try:
        result = CliRunner().invoke(main, ["demo", str(root), "--visits", "1", "--size", "400", "-q"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert result.exit_code == 1, result.exception
    assert result.output.startswith("Error: " + message.format(root)) and result.output.count("\n") == 1
    assert not json.loads((root / demo.MARKER).read_text())["complete"]
