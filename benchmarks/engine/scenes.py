# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""A scene of the benchmark: which sky, which exposures, which faults."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
from pathlib import Path

import astropy.table
import galsim
import numpy as np

from lsst.coadd.astroclearnet import simulate
from lsst.coadd.astroclearnet.core import CellStack
from lsst.coadd.astroclearnet.simulate import SceneConfig, StackFaults, StackTruth, simulate_stack

from . import skies

HALO = 40
"""Border in pixels around a scene, or a patch, that the fits see and nobody
judges."""

SETS = {"tuning": 4100, "test": 918_300}
"""First seed of each set; seeds of a set are within 100 of it. *Tuning* is for
choosing; *test* is for judging what was chosen, and its seeds are used for
nothing else."""

KINDS = {
    "field": "random skies, everything as the stack says",
    "grid": "isolated stars and galaxies of known S/N",
    "fault": "the sky of the grid, and a stack that says something wrong",
    "pairs": "pairs of equal stars at 0.3 to 1.0 arcsec",
    "blank": "noise only",
    "shapes": "galaxies outside every family of profiles",
    "coverage": "chip gaps, half a patch, two or three exposures",
}
"""Kinds of scenes."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scene:
    """One stack of the benchmark, observed several times."""

    name: str
    kind: str
    """One of `KINDS`."""
    set: str
    """One of `SETS`."""
    number: int
    """Which seed of its set decides sky and PSFs."""
    n_exposures: int = 16
    size: int = 256
    """Side of what is judged, in pixels."""
    realisations: int = 3
    """How often the same sky is observed, with new noise and artifacts."""
    density: float = 36.0
    """Sources per square arcminute of a field."""
    separation: float = 14.0
    """Least distance between these, in pixels."""
    snr: tuple[float, float] = (5.0, 1000.0)
    """Range of the S/N of the sources of a grid."""
    seeing: tuple[float, float] = (0.5, 0.9)
    psf_kinds: tuple[str, ...] = ("moffat", "kolmogorov")
    psf_variation: float = 0.0
    stamp_size: int = 61
    """Side of the PSF kernels, in pixels: of 41, Kolmogorov profiles have 0.3
    to 0.7 per cent of their light outside, which is a fault of its own."""
    faults: StackFaults = StackFaults()
    coverage: str = ""
    """``gaps`` or ``half``; empty for all exposures everywhere."""
    unmasked_cosmic_rays: int = 1
    """Per exposure; 4 in scenes that are about artifacts."""
    cell: int = 256
    """Side of the cells that methods which work in cells use."""
    heavy: bool = False
    """Whether the costly peers run, too."""
    twin: bool = False
    """Whether the same exposures are fitted with the trail masked, too, to see
    what it leaves where it is not."""

    @property
    def seed(self) -> int:
        """Seed of sky and PSFs (`int`)."""
        return SETS[self.set] + self.number

    @property
    def area(self) -> float:
        """Area that is judged, in square arcmin (`float`)."""
        return (self.size * simulate.PIXEL_SCALE / 60.0) ** 2

    @property
    def cell_size(self) -> int:
        """Side of the cells, in pixels: the whole scene if it is small."""
        return self.cell if self.size % self.cell == 0 else self.size

    def make(self, realisation: int) -> tuple[CellStack, StackTruth]:
        """Observe the scene.

        Parameters
        ----------
        realisation
            Number of the observation, from 0: the sky and the PSFs are
            those of all others, the noise and the artifacts are not.

        Returns
        -------
        stack, truth
            As of `~lsst.coadd.astroclearnet.simulate.simulate_stack`, with a
            border of `HALO` pixels around the scene.
        """
        stack, truth = _simulate(self, realisation, _signal(_same_sky(self)))
        if self.coverage:
            good = stack.good & _COVERAGES[self.coverage](*stack.good.shape)
            stack = dataclasses.replace(stack, good=good, image=np.where(good, stack.image, 0))
        return stack, truth

    def cut(self, stack: CellStack, truth: StackTruth, *, x0: int, y0: int, size: int) -> CellStack:
        """Cut a cell of a side out of a stack, with its halo.

        The PSFs are those in the middle of the cell, with their change.
        """
        if size == self.size:
            return stack
        whole = size + 2 * HALO
        part = np.s_[:, y0 : y0 + whole, x0 : x0 + whole]
        middle = {"x": x0 + (whole - 1) / 2, "y": y0 + (whole - 1) / 2}
        return dataclasses.replace(
            stack,
            image=stack.image[part],
            variance=stack.variance[part],
            good=stack.good[part],
            psf=truth.kernels(**middle),
            psf_gradient=truth.find_gradient(**middle, x0=x0, y0=y0),
        )


def _same_sky(scene: Scene) -> Scene:
    """Leave out of a scene what does not change its noiseless exposures."""
    return dataclasses.replace(
        scene,
        name="",
        kind=_SKIES.get(scene.kind, scene.kind),
        faults=StackFaults(astrometry=scene.faults.astrometry),
        coverage="",
        realisations=1,
        unmasked_cosmic_rays=1,
        cell=256,
        heavy=False,
        twin=False,
    )


_SKIES = {"fault": "grid", "coverage": "grid"}
"""Kinds whose sky is that of another kind."""


_kept: list[Path] = []
"""Folder that noiseless exposures are kept in, if there is one."""


def keep_signals(folder: Path) -> None:
    """Keep noiseless exposures in a folder, from one run to the next.

    Drawing them takes longer than fitting them. Files are named by what
    decides them: the scene, and the text of the simulator.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _kept[:] = [folder]


@functools.lru_cache(maxsize=2)
def _signal(scene: Scene) -> np.ndarray:
    """Draw the noiseless exposures, once for all realisations."""
    if not _kept:
        return _simulate(scene, 0, None)[1].signal
    file = _kept[0] / f"{hashlib.sha256((repr(scene) + _simulator_text()).encode()).hexdigest()[:16]}.npy"
    if file.exists():
        return np.load(file)
    signal = _simulate(scene, 0, None)[1].signal
    part = file.with_suffix(f".{os.getpid()}.part.npy")
    np.save(part, signal)
    part.replace(file)
    return signal


@functools.cache
def _simulator_text() -> str:
    """Return everything that decides what a scene looks like."""
    folder = Path(simulate.__file__).parent
    names = ("_draw", "_faults", "_scene", "_stack", "_stack_exposure")
    files = [*(folder / f"{name}.py" for name in names), Path(skies.__file__)]
    return galsim.__version__ + "".join(file.read_text() for file in files)


def _simulate(scene: Scene, realisation: int, signal: np.ndarray | None) -> tuple[CellStack, StackTruth]:
    blank = scene.kind == "blank"
    return simulate_stack(
        n_exposures=scene.n_exposures,
        size=scene.size + 2 * HALO,
        seed=scene.seed,
        noise_seed=realisation,
        signal=signal,
        seeing=scene.seeing,
        psf_kinds=scene.psf_kinds,
        psf_variation=scene.psf_variation,
        stamp_size=scene.stamp_size,
        scene=SceneConfig(density=scene.density, separation=scene.separation),
        catalog=_catalog(scene),
        faults=scene.faults,
        streak=not blank and scene.n_exposures > 2,
        unmasked_cosmic_rays=0 if blank else scene.unmasked_cosmic_rays,
    )


def _catalog(scene: Scene) -> astropy.table.Table | None:
    """Lay out the sources; `None` for a random field."""
    layout = {"size": scene.size, "halo": HALO}
    match _SKIES.get(scene.kind, scene.kind):
        case "grid":
            return skies.grid_sky(scene.seed, n=scene.n_exposures, snr=scene.snr, **layout)
        case "pairs":
            return skies.pair_sky(scene.seed, **layout)
        case "shapes":
            return skies.shape_sky(scene.seed, n=scene.n_exposures, **layout)
        case "blank":
            return skies.empty_catalog()
    return None


def coverage_of(scene: Scene) -> np.ndarray:
    """Return which pixels the chips of a scene see, bool ``(n, h, w)``.

    It is the plan of the coverage, halo included: no bad pixels in it.
    """
    shape = (scene.n_exposures, scene.size + 2 * HALO, scene.size + 2 * HALO)
    return _COVERAGES[scene.coverage](*shape) if scene.coverage else np.ones(shape, dtype=bool)


def _gaps(n: int, height: int, width: int) -> np.ndarray:
    """Cross half of the exposures with gaps of 30 pixels, dithered."""
    covered = np.ones((n, height, width), dtype=bool)
    for k in range(0, n, 2):
        start = round((0.2 + 0.55 * k / n) * width)
        if k % 4:
            covered[k, start : start + 30, :] = False
        else:
            covered[k, :, start : start + 30] = False
    return covered


def _half(n: int, height: int, width: int) -> np.ndarray:
    """Let every second exposure end in the middle."""
    covered = np.ones((n, height, width), dtype=bool)
    covered[::2, :, width // 2 :] = False
    return covered


_COVERAGES = {"gaps": _gaps, "half": _half}
