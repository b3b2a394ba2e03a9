# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the fit runs."""

from __future__ import annotations

__all__ = ("describe_device", "select_device")

import torch

from ._errors import CoreError
from ._options import FitOptions


def select_device(options: FitOptions) -> torch.device:
    """Choose the device and set torch's threads.

    Parameters
    ----------
    options
        Fields ``device`` and ``n_threads``.

    Raises
    ------
    CoreError
        If CUDA or MPS is asked for and there is none.
    """
    _keep_memory()
    if options.n_threads:
        torch.set_num_threads(options.n_threads)
    for name, found in (("cuda", torch.cuda.is_available()), ("mps", torch.backends.mps.is_available())):
        if options.device == name and not found:
            raise CoreError(
                f"device={name!r} was asked for, but torch finds no {name.upper()} device; "
                "use 'auto' or 'cpu'."
            )
    if options.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(options.device)


def _keep_memory() -> None:
    """Teach the allocator not to give memory back after every operation.

    A free of a large block raises the size up to which glibc keeps freed
    memory (mallopt(3), M_MMAP_THRESHOLD; 32 MiB at most). Without it every
    image is made of new pages, which takes longer than its FFT.
    """
    torch.empty(31 * 2**20, dtype=torch.uint8)


def describe_device(device: torch.device) -> str:
    """Name a device for provenance (`str`)."""
    if device.type == "cuda":
        return f"cuda: {torch.cuda.get_device_name(device)}"
    if device.type == "mps":
        return "mps"
    n_threads = torch.get_num_threads()
    return f"cpu: {n_threads} thread{'s' * (n_threads != 1)}"
