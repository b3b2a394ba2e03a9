# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""How much of a trail that no mask tells is clipped, and what is not."""

import dataclasses

import numpy as np
import pytest
import torch

from lsst.coadd.astroclearnet.core import CellStack
from lsst.coadd.astroclearnet.core.clip._clip import _smooth
from lsst.coadd.astroclearnet.core.clip._trail import find_trails
from lsst.coadd.astroclearnet.core.statistic._statistic import compute_statistic
from lsst.coadd.astroclearnet.simulate import StackFaults, simulate_stack

_SIDE = 200
_CLEAN = {"streak": False, "masked_trail": False, "unmasked_cosmic_rays": 0}


def _distance(angle: float, offset: float = 0.0) -> np.ndarray:
    """Distance of the pixels from a line through the image."""
    rows, columns = np.mgrid[:_SIDE, :_SIDE] - _SIDE / 2
    return columns * np.sin(angle) - rows * np.cos(angle) - offset


def _gaussian(distance: np.ndarray, fwhm: float) -> np.ndarray:
    return np.exp(-4 * np.log(2) * (distance / fwhm) ** 2)


def _make_trailed(
    n: int, brightness: float, *, wings: bool = False, across_source: bool = False
) -> tuple[CellStack, np.ndarray]:
    """Cross the first exposure with a trail; its ridge in sigma of a pixel.

    Wings are those of a Moffat profile, summed along the trail.
    """
    stack, truth = simulate_stack(n_exposures=n, size=_SIDE, seed=7, **_CLEAN)
    distance = _distance(0.6, 11.0)
    if across_source:
        middle = truth.image[50:150, 50:150]
        distance -= distance[50:150, 50:150].flat[middle.argmax()]
    fwhm = truth.psf_fwhm[0] / truth.config.pixel_scale
    profile = (1 + 1.04 * (distance / fwhm) ** 2) ** -2.5 if wings else _gaussian(distance, fwhm)
    trail = brightness * truth.sky_sigma[0] * profile * stack.good[0]
    image = stack.image.copy()
    image[0] += trail
    return dataclasses.replace(stack, image=image), trail


@pytest.mark.parametrize(
    ("n", "brightness", "wings", "most"),
    [
        (3, 4.0, False, 0.01),
        (3, 10.0, False, 0.01),
        (8, 1.0, False, 0.02),
        (8, 2.0, False, 0.01),
        (8, 6.0, False, 0.005),
        (8, 30.0, False, 0.005),
        (8, 6.0, True, 0.015),
    ],
)
def test_trail_goes_with_its_wings(n, brightness, wings, most):
    """What is left is a small share of its light, even if no single pixel of
    it stands out; and little else of the stack goes with it.
    """
    stack, trail = _make_trailed(n, brightness, wings=wings)
    rejected = compute_statistic(stack).rejected.numpy()
    assert trail[~rejected[0]].sum() < most * trail.sum()
    assert rejected[1:].mean() < 1e-3
    assert rejected[0].mean() < 0.2


def test_trail_goes_on_across_sources():
    """Their light is that of the other exposures there."""
    stack, trail = _make_trailed(3, 6.0, across_source=True)
    statistic = compute_statistic(stack)
    source = np.median(stack.image, axis=0) > 20 * np.sqrt(stack.variance[0])
    ridge = (trail > 0.3 * trail.max()) & source
    assert ridge.sum() > 10
    assert statistic.used.numpy()[0][ridge].max() < 0.1
    assert statistic.rejected.numpy()[1:][:, source].sum() == 0


@pytest.mark.parametrize("faults", [StackFaults(), StackFaults(psf_size=1.02, astrometry=0.1)])
@pytest.mark.parametrize("n", [3, 8])
def test_sources_are_no_artifacts(n, faults):
    """Not even in very good seeing, with PSFs and places that are a little
    wrong; nor is the noise.
    """
    stack, truth = simulate_stack(
        n_exposures=n, size=_SIDE, seed=9, seeing=(0.4, 1.0), faults=faults, **_CLEAN
    )
    rejected = compute_statistic(stack).rejected.numpy()
    bright = truth.signal > 3 * truth.sky_sigma[:, None, None]
    assert bright.sum() > 500
    assert rejected[bright].sum() == 0
    assert rejected.mean() < 5e-4


def test_clipped_pixels_do_not_depend_on_the_order():
    """Nor, but for a few at the limits, on where the cell ends."""
    stack, _ = _make_trailed(8, 3.0)
    rejected = compute_statistic(stack).rejected.numpy()
    order = np.roll(np.arange(8), 3)
    names = ("image", "variance", "good", "psf")
    other = dataclasses.replace(stack, **{name: getattr(stack, name)[order] for name in names})
    assert (compute_statistic(other).rejected.numpy() != rejected[order]).mean() < 1e-5
    part = np.s_[:, 20:170, 20:170]
    cell = dataclasses.replace(stack, **{name: getattr(stack, name)[part] for name in names[:3]})
    inner = np.s_[:, 24:-24, 24:-24]
    changed = compute_statistic(cell).rejected.numpy()[inner] != rejected[part][inner]
    assert changed.sum() < 0.15 * rejected[part][inner].sum()


def _mark(light: np.ndarray) -> np.ndarray:
    """Mark trails in an exposure whose PSF is 4 pixels wide."""
    light = torch.as_tensor(light, dtype=torch.float32)
    psf = torch.as_tensor(_gaussian(np.hypot(*np.mgrid[-15:16, -15:16]), 4.0), dtype=torch.float32)
    return find_trails(light, _smooth(light), psf / psf.sum()).numpy()


def _find(light: np.ndarray) -> np.ndarray:
    return _mark(light) > 0.5


@pytest.mark.parametrize("angle", np.linspace(0.0, np.pi, 7)[:-1])
def test_faint_trail_is_found(angle):
    """At any angle, at 1 sigma on its ridge: on it and nowhere else."""
    noise = np.random.default_rng(3).normal(size=(_SIDE, _SIDE))
    distance = np.abs(_distance(angle, 30.0))
    found = _find(noise + _gaussian(distance, 4.0))
    assert found[distance < 2].mean() > 0.97
    assert not found[distance > 10].any()


def test_mark_is_as_wide_as_the_trail():
    """A trail out of focus is marked to its wings, a narrow one not more."""
    noise = np.random.default_rng(4).normal(size=(_SIDE, _SIDE))
    distance = np.abs(_distance(1.0))
    narrow, wide = (_find(noise + 4 * _gaussian(distance, fwhm)) for fwhm in (3.0, 14.0))
    assert 3 < distance[narrow].max() < 8
    assert 12 < distance[wide].max() < 24


def test_width_does_not_depend_on_what_is_seen():
    """Neither on how long a piece of the trail is on the image, nor on a
    cosmic ray beside its ridge.
    """
    noise = np.random.default_rng(8).normal(size=(_SIDE, _SIDE))
    distance = _distance(1.0)
    light = noise + 5 * _gaussian(distance, 4.0)
    whole = _mark(light)
    for part in (np.s_[:, :110], np.s_[:, 110:], np.s_[:90]):
        assert np.abs(_mark(light[part]) - whole[part]).max() < 0.15
    hit = (np.abs(np.abs(distance) - 5.0) < 0.5) & (np.indices(light.shape)[0] % 40 == 0)
    assert 5 < hit.sum() < 30
    assert np.abs(_mark(light + 200 * hit) - whole).max() < 0.15


def test_two_trails_are_found():
    """Both of two that cross."""
    noise = np.random.default_rng(5).normal(size=(_SIDE, _SIDE))
    first, second = np.abs(_distance(0.4)), np.abs(_distance(2.0, 25.0))
    found = _find(noise + 2 * _gaussian(first, 4.0) + 2 * _gaussian(second, 4.0))
    assert found[(first < 2) | (second < 2)].mean() > 0.97
    assert not found[(first > 12) & (second > 12)].any()


def test_a_trail_may_end():
    """What lies beyond its end stays."""
    noise = np.random.default_rng(6).normal(size=(_SIDE, _SIDE))
    light = 3 * _gaussian(_distance(np.pi / 2), 4.0)
    light[120:] = 0
    found = _find(noise + light)
    assert found[:118, 98:103].mean() > 0.97
    assert not found[145:].any()


@pytest.mark.parametrize("seed", range(5))
def test_noise_and_spots_are_no_trails(seed):
    """Nor are many cosmic rays and a patch of light."""
    rng = np.random.default_rng(seed)
    light = rng.normal(size=(_SIDE, _SIDE))
    assert not _find(light).any()
    light[tuple(rng.integers(0, _SIDE, (2, 12)))] += 300.0
    rows, columns = np.mgrid[:_SIDE, :_SIDE]
    light += 5 * _gaussian(np.hypot(rows - 60, columns - 90), 20.0)
    assert not _find(light).any()


def test_cosmic_ray_is_no_trail():
    """However long, and whatever chance has lit farther along its line."""
    light = np.random.default_rng(3).normal(size=(_SIDE, _SIDE))
    rows = np.arange(60, 95)
    light[rows, (0.6 * rows).astype(int) + 30] += 30.0
    assert not _find(light).any()
    for row in (68, 88, 116):
        light[row - 2 : row + 3, int(0.6 * row) + 28 : int(0.6 * row) + 33] += 1.0
    assert not _find(light).any()
