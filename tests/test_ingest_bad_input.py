# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

import os
import resource
import shlex
import signal
import subprocess
import sys

import pytest
import yaml
from _ingest_data import describe, make_text_header, run_ingest, write_files
from astropy.io import fits

from lsst.coadd.astroclearnet.ingest import IngestError, load_config


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    root = tmp_path_factory.mktemp("files")
    write_files(root)
    (root / "odd.xyz").write_text("no table")
    return root


def assert_refused(description, *messages):
    """See that ingest ends with one line that holds all of the messages."""
    result = run_ingest(description, description.parent / "repo")
    assert result.exit_code == 1, result.exception
    (line,) = (line for line in result.output.splitlines() if line.startswith("Error: "))
    for message in messages:
        assert message in line
    assert not (description.parent / "repo").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": {"file": "nothing.fits"}}, "visit=11 detector=3: the file "),
        ({"image": {"file": "image.fits", "hdu": 0}}, "has no 2-d image in HDU 0"),
        ({"image": {"file": "image.fits", "hdu": "SCI"}}, "image.fits has no HDU SCI; it has 0 PRIMARY, 1."),
        ({"weight": {"file": "stamp.fits"}}, "stamp.fits has the shape (33, 33), the image (90, 110)"),
        (
            {"weight": {"file": "weight.fits", "kind": "guess"}},
            "weight.kind must be 'inverse_variance', 'variance' or 'sigma'; got 'guess' in exposure 0 (of 1",
        ),
        ({"psf": {"kind": "psfex", "file": "sky.fits"}}, "is not a PSFEx model"),
        ({"psf": {"kind": "piff", "file": "psfex.fits"}}, "psfex.fits is not a Piff model"),
        ({"psf": {"kind": "stamp", "file": "mask.fits"}}, "PSF stamps must be square"),
        ({"psf": {"kind": "psfex"}}, "psf.psfex.file is missing in exposure 0"),
        ({"defaults": {}}, "band is missing, physical_filter is missing, exposure_time is missing, "),
        (
            {"calibration": {}},
            "calibration: give either zero_point or njy_per_count in exposure 0",
        ),
        (
            {"calibration": {"zero_point": float("nan")}},
            "calibration.zero_point must be a finite number; got nan",
        ),
        ({"calibration": {"zero_point": 1e4}}, "the zero point 10000.0 is not a magnitude"),
        ({"sky": {"kind": "constant", "value": float("nan")}}, "sky.constant.value must be a finite number"),
        ({"mjd": 2460000.5}, "mjd must be less than or equal to 88069; got 2460000.5"),
        ({"mjd": 0}, "mjd must be greater than or equal to 40587; got 0"),
        ({"physical_filter": "f" * 33}, "physical_filter has more than 32 characters in exposure 0"),
        ({"band": ""}, "band is empty in exposure 0"),
        ({"instrument": {"name": "C" * 33}}, "instrument.name has more than 32 characters."),
        ({"sky_map": {"name": "s" * 65}}, "sky_map.name has more than 64 characters."),
        ({"sky_map": {"name": "field", "center": [2.5, 150.0]}}, "center.1 must be less than or equal to 90"),
        ({"sky_map": {"name": "field", "pixel_scale": 262}}, "pixel_scale must be less than or equal to 60"),
        ({"defaults": None}, "band is missing, physical_filter is missing, exposure_time is missing, "),
        ({"defaults": ["band"]}, "defaults must be a mapping; got ['band']"),
        ({"data_root": 5}, "data_root must be a path; got 5"),
        ({"weight": "weight.fits"}, "weight must be a mapping; got 'weight.fits' in exposure 0"),
        ({"weight": {"file": 3}}, "weight.file must be the name of a file; got 3 in exposure 0"),
        (
            {"data_quality": {"file": "weight.fits", "bits": {0: "BAD"}}},
            "weight.fits is no mask: 9899 pixels hold no integer but, for example, 0.0625",
        ),
        (
            {"data_quality": {"file": "image.fits", "codes": {1: "BAD"}}},
            "image.fits is no mask: 9900 pixels hold no integer",
        ),
        ({"table": {"file": "none.txt", "key": "name"}}, "none.txt cannot be read: "),
        ({"table": {"file": "odd.xyz", "key": "name"}}, "odd.xyz is no table of a format that astropy knows"),
        ({"data_quality": {"file": "mask.fits", "bits": {0: "BAD"}}}, "2 pixels have the bit 2"),
        ({"data_quality": {"file": "mask.fits", "bits": {0: "UGLY"}}}, "Unknown mask plane 'UGLY'"),
        ({"data_quality": {"file": "mask.fits", "bits": {0: "CLIPPED"}}}, "Unknown mask plane 'CLIPPED'"),
        ({"data_quality": {"file": "mask.fits", "codes": {1: "UNREPAIRED"}}}, "a visit image can hold NO_"),
        (
            {"data_quality": {"file": "mask.fits", "bits": {2: "INJECTED"}}},
            "data_quality: Unknown mask plane 'INJECTED'",
        ),
        ({"data_quality": {"file": "mask.fits", "bits": {2: "FAKE"}}}, "Unknown mask plane 'FAKE'"),
        ({"psf": {"kind": "psfex", "file": "weight.fits", "hdu": 0}}, "HDU 0 is not a PSFEx model"),
        ({"sky": {"kind": "spline", "file": "weight.fits", "hdu": 0}}, "it has no column xgrid"),
        ({"wcs": {"file": "weight.fits", "hdu": 7}}, "weight.fits has no HDU 7; it has 0 PRIMARY."),
        ({"wcs": {"file": "weight.fits"}}, "weight.fits: its header has no celestial WCS"),
        ({"band": "{nonsense}"}, "exposures.0.band: '{nonsense}' cannot be filled in: 'nonsense'"),
        ({"exposures": [{"visit": 1, "detector": 1}] * 2}, "visit=1 detector=1 is described twice"),
        ({"exposures": []}, "exposures is empty"),
        (
            {"sky_map": {"name": "field", "pixel_scale": 1e-4}},
            "sky_map.pixel_scale: the tract would have 3.6e+07 x 3.6e+07 pixels",
        ),
        (
            {"sky_map": {"name": "field", "pixel_scale": float("inf")}},
            "sky_map.pixel_scale must be a finite number; got inf",
        ),
        (
            {"sky_map": {"name": "field", "cell_size": 16, "max_patch_size": 16, "pixel_scale": 0.01}},
            "sky_map: the tract would have ",
        ),
        (
            {"instrument": {"name": "Cam", "colour": "red"}},
            "instrument.colour is not known",
        ),
        ({"data_root": "/nowhere/at/all"}, "The data root /nowhere/at/all does not exist"),
    ],
)
def test_bad_descriptions_leave_no_repository(changes, message, files, tmp_path):
    result = run_ingest(describe(tmp_path, files, changes), tmp_path / "repo")
    assert result.exit_code == 1
    assert message in result.output
    assert result.output.splitlines()[-1].startswith("Error: ")
    assert os.listdir(tmp_path) == ["exposures.yaml"]


def test_corrupt_fits_is_named(files, tmp_path):
    whole = (files / "image.fits").read_bytes()
    (tmp_path / "image.fits").write_bytes(whole[: len(whole) // 2])
    result = run_ingest(
        describe(tmp_path, files, {"image": {"file": str(tmp_path / "image.fits")}}), tmp_path / "repo"
    )
    assert result.exit_code == 1
    assert "visit=11 detector=3" in result.output and "image.fits" in result.output
    assert not (tmp_path / "repo").exists()


@pytest.mark.parametrize(
    "part",
    [
        {"weight": {}},
        {"data_quality": {"bits": {0: "BAD"}}},
        {"psf": {"kind": "psfex"}},
        {"psf": {"kind": "piff"}},
        {"psf": {"kind": "stamp"}},
        {"wcs": {}},
        {"sky": {"kind": "spline"}},
    ],
)
def test_files_that_are_no_fits_are_named(part, files, tmp_path):
    (name, entry), path = next(iter(part.items())), tmp_path / "garbage.fits"
    path.write_bytes(b"garbage")
    description = describe(tmp_path, files, {name: entry | {"file": str(path)}})
    assert_refused(description, f"visit=11 detector=3: {path} cannot be read: ")


@pytest.mark.parametrize(
    ("hdu", "message"),
    [
        (None, "holds 2 headers; give the number of that of the exposure as wcs.hdu"),
        (0, "has no header number 0; it holds 2, counted from 1."),
        (3, "has no header number 3; it holds 2, counted from 1."),
        ("SCI", "has no header number 'SCI'; it holds 2, counted from 1."),
    ],
)
def test_header_of_a_chip_must_be_told(hdu, message, files, tmp_path):
    path = tmp_path / "chips.head"
    path.write_bytes(make_text_header(150.0) + make_text_header(151.0))
    description = describe(tmp_path, files, {"wcs": {"file": str(path), "hdu": hdu}})
    assert_refused(description, f"visit=11 detector=3: {path} {message}")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"CTYPE1": "GLON-TAN", "CTYPE2": "GLAT-TAN"}, "the axes of its WCS are GLON-TAN and GLAT-TAN; "),
        ({"CTYPE1": "DEC--TAN", "CTYPE2": "RA---TAN", "CRVAL1": 2.5, "CRVAL2": 150.0}, "in this order"),
        ({"RADESYS": "FK4"}, "its WCS is in FK4 of equinox B1950.000; "),
        ({"RADESYS": None, "EQUINOX": 1950.0}, "its WCS is in FK4 of equinox B1950.000; "),
        ({"RADESYS": None, "EQUINOX": 1990.0}, "its WCS is in FK5 of equinox J1990.000; "),
        ({"RADESYS": "FK5", "EQUINOX": 1975.0}, "only ICRS and FK5 of J2000 can be read. Put one in "),
        ({"RADESYS": "GAPPT"}, "the frame GAPPT of its WCS is not known. Put one in ICRS into "),
        ({"CRVAL1": None}, "its header has no number as CRVAL1."),
        ({"CRVAL1": None, "CRVAL2": "2.5"}, "its header has no number as CRVAL1 and as CRVAL2."),
        ({"CD1_1": 0.0, "CD1_2": 0.0}, "its WCS cannot be used: "),
        ({"CRPIX1": None, "CRPIX2": None}, "its header has no number as CRPIX1 and as CRPIX2."),
        (
            dict.fromkeys(("CD1_1", "CD1_2", "CD2_1", "CD2_2")),
            "the pixels of its WCS are 3.6e+03 arcsec",
        ),
        (dict.fromkeys(("CD1_1", "CD1_2", "CD2_1", "CD2_2"), 0.0), "its WCS are 3.6e+03 arcsec wide"),
    ],
)
def test_wcs_that_leads_astray_is_refused(changes, message, files, tmp_path):
    path = tmp_path / "some.head"
    path.write_bytes(make_text_header(150.0, **changes))
    description = describe(tmp_path, files, {"wcs": {"file": str(path)}})
    assert_refused(description, f"visit=11 detector=3: {path}: ", message)


def test_image_without_a_position_is_named(files, tmp_path):
    with fits.open(files / "image.fits") as hdus:
        del hdus[1].header["CRVAL2"]
        hdus.writeto(tmp_path / "image.fits")
    description = describe(tmp_path, files, {"image": {"file": str(tmp_path / "image.fits")}})
    assert_refused(description, "visit=11 detector=3: ", "image.fits: its header has no number as CRVAL2.")


@pytest.mark.parametrize(
    ("side", "limit", "message"),
    [
        (100, 400_000, "The registry of "),
        (900, 2_500_000, "repo cannot be written: File too large; no rep"),
    ],
)
def test_full_disk_leaves_no_repository(side, limit, message, tmp_path):
    """A limit on the size of files stands for a full disk."""
    (tmp_path / "files").mkdir()
    write_files(tmp_path / "files", shape=(side, side))
    path = describe(tmp_path, tmp_path / "files")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limits[1]))
    try:
        result = run_ingest(path, tmp_path / "repo")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert result.exit_code == 1, result.exception
    assert message in result.output
    assert sorted(os.listdir(tmp_path)) == ["exposures.yaml", "files"]


@pytest.mark.parametrize(
    ("number", "code", "words"),
    [(signal.SIGINT, 130, "\nInterrupted."), (signal.SIGTERM, 143, "")],
)
def test_a_command_that_is_stopped_leaves_nothing(number, code, words, files, tmp_path):
    """By Ctrl-C, or by a batch system at the end of the time."""
    path = describe(tmp_path, files)
    content = yaml.safe_load(path.read_text())
    content["exposures"] = [{"visit": visit, "detector": 3} for visit in range(50)]
    path.write_text(yaml.safe_dump(content))
    command = [sys.executable, "-m", "lsst.coadd.astroclearnet", "ingest", str(path), str(tmp_path / "repo")]

    def heed():  # the children of a job in the background ignore Ctrl-C
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=heed) as process:
        assert "1/50" in process.stderr.readline()
        assert len(os.listdir(tmp_path)) == 2  # the description, and what is half made
        process.send_signal(number)
        told = process.stderr.read()
    assert process.returncode == code, told
    assert "Traceback" not in told and told.rstrip().endswith(words)
    assert os.listdir(tmp_path) == ["exposures.yaml"]


def test_existing_directory_is_kept(files, tmp_path):
    (tmp_path / "repo").mkdir()
    (tmp_path / "repo" / "precious").write_text("x")
    result = run_ingest(describe(tmp_path, files), tmp_path / "repo")
    assert result.exit_code == 1 and "is not an empty directory; nothing was changed" in result.output
    assert os.listdir(tmp_path / "repo") == ["precious"]


def test_not_yaml(tmp_path):
    path = tmp_path / "exposures.yaml"
    path.write_text("a: [1, 2")
    with pytest.raises(IngestError, match="is not YAML"):
        load_config(path)
    path.write_bytes(b"a: \xff")
    with pytest.raises(IngestError, match="is not YAML"):
        load_config(path)
    path.write_text("- 1")
    with pytest.raises(IngestError, match="must hold a mapping"):
        load_config(path)


def describe_many(directory, files, changes):
    """Describe five exposures, with changes to some and to the defaults."""
    path = describe(directory, files)
    description = yaml.safe_load(path.read_text())
    description["exposures"] = [{"visit": n, "detector": 3, **changes.get(n, {})} for n in range(5)]
    for name, value in changes.get("defaults", {}).items():
        description["defaults"][name] = value
    for name in changes.get("without", ()):
        del description["defaults"][name]
    path.write_text(yaml.safe_dump(description))
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"without": ["mjd"]}, "mjd is missing in all 5 exposures: put it under defaults."),
        (
            {"defaults": {"psf": {"kind": "magic"}}},
            "psf.kind must be one of 'psfex', 'piff', 'stamp'; got 'magic' in all 5 exposures: look at def",
        ),
        (
            {1: {"exposure_time": -4}, 3: {"exposure_time": -4}, 2: {"mjd": "noon"}},
            "exposure_time must be greater than 0; got -4 in exposures 1, 3 (of 5, counted from 0); mjd must "
            "be a valid number; unable to parse string as a number; got 'noon' in exposure 2 (of 5",
        ),
    ],
)
def test_equal_faults_are_told_once(changes, message, files, tmp_path):
    result = run_ingest(describe_many(tmp_path, files, changes), tmp_path / "repo")
    assert result.exit_code == 1
    assert result.output.startswith("Error: ") and result.output.count("\n") == 1
    assert message in result.output and len(result.output) < 400


def test_sky_that_is_still_there_is_told(files, tmp_path):
    changes = {"defaults": {"sky": {"kind": "none"}}, 2: {"sky": {"kind": "median"}}}
    result = run_ingest(describe_many(tmp_path, files, changes), tmp_path / "repo")
    assert result.exit_code == 0, result.output
    told = [line for line in result.output.splitlines() if line.startswith("WARNING: ")]
    assert [int(line.partition("visit=")[2][0]) for line in told] == [0, 1, 3, 4]
    assert all(
        "sigma of the noise of a pixel, not 0: subtract it first, or give 'sky: {kind" in one for one in told
    )


def test_what_it_says_to_do_next_can_be_done(files, tmp_path):
    """The commands are words that a shell takes, one pipeline before the
    other, for all bands and for whoever runs them.
    """
    changes = {4: {"band": "i", "physical_filter": "Cam-I"}}
    result = run_ingest(describe_many(tmp_path, files, changes), tmp_path / "my repo")
    assert result.exit_code == 0, result.output
    lines = result.stdout.replace("\\\n", " ").splitlines()[1:]
    mean, acn, report = (shlex.split(line) for line in lines)
    assert "band" not in result.stdout and "$" not in result.stdout
    assert mean[:2] == acn[:2] == ["pipetask", "run"] and report[:3] == ["acn", "report", mean[3]]
    assert mean[3] == str(tmp_path / "my repo")
    output = mean[mean.index("-o") + 1]
    assert mean[mean.index("-p") + 1].endswith("pipelines/mean.yaml")
    assert acn[acn.index("-p") + 1].endswith("pipelines/acn.yaml")
    assert acn[acn.index("-i") + 1] == f"{output},Cam/defaults"
    assert acn[acn.index("-d") + 1] == "skymap='field' AND tract=0"
    assert report[report.index("--collections") + 1] == acn[acn.index("-o") + 1]
