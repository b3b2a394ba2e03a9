# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Errors of the injection."""

from __future__ import annotations

__all__ = ("InjectionError",)

from ..core._errors import CoreError


class InjectionError(CoreError, ValueError):
    """Sources cannot be made or injected; one line that says why."""
