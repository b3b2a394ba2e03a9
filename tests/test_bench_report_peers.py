# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the report says of peers, areas and errors of made-up results."""

import sys

import astropy.table
import numpy as np
import pytest
from test_bench_report import make_tables

from benchmarks.engine import __main__, metrics, report, targets
from benchmarks.engine.checks import check_mean, check_share
from benchmarks.engine.pool import Pool
from benchmarks.engine.run import Results


@pytest.fixture(scope="module")
def good():
    return make_tables()


@pytest.fixture(scope="module")
def text(good, tmp_path_factory):
    return write(good, tmp_path_factory.mktemp("good"))


def write(results, folder):
    """Return the text of the report, made without its pictures."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "draw_pictures", lambda *arguments: [])
        report.write_report(results, folder)
    return (folder / "report.md").read_text()


def change(results, **tables):
    return Results(tables={**results.tables, **tables})


def add_figures(results, peer, plane, metric, values, *, scene="medium", group="field"):
    """Add what a peer has of observations 0, 1, ..."""
    common = {"scene": scene, "group": group, "n": 16, "peer": peer, "plane": plane, "metric": metric}
    rows = [common | {"realisation": k, "value": value} for k, value in enumerate(values)]
    return change(results, rows=astropy.table.vstack([results["rows"], astropy.table.Table(rows)]))


def find(results, number):
    return next(target for target in targets.evaluate_targets(results) if target.number == number)


def test_peers_are_compared_on_the_observations_of_all(good, tmp_path):
    run = add_figures(good, "paper", "latent", "psnr", [25.0])
    run = add_figures(run, "mm", "latent", "psnr", [60.0, 60.0], scene="sparse")
    shared = Pool(run).shared().rows()
    assert set(shared["scene", "realisation"].iterrows()) == {("medium", 0)}
    assert set(shared["peer"]) == {"engine", "clipped mean", "mm", "paper"}
    text = write(run, tmp_path)
    assert (
        text.index("## Targets") < text.index("## All peers on the same exposures") < text.index("## Peers")
    )
    section = text.split("## All peers on the same exposures")[1].split("##")[0]
    assert "medium (n = 16, 1 x)" in section and "engine permuted" not in section
    rows = {line.split(" | ")[0]: line.split(" | ") for line in section.splitlines()}
    assert rows["| mm (latent)"][1] == "24.0" and rows["| paper (latent)"][1] == "25.0"
    assert [cell.split(" ")[0] for cell in rows["| engine (latent)"][-2:]] == ["1.5", "200"]


def test_only_peers_of_the_largest_common_set_are_compared(good):
    run = add_figures(good, "self", "latent", "psnr", [30.0], scene="few")
    assert "self" not in Pool(run).shared().rows()["peer"]
    assert len(Pool(Results.collect([{name: [] for name in good.tables}])).shared().rows()) == 0


def test_tables_say_over_how_many_scenes_rows_are_taken(good, tmp_path):
    text = write(add_figures(good, "mm", "latent", "psnr", [60.0], scene="sparse"), tmp_path)
    images, fluxes = (text.split(f"## {title}\n")[1].split("##")[0] for title in ("Images", "Shapes"))
    assert "| plane | scenes | PSNR dB |" in images and "rows with different numbers" in images
    assert "| mm (latent) | 2 | 42.5" in images and "| engine (latent) | 1 | 41.0" in images
    assert "| engine (latent) | 2 |" in fluxes
    assert "elsewhere they have a dash" not in text


def test_figures_of_sources_are_told_to_be_of_those_alone(text):
    titles = ["Targets", "All peers on the same exposures", "Flux bias, aperture of 1 arcsec", "Shapes"]
    for title in (*titles, "Pulls", "Misspecified stacks", "Partial coverage"):
        assert "without close neighbours" in text.split(f"## {title}\n")[1].split("## ")[0], title


def test_partial_coverage_is_asked_for_every_target_it_can_tell_of(good):
    target = find(good, 15)
    assert target.reached
    assert {check.label[:4].strip("() ") for check in target.checks if check.label[0] == "("} == {
        *(str(number) for number in (1, 2, 3, 4, 5, 6, 7, 8, 10, 11))
    }
    limits = {check.label: (check.low, check.high) for check in target.checks}
    assert limits["(7) least, dB"][0] == pytest.approx(13 / 1.5)
    assert limits["(1) largest ratio to the coadd's"][1] == pytest.approx(0.9)
    assert limits["(11) coadd, star S/N 6-20"] == pytest.approx((0.85, 1.15))
    assert limits["(5) relative scatter over the coadd's, S/N 6-20"][1] == pytest.approx(1.15)
    assert limits["(5) star S/N 6-20 %"] == pytest.approx((-0.015, 0.015))


def test_partial_coverage_misses_a_low_psnr_alone(good):
    rows = good["rows"].copy()
    rows["value"][(rows["scene"] == "gaps") & (rows["peer"] == "engine") & (rows["metric"] == "psnr")] -= 8.0
    found = targets.evaluate_targets(change(good, rows=rows))
    assert [target.number for target in found if not target.reached] == [15]


def test_completeness_of_partial_coverage_may_not_have_been_measured(good):
    peaks = good["peaks"]
    target = find(change(good, peaks=peaks[peaks["group"] != "coverage"]), 15)
    assert target.reached and not any(check.label.startswith("(10)") for check in target.checks)


def test_false_detections_are_accepted_by_area(good):
    area = metrics.searched_area(256)
    assert area == pytest.approx((232 * 0.168 / 60) ** 2)
    # One observation of 0.42 square arcminutes has one false peak, among
    # the sources of the coadd.
    found = [
        Pool(good).completeness("clipped mean", "coadd", "medium", false_rate=rate)
        for rate in (0.0, 0.99 / area, 1.01 / area)
    ]
    assert [one.threshold for one in found] == [8.0, 8.0, 0.0]
    assert found[0].completeness == found[1].completeness < found[2].completeness == 1.0
    assert found[2].false_per_arcmin2 == pytest.approx(1 / area)
    assert Pool(good).completeness("clipped mean", "coadd", "isolated", false_rate=1.0).threshold == 0.0


def test_completeness_has_a_table_a_rate(text):
    for rate, of_grid in (("0", "0.87"), ("0.5", "0.87"), ("1", "1.00")):
        section = text.split(f"## Completeness at {rate} false detections per arcmin^2\n")[1].split("##")[0]
        assert "| *arcmin^2 searched* | 1.27 | 0.42 | 5.60 |" in section
        line = next(line for line in section.splitlines() if line.startswith("| clipped mean (coadd)"))
        assert line.split(" | ")[3].split(" ")[0] == of_grid


def test_sides_of_scenes_are_those_of_the_run(good):
    rows = good["rows"].copy()
    assert (Pool(good).size("medium"), Pool(good).size("isolated"), Pool(good).size("blank")) == (
        256,
        512,
        512,
    )
    rows["size"] = 100
    assert Pool(change(good, rows=rows)).size("isolated") == 100


def test_blank_fields_are_told_by_what_was_searched(good):
    side = 512 - 16
    area = (side * 0.168 / 60) ** 2
    assert metrics.blank_area((512, 512)) == pytest.approx(area)
    label = find(good, 12).checks[0].label
    assert label == f"sources in 5 fields of {area:.2f}, together {5 * area:.2f} arcmin^2"


def test_errors_of_means_have_a_degree_of_freedom_less(good):
    values = np.array([1.0, 2.0, 6.0])
    assert metrics.mean_error(values) == pytest.approx(np.std(values, ddof=1) / 3**0.5)
    assert np.isnan(metrics.mean_error(values[:1])) and np.isnan(check_mean("", []).value)
    run = add_figures(good, "engine", "latent", "leak", [0.001, 0.002, 0.006], scene="deep")
    check = next(check for check in find(run, 8).checks if check.label == "latent, deep %")
    assert (check.value, check.error) == pytest.approx((0.003, np.std([1, 2, 6], ddof=1) / 3**0.5 / 1000))
    run = add_figures(good, "engine", "latent", "psnr", [40.0], scene="deep")
    run = add_figures(run, "mm", "latent", "psnr", [20.0], scene="deep")
    assert find(run, 7).checks[0].error == pytest.approx(2.0)
    run = add_figures(good, "engine", "latent", "blank_mean", [0.01], scene="blank", group="blank")
    assert find(run, 12).checks[1].error == pytest.approx(np.std([0.01] + 5 * [0], ddof=1) / 6**0.5)


def test_shares_of_nothing_and_of_all_have_an_error():
    # Half of the interval of Wilson (1927) by hand, with z = 1.
    for found, n in ((0, 10), (10, 10), (3, 10)):
        share = found / n
        half = (share * (1 - share) / n + 1 / (4 * n**2)) ** 0.5 / (1 + 1 / n)
        mine = np.arange(n) < found
        assert metrics.share_error(mine) == pytest.approx(half, rel=1e-4)
        check = check_share("", mine)
        assert (check.value, check.error) == (share, metrics.share_error(mine))
    none = np.zeros(0, dtype=bool)
    assert np.isnan(metrics.share_error(none)) and np.isnan(check_share("", none).value)


def test_a_published_report_links_nothing_that_is_not_there(good, tmp_path, monkeypatch):
    run, target = tmp_path / "run", tmp_path / "published"
    good.write(run)
    plane = np.zeros((40, 40), dtype=np.float32)
    (run / "images").mkdir()
    for name in ("medium", "pairs"):
        images = {"truth": plane, "exposure": plane, "unit": 1.0}
        np.savez(run / "images" / f"{name}.npz", **images)
    target.mkdir()
    (target / "strip_pairs.png").touch()
    monkeypatch.setattr(sys, "argv", ["engine", "--report-only", str(run), "--publish", str(target)])
    __main__.main()
    assert "(strip_medium.png)" in (run / "report.md").read_text()
    text = (target / "report.md").read_text()
    assert "strip_medium" not in text and "(strip_pairs.png)" in text and "(fwhm.png)" in text
    names = {"report.md", "summary.csv", "targets.csv", "flux_bias.png", "fwhm.png", "completeness.png"}
    assert {file.name for file in target.iterdir()} == names | {"strip_pairs.png"}
