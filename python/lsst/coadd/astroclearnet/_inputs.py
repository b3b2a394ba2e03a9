# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read, select and register the exposures of one patch."""

from __future__ import annotations

__all__ = (
    "CoaddInput",
    "FitFailedError",
    "InputRecord",
    "UnusableInputsError",
    "make_history_table",
    "make_inputs_table",
    "register_inputs",
)

import dataclasses
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import astropy.units as u
import numpy as np
from astropy.table import Table

from lsst.pipe.base import AlgorithmError

from .adapters import PatchGeometry
from .core import InputExposure, InvalidExposureError, Plane
from .core._register import WarpedExposure, warp_exposure

if TYPE_CHECKING:
    from .core import ExposureSummary


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class CoaddInput:
    """One exposure that may go into a coadd."""

    exposure_or_handle: Any
    """A ``VisitImage``, an ``ExposureF``, an `InputExposure`, or a handle
    whose ``get()`` returns one of them."""

    data_id: Mapping[str, Any]
    """``visit`` and ``detector``; also ``band`` and ``physical_filter`` where
    they are known."""

    visit_summary_row: Any = None
    """Record of an ``ExposureCatalog`` that replaces PSF, WCS and
    photometric calibration."""

    fault: str = ""
    """Why it cannot be used, where the caller knows already."""

    @property
    def label(self) -> str:
        """The data id as a user writes it (`str`)."""
        return f"visit={self.data_id['visit']} detector={self.data_id['detector']}"


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
    calibration: dict[str, float] = dataclasses.field(default_factory=dict)
    """What the fit found for each of `_CALIBRATION`."""

    @property
    def label(self) -> str:
        """The data id as the fit knows it (`str`)."""
        return f"visit={self.visit} detector={self.detector}"

    def summarize(self, fit: ExposureSummary) -> None:
        """Take over what the fit found."""
        self.weight, self.chi2 = fit.weight, fit.chi2
        self.n_good, self.n_rejected = fit.n_pixels, fit.n_rejected
        self.calibration = {name: getattr(fit, name) for name in _CALIBRATION}


class UnusableInputsError(AlgorithmError):
    """Too many of the inputs of a patch cannot be used."""

    def __init__(self, *, n_bad: int, n_inputs: int, first_reason: str, max_bad_fraction: float):
        self.n_bad, self.n_inputs, self.first_reason = n_bad, n_inputs, first_reason
        super().__init__(
            f"{n_bad} of {n_inputs} inputs cannot be used (max_bad_fraction is {max_bad_fraction:g}); "
            f"the first: {first_reason}"
        )

    @property
    def metadata(self) -> dict[str, int | str]:
        return {"n_bad": self.n_bad, "n_inputs": self.n_inputs, "first_reason": self.first_reason}


class FitFailedError(AlgorithmError):
    """The fit ran, but its result cannot be used."""

    def __init__(self, message: str, details: Mapping[str, float | int | str]):
        super().__init__(message)
        self._details = dict(details)

    @property
    def metadata(self) -> dict[str, float | int | str]:
        return self._details


def register_inputs(
    inputs: Sequence[CoaddInput],
    *,
    adapt: Callable[..., InputExposure],
    geometry: PatchGeometry,
    band: str,
    halo: int,
    bad: Plane,
    max_psf_fwhm: float,
    drop_bad: bool,
    scratch: Path | None,
    log: logging.Logger,
) -> tuple[list[WarpedExposure], list[InputRecord]]:
    """Read exposures one at a time and resample them to the patch.

    Parameters
    ----------
    inputs
        Exposures, in any order.
    adapt
        Adapter of the image library: ``adapt(image, data_id=, ...)``.
    geometry
        The patch.
    band
        Band of the patch.
    halo
        Border around the outer box that is filled too, in pixels.
    bad
        Planes whose pixels are left out.
    max_psf_fwhm
        Broadest PSF that is used, in pixels of the patch.
    drop_bad
        Whether an exposure that cannot be used is dropped with a warning.
    scratch
        Folder for the resampled exposures; `None` keeps them in memory.
    log
        Takes progress and warnings.

    Returns
    -------
    warped
        The exposures that are used, by visit and detector.
    records
        One record for each input, in the same order.

    Raises
    ------
    UnusableInputsError
        If an exposure cannot be used and ``drop_bad`` is not set; the text
        names it.
    """
    box = geometry.outer_bbox
    grid = dict(
        x0=box.x.start - halo,
        y0=box.y.start - halo,
        height=box.y.size + 2 * halo,
        width=box.x.size + 2 * halo,
    )
    ordered = sorted(inputs, key=lambda one: (one.data_id["visit"], one.data_id["detector"]))
    warped, records = [], []
    started = time.monotonic()
    for count, one in enumerate(ordered, start=1):
        record = InputRecord(visit=int(one.data_id["visit"]), detector=int(one.data_id["detector"]))
        records.append(record)
        try:
            exposure = _read(one, adapt, band)
            record.physical_filter = exposure.physical_filter
            result = warp_exposure(exposure, wcs=geometry.wcs, bad=bad, **grid)
        except InvalidExposureError as error:
            if not drop_bad:
                raise UnusableInputsError(
                    n_bad=1, n_inputs=len(ordered), first_reason=str(error), max_bad_fraction=0.0
                ) from error
            record.reason, record.bad = str(error), True
            log.warning("Dropping %s: %s", one.label, error)
            continue
        record.reason = _find_fault(result, geometry, max_psf_fwhm)
        if result is not None:
            record.psf_fwhm = result.psf_fwhm
        if record.reason:
            log.info("Leaving %s out: %s", one.label, record.reason)
            continue
        record.kept = True
        warped.append(result if scratch is None else result.moved_to(scratch))
        log.info(
            "Registered %s (%d/%d): PSF FWHM %.2f px, %.0f s.",
            *(one.label, count, len(ordered), result.psf_fwhm, time.monotonic() - started),
        )
    return warped, records


def _read(one: CoaddInput, adapt: Callable[..., InputExposure], band: str) -> InputExposure:
    """Get and adapt one exposure; any fault is an `InvalidExposureError`."""
    if one.fault:
        raise InvalidExposureError(f"{one.label} {one.fault}.")
    known = one.data_id.get("band", band)
    if known != band:
        raise InvalidExposureError(f"{one.label} has band {known!r}, the patch is made of band {band!r}.")
    image = one.exposure_or_handle
    if hasattr(image, "get"):
        try:
            image = image.get()
        except (OSError, ValueError, RuntimeError) as error:
            # What a Butler makes of a file that is missing, cut short, or not
            # what its formatter expects; the cause holds the telling text.
            text = " ".join(str(error.__cause__ or error).split())
            raise InvalidExposureError(f"{one.label} cannot be read: {text}") from error
    if isinstance(image, InputExposure):
        return image
    own = _find_band(image)
    if own is not None and own != band:
        raise InvalidExposureError(f"{one.label} has band {own!r}, the patch is made of band {band!r}.")
    options = {} if one.visit_summary_row is None else {"visit_summary_row": one.visit_summary_row}
    return adapt(image, data_id=one.data_id, **options)


def _find_band(image: Any) -> str | None:
    """Return the band of a ``VisitImage`` or an ``ExposureF``, if it has one.

    ``hasBandLabel`` and ``bandLabel``: lsst/afw image/_filterLabel.cc.
    """
    if hasattr(image, "getFilter"):
        label = image.getFilter()
        return label.bandLabel if label and label.hasBandLabel() else None
    return getattr(image, "band", None)


def _find_fault(warped: WarpedExposure | None, geometry: PatchGeometry, max_psf_fwhm: float) -> str:
    """Say why an exposure is not selected; empty if it is."""
    box = geometry.outer_bbox
    inside = warped and warped.slices_within(
        x0=box.x.start, y0=box.y.start, height=box.y.size, width=box.x.size
    )
    if not inside:
        return "does not overlap the patch"
    if not warped.good[inside[0]].any():
        return "no good pixel on the patch"
    if not warped.psf_fwhm <= max_psf_fwhm:
        return f"PSF FWHM of {warped.psf_fwhm:.2f} px is above max_psf_fwhm ({max_psf_fwhm:.2f} px)"
    return ""


_CALIBRATION = {
    "flux_scale": "Flux relative to the decoded latent image; NaN if there is no signal",
    "sky": "Sky above that of the decoded latent image, per pixel",
    "shift_x": "Position of the sources relative to the decoded latent image's, along x",
    "shift_y": "The same along y",
}
_CALIBRATION |= {f"{name}_error": f"Standard error of {name}" for name in _CALIBRATION}

_UNITS = {"weight": u.nJy**-2, "psf_fwhm_pixel": u.pix, "psf_fwhm_arcsec": u.arcsec}
_UNITS |= {name: u.pix for name in _CALIBRATION if name.startswith("shift")}
_UNITS |= {name: u.nJy for name in _CALIBRATION if name.startswith("sky")}
_DESCRIPTIONS = {
    "weight": "Mean of 1 / sky variance over the cells",
    "psf_fwhm_pixel": "FWHM of the PSF at the centre of the overlap, in pixels of the patch",
    "psf_fwhm_arcsec": "The same in arcsec",
    "n_good": "Pixels used, halos of cells not counted twice",
    "n_rejected": "Pixels among them that the fit clipped as artifacts",
    **_CALIBRATION,
    "chi2": "Reduced chi2 against the decoded latent image",
    "kept": "Whether the exposure was used",
    "reason": "Why it was dropped",
}


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
    kinds = {
        "cell_i": (np.int64, -1),
        "cell_j": (np.int64, -1),
        "stage": (str, ""),
        "step": (np.int64, -1),
        "loss": (float, np.nan),
        "held_out_loss": (float, np.nan),
        "chi2": (float, np.nan),
    }
    return Table(
        {
            name: np.array([row.get(name, missing) for row in rows], dtype=dtype)
            for name, (dtype, missing) in kinds.items()
        }
    )
