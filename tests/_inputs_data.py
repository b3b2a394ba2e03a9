# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Configurations and changed inputs that the tests of inputs share."""

from __future__ import annotations

import dataclasses

from lsst.coadd.astroclearnet._assemble_config import AssembleAcnCoaddConfig


def make_config(*, select=None, **fields):
    config = AssembleAcnCoaddConfig()
    config.update(**({"method": "mean"} | fields))
    config.select.update(**(select or {}))
    config.validate()
    return config


def change(one, change, **fields):
    """Return an input with a changed copy of its image."""
    image = one.exposure_or_handle.copy()
    change(image)
    return dataclasses.replace(one, exposure_or_handle=image, **fields)
