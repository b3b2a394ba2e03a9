# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tables that say what each input gave and how the fit went."""

from __future__ import annotations

__all__ = ("InputRecord", "make_history_table", "make_inputs_table", "report_oddities")

import dataclasses
import logging
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import astropy.units as u
import numpy as np
from astropy.table import Table

if TYPE_CHECKING:
    from ..core import ExposureSummary


@dataclasses.dataclass(kw_only=True)
class InputRecord:
    """One row of the inputs table."""

    visit: int
    detector: int
    physical_filter: str = ""
    kept: bool = False
    reason: str = ""
    """Why it was dropped."""
    bad: bool = False
    """Dropped by `on_bad_input`, not by selection."""
    psf_fwhm: float = float("nan")
    """FWHM of the PSF, in pixels of the patch."""
    weight: float = float("nan")
    n_good: int = 0
    n_rejected: int = 0
    chi2: float = float("nan")
    noise_scale: float = float("nan")
    calibration: dict[str, float] = dataclasses.field(default_factory=dict)
    """What the fit found for each of `_CALIBRATION`."""

    @property
    def label(self) -> str:
        """The data id as the fit knows it (`str`)."""
        return f"visit={self.visit} detector={self.detector}"

    def summarize(self, fit: ExposureSummary) -> None:
        """Take over what the fit found."""
        self.weight, self.chi2, self.noise_scale = fit.weight, fit.chi2, fit.noise_scale
        self.n_good, self.n_rejected = fit.n_pixels, fit.n_rejected
        self.calibration = {name: getattr(fit, name) for name in _CALIBRATION}


_FITTED = {
    "flux_scale": "Flux relative to the decoded latent image; NaN if there is no signal",
    "sky": "Sky above that of the decoded latent image, per pixel",
    "shift_x": "Position of the sources relative to the decoded latent image's, along x",
    "shift_y": "The same along y",
}
_CALIBRATION: dict[str, str] = {}
for _name, _text in _FITTED.items():
    _CALIBRATION |= {_name: _text, f"{_name}_error": f"Standard error of {_name}"}
"""Columns that the fit fills, each value beside its error."""

_UNITS = {"weight": u.nJy**-2, "psf_fwhm_pixel": u.pix, "psf_fwhm_arcsec": u.arcsec}
_UNITS |= {name: u.pix for name in _CALIBRATION if name.startswith("shift")}
_UNITS |= {name: u.nJy for name in _CALIBRATION if name.startswith("sky")}
_DESCRIPTIONS = {
    "visit": "Visit of the exposure",
    "detector": "Its detector; -1 for a warp that was dropped as a whole",
    "physical_filter": "Its physical filter",
    "weight": "Mean of 1 / sky variance over the cells",
    "psf_fwhm_pixel": "FWHM of the PSF at the centre of the overlap, in pixels of the patch",
    "psf_fwhm_arcsec": "The same in arcsec",
    "n_good": "Pixels used, halos of cells not counted twice",
    "n_rejected": "Pixels among them that the fit clipped as artifacts",
    **_CALIBRATION,
    "chi2": "Reduced chi2 against the decoded latent image",
    "noise_scale": "What its variances were multiplied by to agree with its noise, mean over the cells; 1 if "
    "they were right or that could not be measured, NaN if the exposure was not used",
    "kept": "Whether the exposure was used",
    "reason": "Why it was dropped",
}

_HISTORY = {
    "cell_i": (np.int64, -1, "Row of the cell, counted from 0; -1 for training that all cells share"),
    "cell_j": (np.int64, -1, "Its column, likewise"),
    "stage": (str, "", "Part of the fit: the statistic, or the method or recipe that iterates"),
    "step": (np.int64, -1, "Step within the stage, counted from 0"),
    "loss": (float, np.nan, "Huber loss of the residuals in sigma, mean over the pixels in use (no unit)"),
    "held_out_loss": (float, np.nan, "The same over pixels held out from training; NaN if there are none"),
    "chi2": (float, np.nan, "Reduced chi2 of the exposures against the decoded latent image (no unit)"),
}
"""Type, value if missing, and description of each column of the history."""


_ODD = {
    "flux_scale": (1.0, 0.1, "of another flux scale than the others", "their photometric calibration"),
    "shift_x": (0.0, 0.3, "off along x against the others, in pixels", "their WCS"),
    "shift_y": (0.0, 0.3, "off along y against the others, in pixels", "their WCS"),
}
"""What is expected of an input, by how much it may be off, and what is said if
it is."""

_SIGNIFICANCE, _MOST_NAMED = 5.0, 5
"""Errors by which it must be off, and inputs that are named."""

_LINEAR_ERROR = {"flux_scale": 0.05}
"""Errors of what linear methods give, beside those by noise: their image is
smoothed by a model of the power of the sky, and with it the fluxes that the
inputs are compared with."""


def report_oddities(records: Sequence[InputRecord], log: logging.Logger, *, linear: bool = False) -> None:
    """Warn of inputs that the fit finds at odds with the others.

    Parameters
    ----------
    records
        Of all inputs, after the fit.
    log
        Gets one warning for each kind, which names the worst.
    linear
        Whether the method is one of `LINEAR_METHODS`.
    """
    for name, (expected, limit, what, cause) in _ODD.items():
        odd = {}
        for record in records:
            off = abs(record.calibration.get(name, float("nan")) - expected)
            error = record.calibration.get(f"{name}_error", float("nan"))
            error = math.hypot(error, _LINEAR_ERROR.get(name, 0.0) if linear else 0.0)
            if record.kept and off > limit and off > _SIGNIFICANCE * error:
                odd[record.label] = off
        if odd:
            worst = sorted(odd, key=lambda label: (-odd[label], label))[:_MOST_NAMED]
            values = {record.label: record.calibration[name] for record in records if record.calibration}
            log.warning(
                "Inputs %s: %s%s; %d in all. Check %s, or leave them out (acn_coadd_inputs has every one).",
                what,
                ", ".join(f"{label} ({values[label]:.2f})" for label in worst),
                ", ..." if len(odd) > len(worst) else "",
                len(odd),
                cause,
            )


def make_inputs_table(records: Sequence[InputRecord], *, pixel_scale: float) -> Table:
    """Make the table of the inputs.

    Parameters
    ----------
    records
        One for each input.
    pixel_scale
        Side of a pixel of the patch, in arcsec.
    """
    fwhm = np.array([record.psf_fwhm for record in records], dtype=float)

    def column(name: str, dtype: type | str) -> np.ndarray:
        return np.array([getattr(record, name) for record in records], dtype=dtype)

    table = Table(
        {
            "visit": column("visit", np.int64),
            "detector": column("detector", np.int32),
            "physical_filter": column("physical_filter", str),
            "weight": column("weight", float),
            "psf_fwhm_pixel": fwhm,
            "psf_fwhm_arcsec": fwhm * pixel_scale,
            "n_good": column("n_good", np.int64),
            "n_rejected": column("n_rejected", np.int64),
            **{
                name: np.array([record.calibration.get(name, np.nan) for record in records], dtype=float)
                for name in _CALIBRATION
            },
            "chi2": column("chi2", float),
            "noise_scale": column("noise_scale", float),
            "kept": column("kept", bool),
            "reason": column("reason", str),
        }
    )
    for name, unit in _UNITS.items():
        table[name].unit = unit
    for name, text in _DESCRIPTIONS.items():
        table[name].description = text
    return table


def make_history_table(rows: Sequence[Mapping[str, float | int | str]]) -> Table:
    """Make the table of the fit history.

    Parameters
    ----------
    rows
        As the fit returns them; a value that is not there becomes NaN (-1
        for numbers of cells and steps).
    """
    table = Table(
        {
            name: np.array([row.get(name, missing) for row in rows], dtype=dtype)
            for name, (dtype, missing, _) in _HISTORY.items()
        }
    )
    for name, (_, _, text) in _HISTORY.items():
        table[name].description = text
    return table
