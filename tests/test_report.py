# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""``acn report``: pages that need a browser alone."""

import base64
import html.parser
import re
import shutil
import subprocess
from pathlib import Path

import matplotlib.figure
import numpy as np
import pytest
from astropy.table import Table
from click.testing import CliRunner

from lsst.coadd.astroclearnet.cli import main
from lsst.coadd.astroclearnet.comparison._page import (
    Section,
    choose_key_rows,
    format_number,
    make_page,
    pivot_metrics,
    render_table,
)
from lsst.coadd.astroclearnet.comparison._rows import make_row, make_table
from lsst.daf.butler import Butler, CollectionType, DatasetType

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
CHROMIUM_FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage"
).split()


class Page(html.parser.HTMLParser):
    """What a page is made of, and whether its elements are closed."""

    EMPTY = {"meta", "link", "img", "input", "br"}

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.addresses, self.cells, self.text = [], [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.addresses += [value for name, value in attrs if name in ("src", "href")]
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def find(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def make_metrics(fwhm=0.42):
    return make_table(
        [
            make_row("star_fwhm", "deepCoadd", 0.7423, 0.0112, n=9),
            make_row("star_fwhm", "acn_coadd", fwhm, 0.0071, n=9),
            make_row("sky_rms", "deepCoadd", 12.0, 0.5, n=100),
            make_row("sky_rms", "acn_coadd", 3.0, 0.1, n=100),
            make_row("purity", "acn_coadd", np.nan, n=0),
            make_row("exposure_chi2_of", "acn_coadd", 1.1, n=5, suffix="1_2"),
        ]
    )


@pytest.fixture(scope="module")
def repo(tmp_path_factory):
    """A repository with the comparison of two patches and their tract."""
    root = tmp_path_factory.mktemp("report") / "repo"
    Butler.makeRepo(str(root))
    with Butler.from_config(str(root), writeable=True) as butler:
        insert = butler.registry.insertDimensionData
        insert("skymap", dict(name="s", hash=b"s", tract_max=1, patch_nx_max=3, patch_ny_max=3))
        insert("tract", dict(skymap="s", id=0))
        insert("instrument", dict(name="HSC", class_name="not.installed", visit_system=0))
        insert("physical_filter", dict(instrument="HSC", name="HSC-I", band="i"))
        for patch in (4, 5):
            insert("patch", dict(skymap="s", tract=0, id=patch, cell_x=patch - 4, cell_y=0))
        butler.collections.register("u/test")
        butler.collections.register("u/empty")
        tract = dict(skymap="s", tract=0, band="i")
        base = "acn_coadd_comparison"

        def put(content, name, kind, data_id):
            dataset_type = DatasetType(name, sorted(data_id), kind, universe=butler.dimensions)
            butler.registry.registerDatasetType(dataset_type)
            butler.put(content, name, data_id, run="u/test")

        figure = matplotlib.figure.Figure(figsize=(1, 1))
        for patch in (4, 5):
            data_id = tract | {"patch": patch}
            put(make_metrics(0.4 + patch / 100), f"{base}_metrics", "ArrowAstropy", data_id)
            put(figure, f"{base}_plot", "Plot", data_id)
            put(figure, f"{base}_flux_plot", "Plot", data_id)
            inputs = Table({"visit": [7, 8], "kept": [True, False], "reason": ["", "seeing <b> & more"]})
            put(inputs, "acn_coadd_inputs", "ArrowAstropy", data_id)
        summary = Table({"name": ["star_fwhm"], "median": [0.42], "n_patches": [2]})
        put(summary, f"{base}_tract_metrics", "ArrowAstropy", tract)
        put(figure, f"{base}_tract_plot", "Plot", tract)
    return root


def run(*words):
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.fixture(scope="module")
def report(repo, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    result = run("report", repo, "--collections", "u/test", "-o", path)
    assert result.exit_code == 0, result.output
    assert "2 patches" in result.output
    return path


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("command", ["report", "summary"])
def test_full_disk_takes_nothing_and_is_told(repo, tmp_path, command):
    """What was written before stays, and the file is named."""
    path = tmp_path / ("comparison.png" if command == "summary" else "report.html")
    path.write_bytes(b"precious")
    path.with_name(f"{path.name}.part").symlink_to("/dev/full")
    where = "skymap='s' AND tract=0 AND patch=4"
    out = tmp_path if command == "summary" else path
    result = run(command, repo, "--collections", "u/test", "--where", where, "-o", out)
    assert result.exit_code == 1
    assert result.output.splitlines()[-1] == f"Error: No space left on device: {path}"
    assert path.read_bytes() == b"precious" and list(tmp_path.iterdir()) == [path]


def test_page_stands_alone(report):
    page = Page(report.read_text(encoding="utf-8"))
    for address in page.addresses:
        assert address.startswith(("data:", "#")), address[:60]
    pictures = [attrs["src"] for attrs in page.find("img")]
    assert len(pictures) == 1 + 2 * 2 and all(attrs["alt"] for attrs in page.find("img"))
    for picture in pictures:
        assert base64.b64decode(picture.removeprefix("data:image/png;base64,")).startswith(b"\x89PNG")
    assert "http" not in re.sub(r"base64,[^\"]*", "", report.read_text(encoding="utf-8"))


def test_page_holds_every_patch_and_the_tract(report):
    page = Page(report.read_text(encoding="utf-8"))
    text = "".join(page.text)
    for words in ("Tract: band=i, skymap=s, tract=0", "patch=4", "patch=5", "0.742", "± 0.011", "arcsec"):
        assert words in text, words
    assert "seeing <b> & more" in text and "exposure_chi2_of" not in text
    tables = [attrs["id"] for attrs in page.find("table")]
    assert len(tables) == len(set(tables)) == 2 + 2 * 3


def test_where_chooses_patches(repo, tmp_path):
    path = tmp_path / "new" / "one.html"
    where = "skymap='s' AND tract=0 AND patch=4"
    result = run("report", repo, "--collections", "u/test", "--where", where, "-o", path)
    assert result.exit_code == 0 and "(1 patch, " in result.output
    text = path.read_text(encoding="utf-8")
    assert "patch=4" in text and "patch=5" not in text


def test_metrics_of_an_input_are_told(repo, tmp_path):
    """After an injection the first that is found is what was there before."""
    with Butler.from_config(str(repo), writeable=True) as butler:
        data_id = dict(skymap="s", tract=0, band="i", patch=4)
        butler.collections.register("u/inject/run")
        for name in ("injected_acn_coadd_comparison_metrics", "injected_acn_injection_metrics"):
            butler.registry.registerDatasetType(
                DatasetType(name, sorted(data_id), "ArrowAstropy", universe=butler.dimensions)
            )
            butler.put(make_metrics(), name, data_id, run="u/inject/run")
        butler.collections.register("u/inject", CollectionType.CHAINED)
        butler.collections.redefine_chain("u/inject", ["u/inject/run", "u/test"])
    result = run("report", repo, "--collections", "u/inject", "-o", tmp_path / "x.html")
    told = [line for line in result.output.splitlines() if line.startswith("WARNING: ")]
    assert len(told) == 1 and "was made in u/test, an input of u/inject; give --coadd-name inj" in told[0]
    for words in (("--collections", "u/inject", "--coadd-name", "injected_acn"), ("--collections", "u/test")):
        result = run("report", repo, *words, "-o", tmp_path / "x.html")
        assert result.exit_code == 0 and "WARNING: " not in result.output
        text = (tmp_path / "x.html").read_text(encoding="utf-8")
        assert ("What became of injected sources" in text) == ("injected_acn" in words)


def test_report_without_result(repo, tmp_path):
    result = run("report", repo, "--collections", "u/empty", "-o", tmp_path / "x.html")
    assert result.exit_code == 1 and "there is no acn_coadd: run pipelines/mean.yaml" in result.output
    assert len(result.output.strip().splitlines()) == 1 and not (tmp_path / "x.html").exists()


def test_numbers_have_the_digits_that_their_error_justifies():
    assert format_number(0.74234, 0.0112) == "0.742 ± 0.011"
    assert format_number(12.3456) == "12.35" and format_number(float("nan"), 1.0) == "-"


def test_key_figures_come_first(report):
    text = re.sub(r"base64,[^\"]*", "", report.read_text(encoding="utf-8"))
    section = text[text.index('id="s1"') :]
    assert section.index("Key figures") < section.index("<img") < section.index("All figures")
    chosen = choose_key_rows(pivot_metrics(make_metrics()))
    assert list(chosen["metric"]) == ["star_fwhm", "sky_rms", "purity"]


def test_cells_carry_exact_values_and_escaped_text():
    text = render_table(pivot_metrics(make_metrics()), identifier="t")
    assert 'data-value="0.7423"' in text and 'data-value="nan"' in text
    page = Page(render_table(Table({"a": ["<script>"]}), identifier="u"))
    assert not page.find("script") and "<script>" in page.text


@pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: chromium is not installed")
def test_page_works_in_a_browser(tmp_path):
    """Tables are sorted by a press, both ways, and filtered by text."""
    table = Table({"name": ["b", "c", "a"], "value": [2.0, np.nan, 10.0]})
    text = make_page("title", "words", [Section(title="one", tables=[("table", table)])])
    probe = """
    const rows = () => Array.from(document.querySelectorAll("tbody tr"));
    const read = () => rows().filter((row) => !row.hidden).map((row) => row.cells[0].textContent).join("");
    const press = (k) => document.querySelectorAll("th button")[k].click();
    const seen = [read()];
    for (const k of [0, 0, 1, 1]) { press(k); seen.push(read()); }
    const input = document.querySelector("input.filter");
    input.value = "C"; input.dispatchEvent(new Event("input")); seen.push(read());
    seen.push(document.querySelectorAll("th")[1].getAttribute("aria-sort"));
    document.title = seen.join(" ");
    """
    path = tmp_path / "page.html"
    path.write_text(text.replace("</script>", f"{probe}</script>"), encoding="utf-8")
    done = subprocess.run(
        [CHROMIUM, *CHROMIUM_FLAGS, f"--user-data-dir={tmp_path / 'user'}", "--dump-dom", path.as_uri()],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert 'data-ready="yes"' in done.stdout
    # Missing values stay last, whichever way a column is sorted.
    assert "<title>bca abc cba bac abc c descending</title>" in done.stdout
