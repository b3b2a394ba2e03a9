# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Aperture corrections of a result, from those of its inputs."""

from __future__ import annotations

__all__ = ("ApertureCorrectionStacker",)

import logging
from collections.abc import Sequence

import numpy as np

from lsst.images import Box

from ..core._register import WarpedExposure
from ..core._stack import CellStack

_LOG = logging.getLogger(__name__)

_PSF_FLUX = "base_PsfFlux"
_VALUE, _ERROR = "_instFlux", "_instFluxErr"


class ApertureCorrectionStacker:
    """Average the corrections of the inputs in every cell.

    Parameters
    ----------
    warped
        The inputs on the pixel grid of the patch.
    linear
        Whether the result is a mean of its inputs. If not, it holds for a
        star the flux that its PSF has in the inputs, at a PSF that is known
        exactly, so that all algorithms find the same: each gets the
        correction of the PSF flux.

    Notes
    -----
    As ``CoaddApCorrMapStacker`` (lsst/cell_coadds 26e605c
    _coadd_ap_corr_map.py:24-214) with its default: the inverse corrections
    are averaged, because fluxes are. An input that lacks a correction is left
    out of its average, and so is one whose correction cannot be evaluated,
    with a warning.
    """

    def __init__(self, warped: Sequence[WarpedExposure], *, linear: bool):
        self._corrections = {one.label: one.aperture_corrections for one in warped}
        self._linear = linear
        self._cells: dict[tuple[int, int], dict[str, float]] = {}
        self._reported: set[tuple[str, str]] = set()

    def add(self, stack: CellStack, *, i: int, j: int, cell: Box) -> None:
        """Average the corrections at the centre of a cell.

        Parameters
        ----------
        stack
            What the fit of the cell gets.
        i, j
            Row and column of the cell.
        cell
            Pixels of the cell, without halo.
        """
        centre = {"x": cell.x.center, "y": cell.y.center}
        rows = []
        for label, variance, good in zip(stack.labels, stack.variance, stack.good, strict=True):
            values = self._evaluate(label, **centre)
            rows.append((1 / float(np.median(variance[good])), values))
        names = {name.removesuffix(_VALUE) for _, values in rows for name in values if name.endswith(_VALUE)}
        found = {}
        for name in names:
            known = [
                (weight, values[name + _VALUE], values.get(name + _ERROR, 0.0))
                for weight, values in rows
                if values.get(name + _VALUE, 0.0) > 0
            ]
            if known:
                weight, value, error = np.array(known).T
                mean = weight.sum() / (weight / value).sum()
                found[name + _VALUE] = mean
                found[name + _ERROR] = mean**2 * np.hypot.reduce(weight * error / value**2) / weight.sum()
        self._cells[i, j] = found if self._linear else _spread_psf_flux(found, names)

    def _evaluate(self, label: str, *, x: float, y: float) -> dict[str, float]:
        """Return the corrections of an input that have a value there; models
        of other packages raise what they like.
        """
        values = {}
        for name, field in self._corrections[label].items():
            try:
                values[name] = field(x=x, y=y)
            except MemoryError:
                raise
            except Exception as error:
                if (label, name) not in self._reported:
                    self._reported.add((label, name))
                    _LOG.warning(
                        "Aperture correction %s of %s cannot be evaluated (%s: %s); averages do without it.",
                        *(name, label, type(error).__name__, error),
                    )
        return values

    def forget(self, *, i: int, j: int) -> None:
        """Take back what was averaged in a cell."""
        self._cells.pop((i, j), None)

    def finish(self, *, shape: tuple[int, int]) -> dict[str, np.ndarray]:
        """Return the averages, by name ``(cell_y, cell_x)``; NaN where no
        input has one.
        """
        fields: dict[str, np.ndarray] = {}
        for (i, j), found in self._cells.items():
            for name, value in found.items():
                fields.setdefault(name, np.full(shape, np.nan))[i, j] = value
        return dict(sorted(fields.items()))


def _spread_psf_flux(found: dict[str, float], names: set[str]) -> dict[str, float]:
    """Give every algorithm the correction of the PSF flux."""
    if _PSF_FLUX + _VALUE not in found:
        return {}
    return {name + kind: found[_PSF_FLUX + kind] for name in names for kind in (_VALUE, _ERROR)}
