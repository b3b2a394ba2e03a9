# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Errors of the core; the tasks translate them for the middleware."""

from __future__ import annotations

__all__ = (
    "CoreError",
    "FitError",
    "InvalidExposureError",
    "InvalidStackError",
    "SkippedExposureError",
    "UncalibratedExposureError",
)


class CoreError(Exception):
    """Base class of the errors that the core raises on purpose."""


class InvalidExposureError(CoreError, ValueError):
    """An input exposure cannot be used; the text says which and why."""


class SkippedExposureError(InvalidExposureError):
    """An input exposure is left out as a matter of course, as one without a
    final calibration is; the text says which and why.
    """


class UncalibratedExposureError(InvalidExposureError):
    """The pixels of an input exposure cannot be converted to nJy; the text
    says of which and why.
    """


class InvalidStackError(CoreError, ValueError):
    """A stack of exposures is not what the fit needs."""


class FitError(CoreError, RuntimeError):
    """The fit ran, but its result cannot be used."""

    def __init__(self, message: str, **metadata: float | int | str):
        super().__init__(message)
        self.metadata = metadata
