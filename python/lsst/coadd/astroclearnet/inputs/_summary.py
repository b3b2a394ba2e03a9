# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is known of an input before its pixels are read."""

from __future__ import annotations

__all__ = ("naming", "summarize_input")

import contextlib
import dataclasses
import logging
from collections.abc import Iterator

from .._errors import is_shortage
from ..adapters import ImageAdapter, InputSummary, StatisticTypeError, model_fwhm
from ..core import InputExposure, InvalidExposureError
from ._input import CoaddInput


def summarize_input(
    one: CoaddInput, adapter: ImageAdapter, names: frozenset[str], is_warp: bool, log: logging.Logger
) -> InputSummary:
    """Return what selection needs of an input; nothing if it cannot be read:
    what its pixels say decides then.
    """
    if one.skip:
        return InputSummary(visit=one.visit_statistics)
    image = one.exposure_or_handle
    try:
        with naming(one, "summarized"):
            if isinstance(image, InputExposure):
                summary = _summarize_exposure(image)
            elif is_warp:
                summary = adapter.summarize_warp(image, data_id=one.data_id)
            else:
                summary = adapter.summarize(image, data_id=one.data_id, extras=one.extras, names=names)
    except InvalidExposureError as error:
        log.info("No statistics: %s", error)
        summary = InputSummary()
    return dataclasses.replace(summary, visit=one.visit_statistics)


def _summarize_exposure(exposure: InputExposure) -> InputSummary:
    """Return the FWHM of the PSF at the centre of a frame."""
    height, width = exposure.image.shape
    x, y = exposure.x0 + (width - 1) / 2, exposure.y0 + (height - 1) / 2
    return InputSummary(psf_fwhm=model_fwhm(exposure.psf, exposure.wcs, x=x, y=y, label=exposure.label))


@contextlib.contextmanager
def naming(one: CoaddInput, done: str) -> Iterator[None]:
    """Name the input in whatever goes wrong while something is done to it.

    Models and formatters of other packages raise what they like; it is the
    fault of one input, and the others are not lost with it.
    """
    try:
        yield
    except (InvalidExposureError, StatisticTypeError):
        raise
    except Exception as error:
        if is_shortage(error):
            raise
        # The cause holds the telling text.
        cause = error.__cause__ or error
        text = " ".join(f"{type(cause).__name__}: {cause}".split())
        raise InvalidExposureError(
            f"{one.label} cannot be {done} ({text}); make it anew or leave it out."
        ) from error
