# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""The engine and everything that it is compared with, on the same inputs."""

from __future__ import annotations

import functools

from ._linear import fit_proper, fit_weighted_mean
from ._package import fit_method, fit_permuted, fit_recipe
from ._restore import fit_deconvolved_coadd, fit_image_mm, fit_pixels
from ._starred import fit_starred, has_starred
from ._types import Delivery, FitInputs, Peer

__all__ = ("ENGINE", "PEERS", "Delivery", "FitInputs", "Peer", "select_peers")

ENGINE = "engine"
"""Name of the peer that all others are compared with."""


def _method(name: str, title: str, method: str, *, kinds=(), scenes=(), heavy=False, **options) -> Peer:
    fit = functools.partial(fit_method, method=method, **options)
    return Peer(name=name, title=title, fit=fit, kinds=kinds, scenes=scenes, heavy=heavy)


PEERS = (
    _method(ENGINE, "trained encoder on the sufficient statistic", "acn"),
    _method("engine 2.0", "the same, delivered at 2.0 px", "acn", kinds=("pairs",), target_fwhm=2.0),
    _method("engine 1.5", "the same, delivered at 1.5 px", "acn", kinds=("pairs",), target_fwhm=1.5),
    Peer(
        name="engine permuted",
        title="the same, exposures in another order",
        fit=fit_permuted,
        scenes=("sparse",),
    ),
    Peer(name="mean", title="inverse-variance mean, nothing clipped", fit=fit_weighted_mean),
    _method("clipped mean", "inverse-variance mean, artifacts clipped", "mean"),
    Peer(name="proper", title="Zackay-Ofek proper coadd, nothing clipped", fit=fit_proper),
    _method("kaiser", "proper coadd, artifacts clipped, holes filled", "kaiser"),
    _method("mm", "multiplicative updates, latent PSF of 1.5 px", "mm"),
    Peer(
        name="deconvolved coadd",
        title="gradient deconvolution of the clipped mean to a Gaussian of 0.8 px sigma",
        fit=fit_deconvolved_coadd,
        kinds=("field", "pairs", "shapes", "blank"),
    ),
    Peer(
        name="image mm",
        title="ImageMM with Huber weights at full deconvolution, 200 iterations; blurred to 2.5 px",
        fit=fit_image_mm,
        heavy=True,
    ),
    Peer(
        name="pixels",
        title="non-negative pixels without a network, 500 steps of Adam",
        fit=fit_pixels,
        scenes=("medium",),
        heavy=True,
    ),
    Peer(
        name="self",
        title="network trained on the very exposures, across them",
        fit=functools.partial(fit_recipe, recipe="self"),
        heavy=True,
    ),
    Peer(
        name="paper",
        title="the paper's network, from scratch, in-sample",
        fit=functools.partial(fit_recipe, recipe="paper"),
        scenes=("medium",),
        heavy=True,
        realisations=1,
    ),
    Peer(
        name="starred",
        title="STARRED, told the places of bright stars, to convergence",
        fit=fit_starred,
        scenes=("medium",),
        heavy=True,
        realisations=2,
    ),
)
"""In the order of the tables."""


def select_peers(names: tuple[str, ...] = ()) -> tuple[Peer, ...]:
    """Choose peers by name; all that can be run if there is none.

    Raises
    ------
    ValueError
        If a name is not known.
    """
    known = {peer.name: peer for peer in PEERS}
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"No peer {', '.join(unknown)}; known are {', '.join(known)}.")
    if names:
        return tuple(known[name] for name in names)
    return tuple(peer for peer in PEERS if peer.name != "starred" or has_starred())
