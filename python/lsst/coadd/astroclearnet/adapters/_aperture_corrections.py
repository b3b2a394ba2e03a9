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
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from lsst.images import Box

from ..core._stack import CellStack
from ..core.warp._register import WarpedExposure

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
    are averaged, because fluxes are, by weight and by the pixels that an input
    has in the cell (there each input fills its cell). One that has none there,
    but in the halo, does not count. An input that lacks a correction is left
    out of its average, and so is one whose correction cannot be evaluated,
    with a warning.
    """

    def __init__(self, warped: Sequence[WarpedExposure], *, linear: bool):
        self._corrections = {one.label: one.aperture_corrections for one in warped}
        self._linear = linear
        self._cells: dict[tuple[int, int], list[tuple[str, float, dict[str, float]]]] = {}
        self._reported: set[tuple[str, str]] = set()

    def add(self, stack: CellStack, *, i: int, j: int, cell: Box) -> None:
        """Note the corrections at the centre of a cell.

        Parameters
        ----------
        stack
            What the fit of the cell gets; its halo is the same on all sides.
        i, j
            Row and column of the cell.
        cell
            Pixels of the cell, without halo.
        """
        halo = (stack.image.shape[1] - cell.y.size) // 2
        inner = slice(halo, halo + cell.y.size), slice(halo, halo + cell.x.size)
        self._cells[i, j] = []
        for label, variance, good in zip(stack.labels, stack.variance, stack.good, strict=True):
            seen = good[inner]
            if seen.any():
                weight = seen.sum() / float(np.median(variance[inner][seen]))
                values = self._evaluate(label, x=cell.x.center, y=cell.y.center)
                self._cells[i, j].append((label, weight, values))

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

    def finish(
        self, *, shape: tuple[int, int], noise_scale: Mapping[str, float] = MappingProxyType({})
    ) -> dict[str, np.ndarray]:
        """Return the averages, by name ``(cell_y, cell_x)``; NaN where no
        input has one.

        Parameters
        ----------
        shape
            Rows and columns of cells.
        noise_scale
            What the fit has multiplied the variances of an input by; 1 for
            those that are not there.
        """
        fields: dict[str, np.ndarray] = {}
        for (i, j), rows in self._cells.items():
            scaled = [(weight / noise_scale.get(label, 1.0), values) for label, weight, values in rows]
            found = _average(scaled)
            for name, value in (found if self._linear else _spread_psf_flux(found)).items():
                if np.isfinite(value):
                    fields.setdefault(name, np.full(shape, np.nan))[i, j] = value
        return dict(sorted(fields.items()))


def _average(rows: Sequence[tuple[float, Mapping[str, float]]]) -> dict[str, float]:
    """Average the inverses of the corrections of some inputs by weight; NaN
    for an algorithm of which none has one.
    """
    names = {name.removesuffix(_VALUE) for _, values in rows for name in values if name.endswith(_VALUE)}
    found = {}
    for name in names:
        known = [
            (weight, values[name + _VALUE], values.get(name + _ERROR, 0.0))
            for weight, values in rows
            if 0 < values.get(name + _VALUE, 0.0) < np.inf
        ]
        weight, value, error = np.array(known).reshape(-1, 3).T
        with np.errstate(invalid="ignore"):
            mean = weight.sum() / (weight / value).sum()
            found[name + _VALUE] = mean
            found[name + _ERROR] = mean**2 * np.hypot.reduce(weight * error / value**2) / weight.sum()
    return found


def _spread_psf_flux(found: Mapping[str, float]) -> dict[str, float]:
    """Give every algorithm the correction of the PSF flux."""
    if _PSF_FLUX + _VALUE not in found:
        return {}
    return {name: found[_PSF_FLUX + (_ERROR if name.endswith(_ERROR) else _VALUE)] for name in found}
