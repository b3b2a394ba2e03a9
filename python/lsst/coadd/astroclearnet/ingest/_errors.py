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

from ..core._errors import CoreError


class IngestError(CoreError, ValueError):
    """The description or a file cannot be used; one line that says why."""
