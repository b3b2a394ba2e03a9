# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""``acn inject`` all the way: exposures, coadds, and what is found."""

import re
import shutil

import numpy as np
import pytest
from _pipelines import PIPELINES, execute
from click.testing import CliRunner
from conftest import DATA_ID, WHERE

from lsst.coadd.astroclearnet.cli import main
from lsst.coadd.astroclearnet.injection import list_differences
from lsst.coadd.astroclearnet.measure_acn_injection import MeasureAcnInjectionTask
from lsst.daf.butler import Butler
from lsst.pipe.base import Pipeline

PLANES = ("injected_deepCoadd", "injected_acn_coadd", "injected_acn_latent")
FAINTEST = 24.0  # S/N of about 20 in four visits


@pytest.fixture(scope="module")
def injected(small_repo, tmp_path_factory):
    """A repository with coadds before and after an injection, and what the
    command said.
    """
    root = shutil.copytree(small_repo, tmp_path_factory.mktemp("inject") / "repo")
    chain = ["HSC/defaults"]
    for name, output in (("mean.yaml", "u/test/mean"), ("acn.yaml#coadd", "u/test/acn")):
        butler, _ = execute(root, Pipeline.from_uri(f"{PIPELINES}/{name}"), output, inputs=chain)
        butler.close()
        chain = [output, *chain]
    arguments = ["inject", str(root), "-i", ",".join(chain), "-o", "u/test/inject", "-d", WHERE]
    arguments += ["--density", "70", "--mag", "20", str(FAINTEST), "--separation", "2.5", "--avoid", "1.5"]
    result = CliRunner().invoke(main, [*arguments, "--min-exposures", "3"])
    assert result.exit_code == 0, result.output
    return root, result.output


@pytest.fixture(scope="module")
def outputs(injected):
    """What the pipeline wrote, and the coadds of before, by dataset type."""
    names = [
        f"{prefix}{name}" for prefix in ("", "injected_") for name in ("deepCoadd", "acn_coadd", "acn_latent")
    ]
    names += ["injected_truth_image", "injected_truth_catalog", "injected_acn_coadd_comparison_metrics"]
    names += ["injected_acn_injection_metrics", "injected_acn_injection_sources"]
    with Butler.from_config(str(injected[0]), collections="u/test/inject") as butler:
        return {name: butler.get(name, DATA_ID) for name in names}


def pick(table, name):
    """Return the values of a metric by plane."""
    chosen = table[table["name"] == name]
    return dict(zip(chosen["plane"], chosen["value"], strict=True))


def test_coadds_before_and_after_are_made_alike(outputs):
    for name in ("deepCoadd", "acn_coadd", "acn_latent"):
        before, after = outputs[name].metadata, outputs[f"injected_{name}"].metadata
        assert before["config_sha256"] != after["config_sha256"]  # they read other exposures
        assert list_differences(after, before) == []
        assert list_differences(after, {**before, "weights_sha256": "other"}) == ["weights_sha256"]
    assert set(pick(outputs["injected_acn_injection_metrics"], "before_differs").values()) == {0}
    kinds = list_differences(outputs["injected_deepCoadd"].metadata, outputs["acn_coadd"].metadata)
    assert "method" in kinds and "connections" not in kinds


def test_the_light_of_the_sources_is_in_the_coadds(outputs):
    added = (outputs["injected_acn_coadd"].image.array - outputs["acn_coadd"].image.array).astype(float)
    truth = outputs["injected_truth_image"].array.astype(float)
    bright = truth > 0.02 * truth.max()
    assert added[bright].sum() == pytest.approx(truth[bright].sum(), rel=0.01)
    assert np.corrcoef(added[bright], truth[bright])[0, 1] > 0.99
    marked = outputs["injected_acn_coadd"].mask.get("INJECTED")
    assert marked[bright].mean() > 0.99 and not outputs["acn_coadd"].mask.get("INJECTED").any()


def test_sources_are_found_with_their_fluxes(outputs):
    sources, metrics = (outputs[f"injected_acn_injection_{name}"] for name in ("sources", "metrics"))
    assert 15 <= len(sources) <= 40 and set(sources["type"]) == {"star", "galaxy"}
    # With the filter of its own narrow PSF acn_coadd shows fewer of the faint.
    for plane, bias, least in zip(PLANES, (0.015, 0.01, 0.03), (0.9, 0.8, 0.95), strict=True):
        usable = np.asarray(sources[f"usable_{plane}"])
        found = np.asarray(sources[f"found_{plane}"]) > 0
        assert usable.mean() > 0.5  # the others are on what was there before
        assert found[usable].mean() > least, plane
        ratio = np.asarray(sources[f"flux_{plane}"] / sources["flux_aperture"])[usable]
        assert np.nanmedian(ratio) == pytest.approx(1, abs=bias), plane
        bright = usable & (np.asarray(sources["mag"]) < 22)
        assert np.all(found[bright & (sources["type"] == "star")])
    assert pick(metrics, "completeness_star_mag_20_22") == dict.fromkeys(PLANES, 1)
    for plane in PLANES[:2]:
        assert abs(pick(metrics, "flux_bias_star_mag_20_22")[plane]) < 0.02
        chosen = (metrics["name"] == "false_positives") & (metrics["plane"] == plane)
        assert metrics["n"][chosen][0] <= 2
    assert np.all(np.isfinite(list(pick(metrics, "false_positives").values())))


def test_comparison_goes_by_the_injected_sources(injected, outputs):
    metrics = outputs["injected_acn_coadd_comparison_metrics"]
    names = [name for name in np.unique(metrics["name"]) if name.startswith("completeness_snr")]
    assert names and "purity" not in metrics["name"]  # there is more on the sky
    assert pick(metrics, "completeness_snr_100")["injected_acn_coadd"] > 0.85
    with Butler.from_config(str(injected[0]), collections="u/test/inject") as butler:
        for kind in ("plot", "flux_plot", "psf_plot", "fit_plot", "exposure_plot"):
            assert butler.query_datasets(f"injected_acn_coadd_comparison_{kind}")


def test_command_prints_what_was_found(injected):
    output = injected[1]
    assert re.search(r"^completeness_star_mag_20_22 +1\.00 ", output, re.M)
    assert "false_positives" in output and "before_differs" in output
    assert "mag_25_26" not in output  # nothing so faint was injected


def test_coadds_that_were_made_otherwise_are_named(outputs, caplog):
    coadds = {
        "coadd": outputs["injected_acn_coadd"],
        "coadd_before": outputs["acn_coadd"],
    }
    known = outputs["acn_coadd"].metadata["version_coadd_astroclearnet"]
    outputs["acn_coadd"].metadata["version_coadd_astroclearnet"] = "0.0"
    try:
        result = MeasureAcnInjectionTask().run(
            truth_catalog=outputs["injected_truth_catalog"],
            truth_image=outputs["injected_truth_image"],
            **coadds,
        )
    finally:
        outputs["acn_coadd"].metadata["version_coadd_astroclearnet"] = known
    assert pick(result.metrics, "before_differs") == {"acn_coadd": 1}
    assert "was made otherwise (version_coadd_astroclearnet)" in caplog.text
