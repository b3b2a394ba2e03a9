# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether two coadds were made in the same way."""

from __future__ import annotations

__all__ = ("list_differences",)

import json
from collections.abc import Mapping
from typing import Any

_NAMES = ("version_coadd_astroclearnet", "weights_sha256", "n_inputs")
"""Of the metadata, beside the configuration."""

_FREE = ("connections", "device", "saveLogOutput", "scratch")
"""Fields of the configuration that change names and places alone."""


def list_differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """Name what two coadds of this package have been made with otherwise.

    Parameters
    ----------
    first, second
        Metadata of the coadds.

    Returns
    -------
    `list` [`str`]
        Fields of the configuration, the version of the package, the weights,
        the number of exposures; empty if nothing differs, or if either tells
        nothing: coadds of other makers.
    """
    if "config" not in first or "config" not in second:
        return []
    told = []
    for metadata in (first, second):
        config = json.loads(metadata["config"])
        values = {name: value for name, value in config.items() if name not in _FREE}
        told.append(values | {name: metadata.get(name) for name in _NAMES})
    absent = object()
    return [
        name
        for name in sorted({*told[0], *told[1]})
        if told[0].get(name, absent) != told[1].get(name, absent)
    ]
