# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""STARRED as a peer of the benchmark: it has converged, or says that not."""

import functools

import numpy as np
import pytest

from benchmarks.engine import peers, scenes, skies
from benchmarks.engine.measure import Judge
from benchmarks.engine.peers import _starred
from lsst.coadd.astroclearnet.simulate import simulate_stack

pytestmark = pytest.mark.skipif(
    not _starred.has_starred(), reason="starred-astro is not installed (extra bench)"
)

SIZE = 48
STAR, GALAXY = (11.3, 12.6), (34.8, 33.1)
SCENE = scenes.Scene(name="medium", kind="grid", set="tuning", number=95, n_exposures=4, size=SIZE)


@functools.cache
def observe():
    """A bright star and a bright galaxy, far apart, without artifacts."""
    galaxy = {"type": "galaxy", "half_light_radius": 3.0, "sersic_n": 1.0, "g1": 0.2}
    rows = [{"flux": 3e4}, {"flux": 3e4} | galaxy]
    for row, (x, y) in zip(rows, (STAR, GALAXY), strict=True):
        row |= {"x": scenes.HALO + x, "y": scenes.HALO + y}
    return simulate_stack(
        n_exposures=4,
        size=SIZE + 2 * scenes.HALO,
        seed=5,
        catalog=skies.tabulate(rows),
        streak=False,
        unmasked_cosmic_rays=0,
    )


def fit():
    stack, truth = observe()
    return _starred.fit_starred(peers.FitInputs(scene=SCENE, stack=stack, truth=truth))[0]


def test_the_loss_settles_and_fluxes_are_right(monkeypatch):
    losses = []
    optimise = _starred._optimise
    monkeypatch.setattr(_starred, "_optimise", lambda *inputs: losses.extend(optimise(*inputs)))
    delivery = fit()
    fallen = losses[0] - losses[-1]
    assert fallen > 0 and abs(losses[-2] - losses[-1]) < 0.01 * fallen
    sky = Judge(SCENE, 0, *observe()).true_sky(delivery)
    rows, columns = np.indices((SIZE, SIZE))
    # Where the finest scale was held at 0, galaxies lost most of their light.
    for (x, y), tolerance in ((STAR, 0.03), (GALAXY, 0.1)):
        disc = np.hypot(columns - x, rows - y) < 9
        assert delivery.image[disc].sum() == pytest.approx(sky[disc].sum(), rel=tolerance)


def test_a_fit_that_has_not_settled_is_not_delivered(monkeypatch):
    monkeypatch.setattr(_starred, "_START", (2, 0.1, 1.0))
    monkeypatch.setattr(_starred, "_ROUND", (2, 0.1, 1.0))
    monkeypatch.setattr(_starred, "_MOST_ROUNDS", 2)
    with pytest.raises(RuntimeError, match="STARRED has not converged: its loss was"):
        fit()


def test_the_fast_model_is_that_of_the_package(monkeypatch):
    models = []

    def compare(model, narrow, x, y):
        models.append((model, fast(model, narrow, x, y), x, y))
        raise InterruptedError

    fast = _starred._fast_model
    monkeypatch.setattr(_starred, "_fast_model", compare)
    with pytest.raises(InterruptedError):
        fit()
    ((model, predict, x, y),) = models
    generator = np.random.default_rng(1)
    background = generator.random(model.image_size**2, dtype=np.float32)
    parameters = np.zeros((model.epochs, 3 * model.M + 4), dtype=np.float32)
    parameters[:, 0], parameters[:, 1], parameters[:, 2] = x, y, generator.random(model.epochs)
    expected = model._model(parameters, background)
    np.testing.assert_allclose(predict(parameters, background), expected, atol=1e-4 * np.max(expected))
