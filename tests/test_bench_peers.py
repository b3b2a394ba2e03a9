# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Peers of the benchmark: what they deliver is what they declare."""

import dataclasses
import functools
import os

import numpy as np
import pytest

from benchmarks.engine import peers, scenes, skies
from benchmarks.engine.alone import run_alone
from benchmarks.engine.measure import _PULLS, TABLES, Judge
from benchmarks.engine.scene_list import make_scenes
from lsst.coadd.astroclearnet.core.encoder._encoder import weights_file
from lsst.coadd.astroclearnet.simulate import simulate_stack

SIZE = 48
SCENE = scenes.Scene(name="medium", kind="grid", set="tuning", number=95, n_exposures=4, size=SIZE)


@functools.cache
def observe():
    """One bright star, and artifacts that the masks tell."""
    middle = scenes.HALO + SIZE / 2
    catalog = skies.tabulate([{"x": middle + 0.3, "y": middle - 1.4, "flux": 3e4}])
    return simulate_stack(
        n_exposures=4,
        size=SIZE + 2 * scenes.HALO,
        seed=5,
        catalog=catalog,
        streak=False,
        unmasked_cosmic_rays=0,
    )


@functools.cache
def deliver(name):
    stack, truth = observe()
    inputs = peers.FitInputs(scene=SCENE, stack=stack, truth=truth)
    return {delivery.plane: delivery for delivery in peers.select_peers((name,))[0].fit(inputs)}


# STARRED takes a minute to compile, self and paper as long to train.
QUICK = ("engine", "mean", "clipped mean", "proper", "kaiser", "mm", "deconvolved coadd", "image mm")


@pytest.mark.parametrize("name", QUICK)
def test_a_peer_keeps_the_flux_of_a_star_at_its_psf(name):
    stack, truth = observe()
    judge = Judge(SCENE, 0, stack, truth)
    y, x = np.indices((SIZE, SIZE))
    disc = np.hypot(x - SIZE / 2 - 0.3, y - SIZE / 2 + 1.4) < 9
    for plane, delivery in deliver(name).items():
        assert plane in ("latent", "coadd")
        assert delivery.image.shape == (SIZE, SIZE)
        np.testing.assert_allclose(delivery.psf.sum((-1, -2)), 1.0, rtol=1e-4)
        sky = judge.true_sky(delivery)
        # What is cut off at 0 deconvolves noise into light.
        rel = 0.06 if name == "deconvolved coadd" else 0.03
        assert delivery.image[disc].sum() == pytest.approx(sky[disc].sum(), rel=rel)


def test_exposures_in_another_order_give_the_same():
    mine, other = deliver("engine"), deliver("engine permuted")
    np.testing.assert_allclose(other["latent"].image, mine["latent"].image, rtol=1e-3, atol=0.05)


def test_other_weights_are_those_of_the_file(tmp_path):
    stack, truth = observe()
    engine = peers.select_peers(("engine",))[0]
    path = tmp_path / "copy.safetensors"
    path.write_bytes(weights_file().read_bytes())
    same = engine.fit(peers.FitInputs(scene=SCENE, stack=stack, truth=truth, weights=path))
    np.testing.assert_array_equal(same[0].image, deliver("engine")["latent"].image)
    missing = peers.FitInputs(scene=SCENE, stack=stack, truth=truth, weights=tmp_path / "none")
    with pytest.raises(ValueError, match="there is no"):
        engine.fit(missing)


def test_cells_are_put_in_their_places():
    stack, truth = observe()
    cells = dataclasses.replace(SCENE, cell=24)
    parts = peers.select_peers(("mean",))[0].fit(peers.FitInputs(scene=cells, stack=stack, truth=truth))
    np.testing.assert_allclose(parts[0].image, deliver("mean")["coadd"].image, rtol=0.2, atol=1.0)
    assert parts[0].psf.shape[:2] == (2, 2)


def test_peers_say_where_they_run():
    by_name = {peer.name: peer for peer in peers.PEERS}
    made = make_scenes("tuning")
    runs = {name: {scene.name for scene in made if peer.runs_on(scene)} for name, peer in by_name.items()}
    assert runs["engine"] == {scene.name for scene in made}
    assert runs["starred"] == {"medium"}
    assert runs["self"] == {"medium", "shapes"}
    medium = next(scene for scene in made if scene.name == "medium")
    assert by_name["paper"].runs_on(medium, 0) and not by_name["paper"].runs_on(medium, 1)
    assert by_name["paper"].limits == "medium, 1 x" and by_name["engine"].limits == "all scenes"
    assert runs["engine 2.0"] == {"pairs"}
    with pytest.raises(ValueError, match="nobody"):
        peers.select_peers(("nobody",))


def test_a_fit_alone_says_its_cost_or_its_error():
    start = os.getpid()
    # 160 MiB: a fork gives back some of its parent's memory meanwhile.
    outcome = run_alone(lambda: (os.getpid(), np.ones(20_000_000)))
    assert outcome.value[0] != start and outcome.value[1].sum() == 20_000_000
    assert outcome.seconds >= 0 and 80 < outcome.memory < 800
    assert "nothing to see" in run_alone(functools.partial(_fail, "nothing to see")).error
    assert "exit code 3" in run_alone(functools.partial(os._exit, 3)).error


def _fail(text):
    raise RuntimeError(text)


def test_a_judge_fills_the_tables():
    stack, truth = observe()
    judge = Judge(SCENE, 2, stack, truth)
    tables = judge.measure("mean", deliver("mean")["coadd"])
    assert tables.keys() == TABLES.keys()
    assert {row["metric"] for row in tables["rows"]} >= {"psnr", "ssim", "sky_rms", "sky_mean"}
    (star,) = tables["sources"]
    assert star["kind"] == "star" and star["snr"] > 100 and star["realisation"] == 2
    assert abs(star["aperture_error"]) < 0.03 and abs(star["fwhm_ratio"] - 1) < 0.05
    assert np.isnan([star[name] for name in _PULLS]).all()
    latent = judge.measure("engine", deliver("engine")["latent"])
    chi2 = {row["metric"]: row["value"] for row in latent["rows"]}["chi2"]
    assert 0.8 < chi2 < 1.2


def test_pulls_are_taken_by_both_errors():
    """Pixels of a mean err independently, those of the engine do not."""
    stack, truth = observe()
    judge = Judge(SCENE, 0, stack, truth)
    (mean,), (engine,) = (
        judge.measure(peer, deliver(peer)["coadd"])["sources"] for peer in ("clipped mean", "engine")
    )
    assert abs(mean["psf_pull"]) < 5 and abs(mean["psf_noise"]) < 5
    assert mean["psf_pull"] == pytest.approx(mean["pixel_pull"], rel=0.05)
    assert abs(engine["psf_pull"]) < 5 and abs(engine["psf_noise"]) < 5
    assert engine["pixel_pull"] / engine["psf_pull"] > 1.05
    assert abs(mean["aperture_pull"]) < 5 and abs(engine["aperture_pull"]) < 5
    assert mean["aperture_pull"] == pytest.approx(mean["aperture_pixel_pull"], rel=0.1)
    assert engine["aperture_pixel_pull"] / engine["aperture_pull"] > 1.2


@pytest.mark.parametrize("kind", ["field", "grid", "coverage"])
def test_sources_are_looked_for_and_the_side_is_kept(kind):
    stack, truth = observe()
    judge = Judge(dataclasses.replace(SCENE, kind=kind), 0, stack, truth)
    tables = judge.measure("mean", deliver("mean")["coadd"])
    assert any(row["source"] == 0 for row in tables["peaks"])
    assert {row["size"] for name in ("rows", "sources", "peaks") for row in tables[name]} == {SIZE}
