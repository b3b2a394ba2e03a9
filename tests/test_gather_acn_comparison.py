# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""The task that gathers patches, on plain tables."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from lsst.coadd.astroclearnet.comparison._rows import make_row, make_table
from lsst.coadd.astroclearnet.gather_acn_comparison import (
    GatherAcnComparisonConnections,
    GatherAcnComparisonTask,
)
from lsst.pipe.base import NoWorkFound
from lsst.pipe.base.testUtils import lintConnections


def make_metrics(fwhm, rms):
    return make_table(
        [
            make_row("star_fwhm", "deepCoadd", 0.7, 0.01, n=9),
            make_row("star_fwhm", "acn_coadd", fwhm, 0.01, n=9),
            make_row("sky_rms", "acn_coadd", rms, 0.1, n=1000),
            make_row("exposure_chi2_of", "acn_coadd", 1.1, n=10, suffix="1_2"),
        ]
    )


@pytest.fixture
def result():
    metrics = {7: make_metrics(0.44, 3.0), 3: make_metrics(0.40, np.nan), 5: make_metrics(0.42, 5.0)}
    return GatherAcnComparisonTask().run(metrics=metrics, title="tract=1")


def test_table_holds_every_row_with_its_patch(result):
    assert list(result.table["patch"]) == [3] * 4 + [5] * 4 + [7] * 4
    rows = result.table[(result.table["name"] == "star_fwhm") & (result.table["plane"] == "acn_coadd")]
    assert list(rows["value"]) == [0.40, 0.42, 0.44]


def test_summary_names_the_worst_patch(result):
    summary = {(row["name"], row["plane"]): row for row in result.summary}
    assert set(summary) == {("star_fwhm", "deepCoadd"), ("star_fwhm", "acn_coadd"), ("sky_rms", "acn_coadd")}
    row = summary["star_fwhm", "acn_coadd"]
    assert row["median"] == 0.42 and (row["min"], row["max"]) == (0.40, 0.44)
    assert (row["patch_min"], row["patch_max"]) == (3, 7) and row["unit"] == "arcsec"
    assert summary["sky_rms", "acn_coadd"]["n_patches"] == 2


def test_figure_has_a_panel_for_each_metric(result, tmp_path):
    assert isinstance(result.tract_plot, Figure) and result.tract_plot.get_suptitle().startswith("tract=1")
    labels = [axis.get_ylabel() for axis in result.tract_plot.axes if axis.axison]
    assert labels == ["star_fwhm [arcsec]", "sky_rms [nJy]"]
    result.tract_plot.savefig(tmp_path / "figure.png", dpi=40)


@pytest.mark.parametrize(("patches", "places"), [((10, 11, 13, 14), (0, 1, 3, 4)), ((3, 40, 77), (0, 1, 2))])
def test_patches_that_lack_leave_gaps_in_the_figure(patches, places):
    """Unless most would: then those that there are stand side by side."""
    tables = {patch: make_metrics(0.4, 3.0) for patch in patches}
    figure = GatherAcnComparisonTask().run(metrics=tables).tract_plot
    axis = next(one for one in figure.axes if one.get_ylabel().startswith("sky_rms"))
    (markers,) = (line for line in axis.lines if len(line.get_xdata()) == len(patches))
    assert markers.get_xdata() == pytest.approx(places, abs=0.2)
    labels = dict(zip(axis.get_xticks(), axis.get_xticklabels(), strict=True))
    assert [labels[k].get_text() for k in places] == [str(patch) for patch in patches]


def test_title_says_how_the_planes_were_made():
    tables = {patch: make_metrics(0.4, 3.0) for patch in range(3)}
    for patch, table in tables.items():
        table.meta["configuration"] = ["deepCoadd: mean", f"acn_coadd: acn config {patch // 2}"]
    figure = GatherAcnComparisonTask().run(metrics=tables, title="tract=1").tract_plot
    assert figure.get_suptitle().splitlines() == [
        "tract=1",
        "deepCoadd: mean",
        "acn_coadd: acn config 0 (2 of 3 patches)",
        "acn_coadd: acn config 1 (1 of 3 patches)",
        "patches: 3",
    ]


def test_order_of_patches_does_not_matter():
    tables = {patch: make_metrics(0.4 + 0.01 * patch, 3.0) for patch in range(4)}
    first = GatherAcnComparisonTask().run(metrics=tables)
    second = GatherAcnComparisonTask().run(metrics=dict(reversed(tables.items())))
    for name in ("table", "summary"):
        assert first.getDict()[name].pformat() == second.getDict()[name].pformat()


@pytest.mark.parametrize(("n", "text"), [(1, "of 1 patch."), (2, "of 2 patches.")])
def test_log_says_how_many_patches(n, text, caplog):
    with caplog.at_level("INFO"):
        GatherAcnComparisonTask().run(metrics={patch: make_metrics(0.4, 3.0) for patch in range(n)})
    assert text in caplog.text


def test_no_patch_is_no_work():
    with pytest.raises(NoWorkFound, match="No patch"):
        GatherAcnComparisonTask().run(metrics={})


def test_connections_are_sound():
    lintConnections(GatherAcnComparisonConnections)
