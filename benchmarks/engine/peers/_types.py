# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a peer is, and what it delivers."""

from __future__ import annotations

__all__ = ("Delivery", "FitInputs", "Peer", "stitch")

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np

from lsst.coadd.astroclearnet.core import CellStack
from lsst.coadd.astroclearnet.simulate import StackTruth

from ..scenes import HALO, Scene


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class FitInputs:
    """What a peer is given."""

    scene: Scene
    stack: CellStack
    """Exposures with a border of `~benchmarks.engine.scenes.HALO`."""
    truth: StackTruth
    """For PSFs at other places; the sky in it is not to be looked at, but
    for the places of stars by a peer that must be told them."""
    weights: Path | None = None
    """Weights of the encoder, instead of the shipped ones."""

    def cells(self) -> list[tuple[int, int, CellStack]]:
        """Return y0, x0 and the exposures of each cell, with the halo."""
        size = self.scene.cell_size
        starts = range(0, self.scene.size, size)
        return [
            (y0, x0, self.scene.cut(self.stack, self.truth, x0=x0, y0=y0, size=size))
            for y0 in starts
            for x0 in starts
        ]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Delivery:
    """One image that a peer makes of a stack, without the halo."""

    plane: str
    """``latent`` or ``coadd``."""
    image: np.ndarray
    """nJy per pixel, ``(y, x)``."""
    psf: np.ndarray
    """Declared PSF of each cell, ``(cells_y, cells_x, p, p)``, sum 1."""
    target_fwhm: float = 0.0
    """FWHM of the PSF in pixels if it is declared a Gaussian, else 0."""
    variance: np.ndarray | None = None
    """Written variance of each pixel ``(y, x)``, if there is one."""
    psf_flux_variance: np.ndarray | None = None
    """Written variance of a PSF flux about each pixel ``(y, x)``, if there is
    one."""
    noise: np.ndarray | None = None
    """Written noise realization ``(y, x)``, if there is one."""

    @property
    def kernel(self) -> np.ndarray:
        """Mean of the declared PSFs, ``(p, p)`` (`numpy.ndarray`)."""
        return self.psf.mean((0, 1))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Peer:
    """One way to make an image of a stack."""

    name: str
    title: str
    """One line for the report: what it is and how it was run."""
    fit: Callable[[FitInputs], list[Delivery]]
    kinds: tuple[str, ...] = ()
    """Kinds of scenes that it runs on; empty for all."""
    scenes: tuple[str, ...] = ()
    """Names of scenes that it runs on; empty for all."""
    heavy: bool = False
    """Whether it runs only on scenes that are marked so."""
    realisations: int = 1000
    """Most observations of a scene that it runs on."""

    @property
    def limits(self) -> str:
        """Where it runs, in words (`str`)."""
        parts = [", ".join(self.scenes or self.kinds) or ("costly scenes" if self.heavy else "all scenes")]
        if self.realisations < 1000:
            parts.append(f"{self.realisations} x")
        return ", ".join(parts)

    def runs_on(self, scene: Scene, realisation: int = 0) -> bool:
        """Say whether the peer runs on an observation of a scene."""
        return realisation < self.realisations and (
            (not self.kinds or scene.kind in self.kinds)
            and (not self.scenes or scene.name in self.scenes)
            and (not self.heavy or scene.heavy)
        )


def stitch(inputs: FitInputs, fit: Callable[[CellStack], Delivery]) -> Delivery:
    """Fit every cell and put the inner parts together.

    Parameters
    ----------
    inputs
        The scene.
    fit
        Takes the exposures of a cell, returns a `Delivery` on all of their
        pixels, with one PSF.
    """
    size, whole = inputs.scene.cell_size, inputs.scene.size
    image = np.zeros((whole, whole), dtype=np.float32)
    kernels = {}
    for y0, x0, stack in inputs.cells():
        part = fit(stack)
        image[y0 : y0 + size, x0 : x0 + size] = part.image[HALO : HALO + size, HALO : HALO + size]
        kernels[y0 // size, x0 // size] = part.psf[0, 0]
    count = whole // size
    psf = np.array([[kernels[i, j] for j in range(count)] for i in range(count)])
    return dataclasses.replace(part, image=image, psf=psf)
