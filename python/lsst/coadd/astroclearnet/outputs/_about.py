# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a result was made: what its datasets and the task metadata say."""

from __future__ import annotations

__all__ = ("describe_run", "make_seed", "summarize_run")

import hashlib
import json
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import astropy.units as u
import numpy as np

from lsst.pex.config import Config
from lsst.utils.usage import get_peak_mem_usage

from ..core import FitOptions

if TYPE_CHECKING:
    from ..core import PatchFit

_DISTRIBUTIONS = ("coadd_astroclearnet", "torch", "numpy", "scipy", "lsst-images")


def make_seed(*, skymap: str, tract: int, patch: int, band: str, offset: int = 0) -> int:
    """Derive the seed of a patch from its data id.

    Parameters
    ----------
    skymap, tract, patch, band
        The data id.
    offset
        Number to add, to get another sequence for the same patch.

    Returns
    -------
    `int`
        A number below 2^31 that depends on nothing else: not on the machine,
        the version of Python or the order of the inputs.
    """
    digest = hashlib.sha256(f"{skymap}/{tract}/{patch}/{band}".encode()).digest()
    return (int.from_bytes(digest[:4], "big") + offset) % 2**31


def describe_run(
    config: Config, options: FitOptions, *, device: str, n_inputs: int, n_dropped: int
) -> dict[str, int | float | str]:
    """Say how a result was made, for the datasets and the task metadata.

    Parameters
    ----------
    config
        Configuration of the task.
    options
        What the fit was given.
    device
        What the fit ran on.
    n_inputs, n_dropped
        Exposures used and not used.

    Returns
    -------
    `dict`
        Plain values; the whole configuration is there as JSON.
    """
    text = json.dumps(config.toDict(), sort_keys=True, default=str)
    about = {
        "method": options.method,
        "recipe": options.recipe if options.method == "acn" else "",
        "target_fwhm": options.target_fwhm,
        "cell_size": options.cell_size,
        "halo": options.halo,
        "seed": options.seed,
        "device": device,
        "n_inputs": n_inputs,
        "n_dropped": n_dropped,
        "config": text,
        "config_sha256": hashlib.sha256(text.encode()).hexdigest(),
    }
    if (options.method, options.recipe) == ("acn", "trained"):
        from ..core.encoder._encoder import weights_digest

        about["weights_sha256"] = weights_digest(options.weights)
    for name in _DISTRIBUTIONS:
        about[f"version_{name.replace('-', '_')}"] = _find_version(name)
    return about


def summarize_run(fit: PatchFit, *, device: str, run_time: float) -> dict[str, int | float]:
    """Sum up a fit, for the task metadata.

    Parameters
    ----------
    fit
        The fit of the patch.
    device
        What the fit ran on.
    run_time
        Seconds since the task began.
    """
    n_pixels = np.array([exposure.n_pixels for exposure in fit.exposures], dtype=float)
    chi2 = np.array([exposure.chi2 for exposure in fit.exposures])
    return {
        "chi2": float(np.average(chi2, weights=n_pixels)),
        "n_cells": int(fit.latent_psf.shape[0] * fit.latent_psf.shape[1]),
        "n_missing_cells": len(fit.missing),
        "n_iterations": max((int(row.get("step", 0)) for row in fit.history), default=0),
        "run_time_s": run_time,
        "peak_memory_mb": float(get_peak_mem_usage()[0].to_value(u.Mbyte)),
        "peak_gpu_memory_mb": _find_peak_gpu_memory(device),
    }


def _find_version(name: str) -> str:
    """Return the version of a distribution."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed as a distribution"


def _find_peak_gpu_memory(device: str) -> float:
    """Return the GPU memory that torch took at most, in MB."""
    if not device.startswith("cuda"):
        return 0.0
    import torch

    return torch.cuda.max_memory_allocated() / 1e6
