# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Errors of the ingest."""

from __future__ import annotations

__all__ = ("IngestError",)

import contextlib
from collections.abc import Iterator
from pathlib import Path

from ..core._errors import CoreError


class IngestError(CoreError, ValueError):
    """The description or a file cannot be used; one line that says why."""


@contextlib.contextmanager
def naming_file(path: Path) -> Iterator[None]:
    """Name the file in whatever goes wrong while it is read.

    Libraries raise what they like for a damaged file, by where the damage is.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    IngestError
        Raised in place of any other error; one that was raised on purpose
        names the file already, and passes.
    """
    try:
        yield
    except (IngestError, MemoryError):
        raise
    except Exception as error:
        raise IngestError(f"{path} cannot be read: {_describe(error)}") from error


@contextlib.contextmanager
def naming_exposure(label: str) -> Iterator[None]:
    """Name the exposure in whatever goes wrong with it.

    Parameters
    ----------
    label
        Its data id, as a user writes it.

    Raises
    ------
    IngestError
        Raised in place of one that names the file only, and of what values
        of the files or of the description can cause later.
    """
    try:
        yield
    except IngestError as error:
        raise IngestError(f"{label}: {error}") from error
    except (OSError, LookupError, ValueError, TypeError, ArithmeticError) as error:
        raise IngestError(f"{label}: {type(error).__name__}: {_describe(error)}") from error


def _describe(error: Exception) -> str:
    if isinstance(error, IndexError):
        return "it has fewer HDUs or rows than are asked for"
    # A KeyError shows its text in quotation marks.
    text = error.args[0] if isinstance(error, KeyError) and error.args else error
    return str(text) or type(error).__name__
