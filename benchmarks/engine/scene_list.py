# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which scenes there are: the same kinds in two sets."""

from __future__ import annotations

__all__ = ("make_scenes", "select_scenes")

import dataclasses

from lsst.coadd.astroclearnet.simulate import StackFaults

from .scenes import SETS, Scene

_FIELDS = {
    "sparse": {"density": 16.0, "realisations": 6},
    "medium": {"heavy": True, "twin": True},
    "crowded": {"density": 110.0, "separation": 8.0},
    "few": {"n_exposures": 8, "twin": True},
    "deep": {"n_exposures": 33, "size": 384, "density": 50.0, "twin": True},
    "blurred": {"seeing": (0.7, 1.1), "psf_kinds": ("kolmogorov",)},
    "wide": {"n_exposures": 8, "size": 1024, "density": 30.0, "psf_variation": 0.04},
}
_GRIDS = {
    "isolated": {"size": 512, "snr": (4.0, 200.0), "realisations": 5},
    "isolated few": {"n_exposures": 8, "snr": (4.0, 200.0), "realisations": 5},
    "isolated deep": {"n_exposures": 33, "snr": (4.0, 200.0), "realisations": 5},
}
_FAULTS = {
    "no fault": StackFaults(),
    "psf broad": StackFaults(psf_size=1.02),
    "psf narrow": StackFaults(psf_size=0.98),
    "flux scale": StackFaults(flux_scale=0.01),
    "astrometry": StackFaults(astrometry=0.1),
    "sky offset": StackFaults(sky_offset=0.03),
    "variance low": StackFaults(variance_factor=0.7),
    "variance high": StackFaults(variance_factor=1.4),
    "warped noise": StackFaults(warped_noise=True),
}
_COVERED = {
    "gaps": {"coverage": "gaps", "twin": True},
    "half": {"coverage": "half"},
    "three": {"n_exposures": 3, "twin": True},
    "two": {"n_exposures": 2},
}


def make_scenes(set: str) -> tuple[Scene, ...]:
    """Return the scenes of a set.

    Raises
    ------
    ValueError
        If there is no such set.
    """
    if set not in SETS:
        raise ValueError(f"The set must be one of {', '.join(SETS)}; got {set!r}.")
    scenes = []
    for kind, first, variants in (
        ("field", 0, _FIELDS),
        ("grid", 20, _GRIDS),
        ("coverage", 30, _COVERED),
        ("pairs", 40, {"pairs": {"size": 320, "realisations": 6}}),
        ("shapes", 41, {"shapes": {"size": 320, "heavy": True}}),
        ("blank", 42, {"blank": {"size": 512, "realisations": 5}}),
    ):
        for number, (name, values) in enumerate(variants.items(), start=first):
            scenes.append(Scene(name=name, kind=kind, set=set, number=number, **values))
    for name, faults in _FAULTS.items():
        scenes.append(Scene(name=name, kind="fault", set=set, number=50, faults=faults))
    scenes.append(
        Scene(name="artifacts", kind="fault", set=set, number=50, unmasked_cosmic_rays=4, twin=True)
    )
    scenes.append(Scene(name="small stamps", kind="fault", set=set, number=50, stamp_size=41))
    return tuple(scenes)


def select_scenes(
    set: str, names: tuple[str, ...] = (), *, quick: bool = False, realisations: int | None = None
) -> tuple[Scene, ...]:
    """Choose scenes by name or kind.

    Parameters
    ----------
    set
        One of `SETS`.
    names
        Names or kinds; empty for all.
    quick
        One observation of each; large scenes are made smaller or left out,
        and the costly peers too.
    realisations
        Most observations of each; `None` for what the scene says.

    Raises
    ------
    ValueError
        If a name is not known, or no scene is left.
    """
    scenes = make_scenes(set)
    known = {scene.name for scene in scenes} | {scene.kind for scene in scenes}
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"No scene or kind {', '.join(unknown)}; known are {', '.join(sorted(known))}.")
    if names:
        scenes = tuple(scene for scene in scenes if scene.name in names or scene.kind in names)
    if realisations is not None:
        scenes = tuple(
            dataclasses.replace(scene, realisations=min(realisations, scene.realisations)) for scene in scenes
        )
    if quick:
        scenes = tuple(_shrink(scene) for scene in scenes if scene.size <= 330 or scene.kind in _SHRINKING)
    if not scenes:
        raise ValueError("None of these scenes is small enough for a quick run.")
    return scenes


_SHRINKING = ("grid", "blank")
"""Kinds of scenes that say something on 256 pixels, too."""


def _shrink(scene: Scene) -> Scene:
    size = 256 if scene.kind in _SHRINKING else scene.size
    return dataclasses.replace(scene, realisations=1, heavy=False, size=size)
