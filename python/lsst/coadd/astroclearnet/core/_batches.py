# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""How many exposures are worked at once, and less where memory is short."""

from __future__ import annotations

__all__ = ("parts", "try_smaller_batches")

import logging
import sys
from collections.abc import Callable, Iterator

import torch

from ._errors import FitError

_LOG = logging.getLogger(__name__)


class _Limit:
    """Most images of a batch, of all fits of this process: what did not fit
    into the memory of the device once does not the next time.
    """

    images = sys.maxsize


def parts(images: torch.Tensor) -> Iterator[slice]:
    """Cut a stack into the slices in which it is worked: single images on a
    CPU, whose cache holds one, and as many as its memory takes elsewhere.
    """
    size = 1 if images.device.type == "cpu" else max(1, min(len(images), _Limit.images))
    return (slice(k, k + size) for k in range(0, len(images), size))


def try_smaller_batches[T](function: Callable[[], T], *, n: int) -> T:
    """Call a function, again with smaller batches if memory does not suffice.

    Parameters
    ----------
    function
        Works a stack in `parts`; gives the same however often it is called.
    n
        Images of the stack.

    Returns
    -------
    object
        What the function returns.

    Raises
    ------
    FitError
        If the memory of the device does not suffice for batches of 1.
    """
    while True:
        try:
            return function()
        except torch.OutOfMemoryError as error:
            smaller = min(n, _Limit.images) // 2
            if smaller < 1:
                raise FitError(
                    "The memory of the device does not suffice for one exposure of a cell: make cells "
                    "smaller, or fit on the CPU."
                ) from error
            _LOG.warning("The device is out of memory: exposures are worked in batches of %d.", smaller)
            _Limit.images = smaller
        # Outside of the handler: the error keeps what the function had made.
        _free_cached_memory()


def _free_cached_memory() -> None:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()
