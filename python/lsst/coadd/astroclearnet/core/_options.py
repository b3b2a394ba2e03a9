# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options of a fit."""

from __future__ import annotations

__all__ = (
    "DEVICES",
    "LARGEST_SEED",
    "LEAST_CELL_SIZE",
    "LEAST_HALO",
    "LINEAR_METHODS",
    "METHODS",
    "PAPER_LATENT_FWHM",
    "RECIPES",
    "FitOptions",
)

import dataclasses
from pathlib import Path

METHODS = {
    "acn": "AstroClearNet: encoder network, non-negative latent, fixed PSF decoder.",
    "mm": "Multiplicative updates (ImageMM) with the same latent PSF and Huber weights.",
    "kaiser": "Proper coadd of Kaiser, Zackay & Ofek: linear, with white noise and a PSF of its own.",
    "mean": "Inverse-variance mean with clipping of artifacts.",
}

LINEAR_METHODS = ("kaiser", "mean")
"""Those of `METHODS` that make no latent: one image at its own PSF."""

DEVICES = {
    "auto": "CUDA where there is a device, else the CPU.",
    "cpu": "The CPU; threads as pipetask grants cores (-n).",
    "cuda": "A CUDA device; an error if there is none.",
    "mps": "The GPU of an Apple computer, not tested; an error if there is none.",
}

RECIPES = {
    "trained": "Exact sufficient statistic and a small encoder trained on simulated skies.",
    "self": "Small encoder trained on the stack itself: given half of the exposures, predict the others.",
    "paper": "Multi-scale depth-wise encoder over the exposures, trained from scratch on them.",
}

PAPER_LATENT_FWHM = 2.0
"""FWHM in pixels of the PSF of the latent of ``recipe="paper"``."""

LARGEST_SEED = 2**63 - 1
"""Torch takes none above twice as much."""

LEAST_CELL_SIZE = 16
"""Least side of a cell, in pixels."""

LEAST_HALO = 1.5
"""Halo, in units of the target FWHM, below which seams of cells show."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FitOptions:
    """How to fit; the same for every cell of a patch.

    Raises
    ------
    ValueError
        If a value is out of its range; the text names the field.
    """

    method: str = "acn"
    """One of `METHODS`."""

    recipe: str = "trained"
    """One of `RECIPES`; used by ``method="acn"``."""

    weights: str | None = None
    """File of ``acn train`` for ``recipe="trained"``; `None` takes the weights
    that are shipped."""

    target_fwhm: float = 2.5
    """FWHM of the Gaussian PSF of the results, in pixels (at least 1.5)."""

    cell_size: int = 200
    """Side of a cell, in pixels."""

    halo: int = 40
    """Border around a cell that is fitted with it and cropped, in pixels."""

    seed: int = 1
    """Seed of everything random."""

    clip_sigma: float = 4.5
    """Residual in sigma above which a pixel can be clipped as an artifact."""

    mm_iterations: int = 100
    """Iterations of ``method="mm"``."""

    paper_steps: int = 2000
    """Optimiser steps of ``recipe="paper"``."""

    self_steps: int = 200
    """Optimiser steps of ``recipe="self"``."""

    huber_delta: float = 3.0
    """Residual, in sigma, at which the Huber loss becomes linear."""

    device: str = "auto"
    """``auto`` (CUDA where there is one), ``cpu``, ``cuda`` or ``mps``."""

    n_threads: int = 0
    """Threads of torch; 0 leaves its own choice."""

    def __post_init__(self) -> None:
        for name, known in (("method", METHODS), ("recipe", RECIPES)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}; got {getattr(self, name)!r}.")
        if self.weights is not None and not Path(self.weights).is_file():
            raise ValueError(f"weights must be a file of acn train; there is no {self.weights!r}.")
        if self.device not in DEVICES:
            raise ValueError(f"device must be one of {', '.join(DEVICES)}; got {self.device!r}.")
        lowest = {
            "target_fwhm": 1.5,
            "cell_size": LEAST_CELL_SIZE,
            "halo": 0,
            "seed": 0,
            "clip_sigma": 1.0,
            "mm_iterations": 1,
            "paper_steps": 1,
            "self_steps": 1,
            "huber_delta": 0.1,
            "n_threads": 0,
        }
        for name, limit in lowest.items():
            if not getattr(self, name) >= limit:
                raise ValueError(f"{name} must be at least {limit}; got {getattr(self, name)!r}.")
        for name, limit in {"target_fwhm": 60.0, "seed": LARGEST_SEED}.items():
            if not getattr(self, name) <= limit:
                raise ValueError(f"{name} must be at most {limit}; got {getattr(self, name)!r}.")
        if (self.method, self.recipe) == ("acn", "paper") and self.target_fwhm < PAPER_LATENT_FWHM:
            raise ValueError(
                f"target_fwhm must be at least {PAPER_LATENT_FWHM} with recipe='paper', whose latent has "
                f"that PSF; got {self.target_fwhm!r}."
            )
