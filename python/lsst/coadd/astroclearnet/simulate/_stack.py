# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Exposures that share one grid: no WCS, no detector."""

from __future__ import annotations

__all__ = ("StackTruth", "simulate_stack")

import dataclasses
from collections.abc import Sequence

import astropy.table
import numpy as np

from ..core import CellStack, PsfGradient
from ._draw import draw_truth
from ._faults import StackFaults
from ._scene import SceneConfig, make_catalog
from ._stack_exposure import SKY_PSF_KINDS, PsfField, StackExposure, draw_signal

_STEP = 50.0
"""Pixels to each side from which the change of a PSF is told."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class StackTruth:
    """The sky behind a simulated stack."""

    image: np.ndarray
    """Noiseless sky in nJy per pixel at the target PSF, float32 ``(h, w)``."""

    target_fwhm: float
    """FWHM of the Gaussian PSF of `image`, in pixels."""

    catalog: astropy.table.Table
    """Sources, as `make_catalog` makes them; ``x``, ``y`` are array indices
    and can be outside of the image."""

    signal: np.ndarray
    """Noiseless exposures in nJy per pixel, float32 ``(n, h, w)``."""

    artifacts: np.ndarray
    """Pixels changed by an artifact that no mask tells, bool ``(n, h, w)``."""

    streak: np.ndarray
    """The trail that no mask tells, in nJy per pixel, float32 ``(h, w)``; 0
    everywhere if there is none."""

    streaked: int
    """Index of the exposure that `streak` crosses; -1 if there is none."""

    sky_sigma: np.ndarray
    """Noise of the sky of each exposure in nJy per pixel, ``(n,)``."""

    psf_fwhm: np.ndarray
    """Seeing of each exposure, in arcseconds, ``(n,)``."""

    psfs: tuple[PsfField, ...]
    """PSF of each exposure."""

    stamp_size: int
    """Side of the PSF kernels, in pixels."""

    faults: StackFaults
    """What the stack says that is not true."""

    config: SceneConfig
    """What the sky was made from."""

    def draw(self, *, target_fwhm: float) -> np.ndarray:
        """Return the sky at another Gaussian PSF, as `image`."""
        height, width = self.image.shape
        return draw_truth(
            self.catalog,
            height=height,
            width=width,
            pixel_scale=self.config.pixel_scale,
            target_fwhm=target_fwhm,
        )

    def kernels(self, *, x: float, y: float) -> np.ndarray:
        """Return the PSFs that are told at a place, float32 ``(n, p, p)``."""
        stamps = [self.faults.falsify_kernel(psf.kernel(x=x, y=y, size=self.stamp_size)) for psf in self.psfs]
        return np.stack(stamps).astype(np.float32)

    def find_gradient(self, *, x: float, y: float, x0: int = 0, y0: int = 0) -> PsfGradient | None:
        """Return how the PSFs that are told change around a place, for the
        part of the arrays that starts at a pixel; `None` if none changes.
        """
        if not any(psf.gradient.any() for psf in self.psfs):
            return None
        ahead, behind = (
            np.stack([self.kernels(x=x + step, y=y), self.kernels(x=x, y=y + step)], axis=1)
            for step in (_STEP, -_STEP)
        )
        columns, rows = (np.full(len(self.psfs), place) for place in (x - x0, y - y0))
        return PsfGradient(per_pixel=(ahead - behind) / (2 * _STEP), x=columns, y=rows)


def simulate_stack(
    *,
    n_exposures: int = 16,
    size: int = 256,
    seed: int = 1,
    noise_seed: int | None = None,
    target_fwhm: float = 2.5,
    seeing: tuple[float, float] = (0.5, 0.9),
    psf_kinds: tuple[str, ...] = SKY_PSF_KINDS,
    psf_variation: float = 0.0,
    sky_sigma: float = 18.0,
    gain: float = 3.3,
    stamp_size: int = 41,
    scene: SceneConfig | None = None,
    catalog: astropy.table.Table | None = None,
    signal: np.ndarray | None = None,
    faults: StackFaults | None = None,
    streak: bool = True,
    masked_trail: bool = True,
    bad_columns: int = 2,
    cosmic_rays: int = 6,
    unmasked_cosmic_rays: int = 1,
) -> tuple[CellStack, StackTruth]:
    """Simulate exposures of one sky on one grid.

    Parameters
    ----------
    n_exposures
        How many exposures.
    size
        Side of the square images, in pixels.
    seed
        Seed of everything random: equal calls give equal stacks.
    noise_seed
        Seed of noise and artifacts alone, for another observation of the
        same sky through the same PSFs; `None` to let `seed` decide.
    target_fwhm
        FWHM in pixels of the Gaussian PSF of the truth.
    seeing
        Least and largest FWHM of the PSFs without the pixel, in arcseconds.
    psf_kinds
        Profiles of the PSFs, in turn: ``moffat`` or ``kolmogorov``.
    psf_variation
        Largest change of a PSF from the centre of the field to its edge, of
        its relative size and of its shear alike.
    sky_sigma
        Typical noise of the sky, in nJy per pixel; each exposure has its own
        within about 10 per cent.
    gain
        Electrons per nJy, for the photon noise of the sources; 0 for none.
    stamp_size
        Side of the PSF kernels, in pixels; odd.
    scene
        What to put on the sky; `None` for the defaults. Its seed and shape
        are replaced by those given here.
    catalog
        Sources to draw instead of those of `scene`; columns as of
        `make_catalog`.
    signal
        Noiseless exposures of an equal call with another `noise_seed`
        (`StackTruth.signal`), to save drawing them again.
    faults
        What the stack says that is not true; `None` for nothing.
    streak
        Cross one exposure with a trail that no mask tells.
    masked_trail
        Cross another exposure with a masked trail.
    bad_columns
        Masked columns of each exposure.
    cosmic_rays
        Masked tracks on each exposure.
    unmasked_cosmic_rays
        Tracks on each exposure that no mask tells.

    Returns
    -------
    stack : `~lsst.coadd.astroclearnet.core.CellStack`
        The exposures; their PSFs are a little sheared, the kernels those at
        the centre of the field, with their change around it. The variance is
        that of sky and sources, without noise of its own.
    truth : `StackTruth`
        The sky behind them.

    Raises
    ------
    ValueError
        If a number is out of its range.
    """
    if n_exposures < 1 or stamp_size % 2 == 0:
        raise ValueError(
            f"n_exposures must be positive and stamp_size odd; got {n_exposures} and {stamp_size}."
        )
    config = dataclasses.replace(scene or SceneConfig(), seed=seed, width=size, height=size, x0=0, y0=0)
    catalog = make_catalog(config) if catalog is None else catalog
    faults = faults or StackFaults()
    rng = np.random.default_rng([seed, 2])
    chance = rng if noise_seed is None else np.random.default_rng([seed, 5, noise_seed])
    fwhm = _draw_seeing(rng, n_exposures, seeing)
    sigma = sky_sigma * rng.lognormal(0.0, 0.1, n_exposures)
    streaked = int(rng.integers(n_exposures)) if streak or masked_trail else -1
    trailed = (streaked + 1) % n_exposures if n_exposures > 1 else -1
    offsets, scales = faults.draw_offsets(seed, n_exposures), faults.draw_scales(seed, n_exposures)
    exposures, psfs, signals = [], [], []
    for i in range(n_exposures):
        kind = psf_kinds[i % len(psf_kinds)]
        psf = PsfField.draw(rng, config, fwhm=fwhm[i], kind=kind, variation=psf_variation, seed=[seed, 8, i])
        if signal is None:
            seen = draw_signal(catalog, config, psf=psf, offset=offsets[i], faintest=0.1 * sigma[i])
        else:
            seen = signal[i]
        exposure = StackExposure.expose(
            chance,
            seen,
            fwhm=fwhm[i] / config.pixel_scale,
            sigma=sigma[i],
            gain=gain,
            warped=faults.warped_noise,
        )
        exposure.spoil_columns(chance, bad_columns)
        exposure.spoil_pixels(chance, cosmic_rays, masked=True)
        exposure.spoil_pixels(chance, unmasked_cosmic_rays, masked=False)
        if streak and i == streaked:
            exposure.spoil_trail(chance, masked=False)
        if masked_trail and i == trailed:
            exposure.spoil_trail(chance, masked=True)
        exposure.falsify(scale=scales[i], faults=faults)
        exposures.append(exposure)
        psfs.append(psf)
        signals.append(seen)
    truth = StackTruth(
        image=draw_truth(
            catalog, height=size, width=size, pixel_scale=config.pixel_scale, target_fwhm=target_fwhm
        ),
        target_fwhm=target_fwhm,
        catalog=catalog,
        signal=np.stack(signals).astype(np.float32),
        artifacts=np.stack([exposure.artifacts & exposure.good for exposure in exposures]),
        streak=sum(exposure.streak for exposure in exposures).astype(np.float32),
        streaked=streaked if streak else -1,
        sky_sigma=sigma,
        psf_fwhm=fwhm,
        psfs=tuple(psfs),
        stamp_size=stamp_size,
        faults=faults,
        config=config,
    )
    return _join(exposures, truth), truth


def _join(exposures: Sequence[StackExposure], truth: StackTruth) -> CellStack:
    """Make the stack of exposures, with the PSFs that are told of them."""
    good = np.stack([exposure.good for exposure in exposures])
    middle = (good.shape[-1] - 1) / 2
    return CellStack(
        image=np.where(good, [exposure.image for exposure in exposures], 0).astype(np.float32),
        variance=np.stack([exposure.variance for exposure in exposures]).astype(np.float32),
        good=good,
        psf=truth.kernels(x=middle, y=middle),
        psf_gradient=truth.find_gradient(x=middle, y=middle),
        labels=tuple(f"exposure={i}" for i in range(len(exposures))),
    )


def _draw_seeing(rng: np.random.Generator, n: int, limits: tuple[float, float]) -> np.ndarray:
    """Spread the seeing over its range, in random order."""
    return rng.permutation(np.linspace(*limits, n) if n > 1 else np.full(1, np.mean(limits)))
