# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""The folder in which resampled exposures are kept while a patch is fitted."""

from __future__ import annotations

__all__ = ("Scratch", "open_scratch")

import contextlib
import dataclasses
import logging
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ..core.warp._register import WarpedExposure

_BYTES_A_PIXEL, _MOST_BYTES_IN_MEMORY = 13, 1e9
"""Of resampled exposures: what a pixel takes, and what all may take before
they are written to disk."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scratch:
    """Keeps resampled exposures, in a folder or in memory."""

    folder: Path | None = None
    """A folder of our own; `None` for memory."""

    n_bytes: float = 0.0
    """What all may take, about."""

    def keep(self, one: WarpedExposure) -> WarpedExposure:
        """Return the same exposure, moved to the folder if there is one.

        Raises
        ------
        OSError
            If it cannot be written, as on a full disk; the text says where.
        """
        if self.folder is None:
            return one
        try:
            return one.moved_to(self.folder)
        except OSError as error:
            raise OSError(
                f"The resampled {one.label} cannot be written to {self.folder} ({error}). "
                f"{self.describe()} Name another folder in the field scratch."
            ) from error

    def describe(self) -> str:
        """Return what is needed and what is free as a sentence (`str`)."""
        free = shutil.disk_usage(self.folder).free
        return f"All may need {self.n_bytes / 1e9:.1f} GB, {free / 1e9:.1f} GB are free there."

    def warn_if_small(self, log: logging.Logger) -> None:
        """Warn before anything is read where the folder may become full: how
        much of the patch each exposure covers is not known yet.
        """
        if self.folder is not None and shutil.disk_usage(self.folder).free < self.n_bytes:
            log.warning(
                "Resampled exposures go to %s. %s If it becomes full, name another folder in the field "
                "scratch.",
                self.folder,
                self.describe(),
            )


@contextlib.contextmanager
def open_scratch(folder: str, *, n_inputs: int, n_pixels: int, log: logging.Logger) -> Iterator[Scratch]:
    """Make a folder of our own below one, or below that for temporary files
    where memory will not do, and remove it at the end.

    Parameters
    ----------
    folder
        Below which; empty for memory or the folder for temporary files.
    n_inputs
        Exposures that may be kept.
    n_pixels
        Pixels of the patch.
    log
        Takes a warning if the folder is too small, or cannot be removed.
    """
    n_bytes = _BYTES_A_PIXEL * n_inputs * n_pixels
    if not folder and n_bytes < _MOST_BYTES_IN_MEMORY:
        yield Scratch()
        return
    # NFS keeps files that are still mapped; a fit is not lost for that.
    with tempfile.TemporaryDirectory(prefix="acn-", dir=folder or None, ignore_cleanup_errors=True) as name:
        scratch = Scratch(folder=Path(name), n_bytes=n_bytes)
        scratch.warn_if_small(log)
        yield scratch
    if Path(name).exists():
        log.warning("The folder %s could not be removed; remove it by hand.", name)
