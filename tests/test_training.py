# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Training of the encoder, and the weights that are shipped."""

import contextlib
import dataclasses
import re

import numpy as np
import pytest
import torch

from lsst.coadd.astroclearnet.core._errors import CoreError, FitError
from lsst.coadd.astroclearnet.core.encoder._encoder import StatisticEncoder, load_encoder
from lsst.coadd.astroclearnet.core.encoder._inputs import LATENT_FWHM, EncoderInputs
from lsst.coadd.astroclearnet.core.fourier._grid import FourierGrid
from lsst.coadd.astroclearnet.training import (
    TrainingOptions,
    _banks,
    _checkpoint,
    _descent,
    _train,
    train_encoder,
)
from lsst.coadd.astroclearnet.training._banks import make_galaxy_bank, make_stack_bank
from lsst.coadd.astroclearnet.training._loss import TrainingLoss, read_loss
from lsst.coadd.astroclearnet.training._scatter import train_scatter
from lsst.coadd.astroclearnet.training._skies import SkyGenerator, SkyOptions

_SKIES = SkyOptions(psf_error=0.01, neighbours=0.4, close=0.6)
_SMALL = TrainingOptions(
    steps=6,
    scatter_steps=3,
    n_galaxies=12,
    n_stacks=4,
    size=64,
    batch=2,
)


@pytest.fixture(scope="module")
def skies():
    """A generator of small skies."""
    grid = FourierGrid(height=96, width=96, shape=(96, 96))
    rng = np.random.default_rng(2)
    banks = make_galaxy_bank(rng, 30), make_stack_bank(rng, 6, grid=grid)
    return SkyGenerator(*banks, grid=grid, options=_SKIES, seed=3), grid, banks


def test_banks_are_normalised(skies):
    """Galaxies have unit flux inside their stamp, or lose wings to it; PSFs
    have sum 1, so that den at frequency 0 is the sum of the weights.
    """
    _, grid, (galaxies, stacks) = skies
    total = galaxies.stamps.sum((1, 2))
    assert (total < 1.01).all() and (total > 0.8).all()
    assert (np.diff(galaxies.radius) >= 0).all()
    assert (stacks.den[:, 0, 0] > 1).all()
    # The transfer function falls with frequency and is never negative.
    assert float(stacks.den.min()) >= 0.0
    assert (stacks.den[:, 20, 20] < stacks.den[:, 0, 0]).all()


def test_no_shape_is_without_light():
    """Small ones can fall between the pixels: these are drawn again."""
    for seed in range(40, 70):
        rng = np.random.default_rng(seed)
        for shape in (_banks._irregular_galaxy(rng, 0.6) for _ in range(3)):
            assert shape.sum() == pytest.approx(1) and shape.min() >= 0


def test_statistic_of_a_sky_is_den_times_the_sky(skies):
    """Over many draws D - den X is noise of power den: its matched-filter
    image has unit variance where there is no source.
    """
    generator, grid, _ = skies
    ratios = []
    for _ in range(10):
        batch = generator.draw(4)
        sharp = grid.transform(batch.truth) / grid.gaussian(LATENT_FWHM)
        noise = grid.inverse(batch.data - batch.den * sharp)
        noise = noise - noise.mean((1, 2), keepdim=True)
        expected = grid.mean_power(batch.den).sqrt()
        quiet = batch.truth * batch.den[:, :1, :1].sqrt() < 0.02
        for image, sigma, blank in zip(noise, expected, quiet, strict=True):
            if blank.float().mean() > 0.3:
                ratios.append(float(image[blank].std() / sigma))
    assert len(ratios) > 5
    assert np.median(ratios) == pytest.approx(1.0, abs=0.08)


def test_true_sky_has_the_least_loss(skies):
    """The loss prefers the truth to a shrunk, a shifted and an empty sky."""
    generator, grid, _ = skies
    batch = generator.draw(4)
    unit = EncoderInputs.from_statistic(batch.data, batch.den, grid).unit
    loss = TrainingLoss(grid)
    best = loss(batch.truth, batch, unit, with_flux=False)
    for other in (0.9 * batch.truth, batch.truth.roll(1, -1), torch.zeros_like(batch.truth)):
        assert loss(other, batch, unit, with_flux=False) > best


def test_flux_term_pushes_against_the_bias(skies):
    """Sources that are too broad lack PSF flux, and the gradient asks for it
    back where it belongs. A wrong scale is none of its concern: that is mended
    before latents are delivered.
    """
    generator, grid, _ = skies
    loss, scaled = TrainingLoss(grid), TrainingLoss(grid)
    slope = 0.0
    for _ in range(8):
        batch = generator.draw(4)
        latent = grid.inverse(grid.transform(batch.truth) * grid.gaussian(5.0)).requires_grad_()
        unit = EncoderInputs.from_statistic(batch.data, batch.den, grid).unit
        of_flux = loss(latent, batch, unit, with_flux=True) - loss(latent, batch, unit, with_flux=False)
        of_flux.backward()
        slope += float((latent.grad * (batch.truth - latent.detach())).sum())
        scaled(0.9 * batch.truth, batch, unit, with_flux=True)
    bright = loss.bias[1, 3:]
    assert (bright <= 0.0).all() and bright.min() < -0.05
    assert slope < 0.0
    assert np.abs(scaled.bias).max() < 0.02


def test_training_is_reproducible():
    """The same options give the same bits."""
    lines = []
    first = train_encoder(_SMALL, report=lines.append).state_dict()
    second = train_encoder(_SMALL, report=lines.append).state_dict()
    other = train_encoder(dataclasses.replace(_SMALL, seed=2), report=lines.append).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_training_that_is_interrupted_again_and_again_goes_on(tmp_path, monkeypatch):
    """To the same bits, wherever it was stopped, with the same options; steps
    that a checkpoint tells of are not done again.
    """
    monkeypatch.setattr(_train, "_FLUX_FROM", 0.0)  # what the loss has followed counts
    options = dataclasses.replace(_SMALL, scatter_steps=6)
    whole = train_encoder(options, report=lambda line: None).state_dict()
    checkpoint, lines, done = tmp_path / "checkpoint", [], []

    def stop_at_the_third(loss, phase, step):
        done[-1].append((phase, step))
        if len(done[-1]) == 3:
            raise KeyboardInterrupt
        return read_loss(loss, phase, step)

    monkeypatch.setattr(_checkpoint, "EVERY", 2)
    monkeypatch.setattr(_descent, "read_loss", stop_at_the_third)
    resumed = None
    while resumed is None and len(done) < 20:
        done.append([])
        with contextlib.suppress(KeyboardInterrupt):
            resumed = train_encoder(options, report=lines.append, checkpoint=checkpoint).state_dict()
        assert list(tmp_path.iterdir()) == [checkpoint]
    assert done[1] == [("encoder", step) for step in (2, 3, 4)]
    assert {phase for phase, step in (run[0] for run in done) if step == 2} == {"encoder", "scatter"}
    assert any("going on after step 2 of part 2" in line for line in lines)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    with pytest.raises(CoreError, match="other options .* remove it to begin anew"):
        train_encoder(dataclasses.replace(options, seed=2), report=lines.append, checkpoint=checkpoint)


def test_training_tells_how_far_it_is(monkeypatch):
    """Step, loss, errors of fluxes, and the time that is left."""
    lines = []
    monkeypatch.setattr(_descent, "EVERY", 3)
    train_encoder(_SMALL, report=lines.append)
    flux = r"flux bias % \(.*\) .*, of PSF fluxes .*"
    patterns = ("encoder: step 3/6 # " + flux, "encoder: step 6/6 # " + flux, "scatter: step 3/3 #")
    for pattern, line in zip(patterns, lines[1:], strict=True):
        pattern = pattern.replace("#", r"loss -?\d+\.\d{4}") + r", \d+ s, about \d+ s left"
        assert re.fullmatch(pattern, line)


def test_training_stops_when_the_loss_is_no_number(monkeypatch):
    """Not after hours of steps that change nothing."""
    lines = []
    monkeypatch.setattr(_banks, "_irregular_galaxy", lambda rng, radius: np.full((81, 81), np.nan))
    with pytest.raises(FitError, match=r"step \d+ of 'encoder' is nan: try another seed"):
        train_encoder(dataclasses.replace(_SMALL, steps=40), report=lines.append)


def test_training_learns():
    """Fifty steps better the loss of fresh skies by a lot."""
    options = dataclasses.replace(_SMALL, steps=50, scatter_steps=0)
    grid = FourierGrid(height=64, width=64, shape=(64, 64))
    rng = np.random.default_rng(9)
    banks = make_galaxy_bank(rng, 12), make_stack_bank(rng, 4, grid=grid)
    generator = SkyGenerator(*banks, grid=grid, options=_SKIES, seed=5)
    batches = [generator.draw(4) for _ in range(3)]

    def loss(encoder):
        term, total = TrainingLoss(grid), 0.0
        for batch in batches:
            inputs = EncoderInputs.from_statistic(batch.data, batch.den, grid)
            with torch.no_grad():
                total += float(term(encoder(inputs).latent, batch, inputs.unit, with_flux=False))
        return total

    torch.manual_seed(options.seed)
    before = loss(StatisticEncoder())
    assert loss(train_encoder(options, report=lambda line: None)) < 0.8 * before
    # The shipped weights are far ahead of both.
    assert loss(load_encoder()) < 0.4 * before


def test_crowded_skies_have_more_sources():
    """As many as asked for, of all kinds."""
    grid = FourierGrid(height=96, width=96, shape=(96, 96))
    rng = np.random.default_rng(2)
    banks = make_galaxy_bank(rng, 60), make_stack_bank(rng, 4, grid=grid)
    counts = []
    for share in (0.0, 1.0):
        options = dataclasses.replace(_SKIES, crowded=share)
        drawn = SkyGenerator(*banks, grid=grid, options=options, seed=1).draw(8)
        counts.append(len(drawn.sources))
    assert counts[1] > 2 * counts[0]
    assert {source.kind for source in drawn.sources} == {0, 1, 2, 3}


def test_scatter_is_not_trained_with_the_rest():
    torch.manual_seed(_SMALL.seed)
    before, options = StatisticEncoder(), dataclasses.replace(_SMALL, scatter_steps=0)
    after = train_encoder(options, report=lambda line: None)
    heads = zip(before.scatter_heads().parameters(), after.scatter_heads().parameters(), strict=True)
    others = zip(before.first.parameters(), after.first.parameters(), strict=True)
    assert all(torch.equal(*pair) for pair in heads) and not any(torch.equal(*pair) for pair in others)


def test_seed_decides_the_scatter_too(skies):
    """Also what is drawn apart from the skies: the widths of the targets."""
    _, grid, banks = skies
    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(4)
        encoder = StatisticEncoder()
        train_scatter(
            encoder,
            banks,
            grid,
            part=_descent.Part(number=1, name="scatter", steps=3, learning_rate=4e-3),
            batch=2,
            seed=seed,
            report=lambda line: None,
            checkpoint=_checkpoint.Checkpoint(None, {}),
        )
        heads = (*encoder.pixel_scatter.parameters(), *encoder.flux_scatter.parameters())
        states.append(torch.cat([p.detach().flatten() for p in heads]))
    assert torch.equal(states[0], states[1]) and not torch.equal(states[0], states[2])
