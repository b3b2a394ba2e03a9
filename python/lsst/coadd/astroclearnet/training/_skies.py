# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Random skies and their sufficient statistics."""

from __future__ import annotations

__all__ = ("SkyGenerator", "SkyOptions", "Source", "TrainingBatch")

import dataclasses
from typing import Any

import numpy as np
import torch

from ..core.encoder._inputs import LATENT_FWHM
from ..core.fourier._grid import FWHM_TO_SIGMA, FourierGrid
from ._banks import GalaxyBank, StackBank

_SHARE_WITH_GAPS = 0.3
"""Share of the skies whose coverage is not even."""


_SOURCES, _CROWD = (3, 18), (18, 45)
"""Least number of sources of a sky and of a crowded one, and the first that is
too many."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SkyOptions:
    """What the skies of one part of the training are like."""

    psf_error: float
    """Scatter of the width of the PSF about what was said, relative."""

    neighbours: float
    """Share of the sources that are placed beside another."""

    close: float
    """Share of those that are a blended pair with it."""

    crowded: float = 0.0
    """Share of the skies with many sources."""

    noise_error: float = 1.0
    """How wrong the level and the spectrum of the noise may be; 0 if they
    are what the stack says."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """One source of a training sky."""

    scene: int
    y: float
    x: float
    signal_to_noise: float
    """Of the flux, for a matched filter, as a point source."""
    kind: int
    """0 star, 1 small galaxy, 2 large galaxy, 3 large and without a
    profile."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class TrainingBatch:
    """Statistics with known truth."""

    data: torch.Tensor
    """D, ``(b, rows, columns // 2 + 1)``."""
    den: torch.Tensor
    inflation: torch.Tensor
    """Noise of D relative to `den`, ``(b, rows, columns)``."""
    power: torch.Tensor
    """Noise power of each place in units of the first element of `den`,
    ``(b, rows, columns)``."""
    truth: torch.Tensor
    """Sky at the latent's PSF, ``(b, rows, columns)``."""
    sources: list[Source]


class SkyGenerator:
    """Draws batches of statistics of random skies.

    A statistic is made without its exposures: ``D = den X + sqrt(den) white``
    plus the noise of the sources. Real stacks have more: a residual sky, a
    PSF and a noise level that are not quite what was said, noise that
    resampling has made smooth, gaps and ends of coverage. So have these.

    Parameters
    ----------
    galaxies, stacks
        What to draw from.
    grid
        Square grid of the skies.
    options
        How skies are drawn.
    seed
        Seed of all that is random.
    """

    def __init__(
        self,
        galaxies: GalaxyBank,
        stacks: StackBank,
        *,
        grid: FourierGrid,
        options: SkyOptions,
        seed: int,
    ):
        self._galaxies = galaxies
        self._stacks = stacks
        self._grid = grid
        self._options = options
        self._rng = np.random.default_rng(seed)
        self._torch = torch.Generator().manual_seed(seed)

    def state_dict(self) -> dict[str, Any]:
        """Return all that decides on the skies to come."""
        return {"numpy": self._rng.bit_generator.state, "torch": self._torch.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where another generator was."""
        self._rng.bit_generator.state = state["numpy"]
        self._torch.set_state(state["torch"])

    def draw(self, count: int, *, observations: int = 1) -> TrainingBatch:
        """Draw a batch.

        Parameters
        ----------
        count
            How many skies.
        observations
            How often each is observed, with new noise: the batch holds all
            skies of the first observation, then those of the next.
        """
        chosen = self._rng.integers(len(self._stacks.den), size=count)
        den, grid = self._stacks.den[chosen], self._grid
        sensitivity = grid.mean_power(den).sqrt().numpy()
        skies, sources = zip(*(self._draw_sky(b, sensitivity[b]) for b in range(count)), strict=True)
        truth = torch.as_tensor(np.array(skies))
        spectrum = grid.transform(truth) / grid.gaussian(LATENT_FWHM)
        spectrum = spectrum * self._psf_error(den)
        inflation = self._inflation(count)
        level = den.sqrt() * self._noise_error(count)
        # Photon noise of the sources, through an effective PSF.
        effective = (den / den[:, :1, :1]).sqrt()
        light = grid.inverse(spectrum * effective).clamp_min(0.0)
        photons = self._stacks.source_noise[chosen][:, None, None] * light
        offset = torch.as_tensor(self._rng.normal(0.0, 0.08, count), dtype=torch.float32)
        expected = den * spectrum
        expected[:, 0, 0] += den[:, 0, 0].sqrt() * offset * truth[0].numel()
        observed = []
        for _ in range(observations):
            noise = grid.transform(self._normal(light.shape)) * level
            noise = noise + grid.transform(self._normal(light.shape) * photons.sqrt()) * effective
            if float(inflation.max()) > 1.0:
                noise = grid.transform(grid.inverse(noise) * inflation)
            observed.append(expected + noise)
        power = inflation**2 * (1.0 + photons / den[:, :1, :1])
        den, inflation, power, truth = (
            values.repeat(observations, 1, 1) for values in (den, inflation, power, truth)
        )
        return TrainingBatch(
            data=torch.cat(observed),
            den=den,
            inflation=inflation,
            power=power,
            truth=truth,
            sources=[s for group in sources for s in group],
        )

    def _normal(self, shape: torch.Size) -> torch.Tensor:
        return torch.randn(shape, generator=self._torch)

    def _psf_error(self, den: torch.Tensor) -> torch.Tensor:
        """Transfer of PSFs a little broader or narrower than said."""
        relative = torch.as_tensor(
            self._rng.normal(0.0, self._options.psf_error, len(den)), dtype=torch.float32
        )
        # The mean squared width follows from the fall of den near frequency 0.
        fall = torch.log(den[:, 0, 0] / den[:, 0, 2]) / self._grid.frequency_squared[0, 2]
        excess = (relative * fall)[:, None, None]
        return torch.exp(-excess * self._grid.frequency_squared)

    def _noise_error(self, count: int) -> torch.Tensor:
        """Level of the noise, and the fall that resampling gives it."""
        level = self._rng.normal(0.0, 0.04, (count, 1, 1))
        smooth = np.where(self._rng.uniform(size=(count, 1, 1)) < 0.5, 0.0, self._rng.uniform(0.0, 5.0))
        exponent = level - smooth * self._grid.frequency_squared.numpy()
        return torch.as_tensor(np.exp(self._options.noise_error * exponent), dtype=torch.float32)

    def _inflation(self, count: int) -> torch.Tensor:
        """Noise of stacks with gaps and ends of coverage."""
        grid, rng = self._grid, self._rng
        share = np.ones((count, *grid.shape), dtype=np.float32)
        y, x = np.mgrid[: grid.shape[0], : grid.shape[1]]
        for scene in share:
            if rng.uniform() > _SHARE_WITH_GAPS:
                continue
            for _ in range(rng.integers(1, 4)):
                angle = rng.uniform(0, np.pi) if rng.uniform() < 0.3 else rng.choice([0.0, 0.5 * np.pi])
                along = (x - grid.shape[1] / 2) * np.cos(angle) + (y - grid.shape[0] / 2) * np.sin(angle)
                first = rng.uniform(-0.45, 0.45) * grid.shape[0]
                width = np.exp(rng.uniform(0.0, np.log(0.6 * grid.shape[0])))
                scene[(along > first) & (along < first + width)] *= rng.uniform(0.05, 1.0)
        if share.min() == 1.0:
            return torch.as_tensor(share)
        smooth = grid.inverse(grid.transform(torch.as_tensor(share)) * grid.gaussian(5.0))
        return smooth.clamp(0.05, 1.0).rsqrt()

    def _draw_sky(self, scene: int, sensitivity: float) -> tuple[np.ndarray, list[Source]]:
        sky = np.zeros(self._grid.shape, dtype=np.float32)
        sources: list[Source] = []
        if self._rng.uniform() < 0.06:
            return sky, sources
        crowded = self._rng.uniform() < self._options.crowded
        for _ in range(self._rng.integers(*(_CROWD if crowded else _SOURCES))):
            sources.append(self._add_source(sky, scene, sensitivity, sources))
        return sky, sources

    def _add_source(self, sky, scene: int, sensitivity: float, others: list[Source]) -> Source:
        rng = self._rng
        faint = rng.uniform() < 0.8
        signal_to_noise = 10 ** (rng.uniform(0.3, 2.7) if faint else rng.uniform(2.0, 4.0))
        is_star = rng.uniform() < 0.42
        y, x = rng.uniform(0, sky.shape[0], 2)
        if others and rng.uniform() < self._options.neighbours:
            y, x, signal_to_noise, is_star = self._neighbour(others, signal_to_noise, is_star)
        if is_star:
            _add_star(sky, y=y, x=x, flux=signal_to_noise / sensitivity)
            kind = 0
        else:
            signal_to_noise = min(signal_to_noise, 3000.0)
            index = self._choose_galaxy(signal_to_noise)
            y, x = float(int(y)), float(int(x))
            self._add_galaxy(sky, index, y=int(y), x=int(x), flux=1.5 * signal_to_noise / sensitivity)
            kind = self._galaxies.kind(index)
        return Source(scene=scene, y=y, x=x, signal_to_noise=signal_to_noise, kind=kind)

    def _neighbour(self, others: list[Source], signal_to_noise: float, is_star: bool):
        """Place a source beside another; close pairs are alike in flux."""
        rng = self._rng
        close = rng.uniform() < self._options.close
        first = others[-1] if close else others[rng.integers(len(others))]
        distance = rng.uniform(1.7, 4.6) if close else rng.uniform(2.0, 12.0)
        if close:
            signal_to_noise = first.signal_to_noise * 10 ** rng.uniform(-0.5, 0.1)
            is_star = first.kind == 0 if rng.uniform() < 0.85 else is_star
        angle = rng.uniform(0, 2 * np.pi)
        y, x = first.y + distance * np.sin(angle), first.x + distance * np.cos(angle)
        return y, x, signal_to_noise, is_star

    def _choose_galaxy(self, signal_to_noise: float) -> int:
        """Brighter galaxies are larger, with a wide scatter."""
        count = len(self._galaxies.stamps)
        rank = 0.06 + 0.75 * (np.log10(signal_to_noise) - 0.3) / 2.6 + self._rng.normal(0, 0.22)
        return int(np.clip(rank * count, 0, count - 1))

    def _add_galaxy(self, sky: np.ndarray, index: int, *, y: int, x: int, flux: float) -> None:
        stamp = np.rot90(self._galaxies.stamps[index], self._rng.integers(4))
        stamp = stamp.T if self._rng.uniform() < 0.5 else stamp
        half = stamp.shape[0] // 2
        y0, y1 = max(0, y - half), min(sky.shape[0], y + half + 1)
        x0, x1 = max(0, x - half), min(sky.shape[1], x + half + 1)
        if y1 > y0 and x1 > x0:
            sky[y0:y1, x0:x1] += flux * stamp[y0 - y + half : y1 - y + half, x0 - x + half : x1 - x + half]


def _add_star(sky: np.ndarray, *, y: float, x: float, flux: float) -> None:
    sigma = LATENT_FWHM * FWHM_TO_SIGMA
    rows = np.exp(-0.5 * ((np.arange(sky.shape[0]) - y) / sigma) ** 2)
    columns = np.exp(-0.5 * ((np.arange(sky.shape[1]) - x) / sigma) ** 2)
    sky += (flux / (2.0 * np.pi * sigma**2)) * np.outer(rows, columns)
