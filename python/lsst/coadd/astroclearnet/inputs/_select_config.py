# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Cuts by which visits and detectors are selected."""

from __future__ import annotations

__all__ = ("FALLBACK", "SelectInputsConfig")

from collections.abc import Mapping

from lsst.pex.config import Config, DictField, Field, FieldValidationError, ListField, RangeField

FALLBACK = "fallback"
"""Key of limits for bands that have none of their own."""


class SelectInputsConfig(Config):
    """Cuts on visits and detectors.

    Names and defaults are those of ``PsfWcsSelectImagesConfig`` and
    ``BestSeeingSelectVisitsConfig`` (lsst/pipe_tasks 5b638a48
    selectImages.py:294-400, 625-667), those of visits as lsst/drp_pipe a5ef3ba
    DRP-minimal-calibration.yaml:50-57 sets them.
    """

    max_visit_psf_fwhm = Field[float](
        doc="FWHM of the PSF, mean over the visit, above which a visit is not used, in arcsec; None, not "
        "0, for no limit. Lower it for sharper coadds where there are visits enough.",
        default=2.0,
        optional=True,
    )
    min_visit_psf_fwhm = Field[float](
        doc="FWHM of the PSF, mean over the visit, below which a visit is not used, in arcsec; None for no "
        "limit. Raise it where the best seeing undersamples the PSF.",
        default=None,
        optional=True,
    )
    n_visits_max = RangeField[int](
        doc="Visits used at most, the best seeing first (number); -1 for all. Those are counted that other "
        "cuts leave on the patch, before their pixels are read: one that then has no good pixel there is not "
        "replaced. Set it where cost matters more than depth.",
        default=-1,
        min=-1,
    )
    min_visit_values = DictField[str, float](
        doc="Means over the detectors of a visit below which it is not used, by column of the visit summary, "
        "e.g. {'effTimeZeroPointScale': 0.75} for LSSTCam.",
        default={},
    )
    max_psf_fwhm = Field[float](
        doc="FWHM of the PSF above which a detector is not used, in arcsec; None, not 0, for no limit. It is "
        "checked in the summary statistics, and again for the PSF model on the patch.",
        default=1.8,
        optional=True,
    )
    max_ellip_residual = Field[float](
        doc="Median ellipticity residual of the PSF stars above which a detector is not used; None, not "
        "0, for no limit. Needs inputs='visits'.",
        default=0.007,
        optional=True,
    )
    max_size_scatter = Field[float](
        doc="Scatter of the residual of the size of the PSF stars above which a detector is not used, in "
        "pixel; None, not 0, for no limit. Needs inputs='visits'.",
        default=None,
        optional=True,
    )
    max_scaled_size_scatter = Field[float](
        doc="Scatter of the residual of the size of the PSF stars, relative to the median size, above which "
        "a detector is not used; None, not 0, for no limit. Needs inputs='visits'.",
        default=0.019,
        optional=True,
    )
    max_psf_trace_radius_delta = Field[float](
        doc="Range of the trace radius of the PSF model over the detector above which it is not used, in "
        "pixel; None, not 0, for no limit. Needs inputs='visits'.",
        default=0.7,
        optional=True,
    )
    max_psf_ap_flux_delta = Field[float](
        doc="Range of the aperture flux of the PSF model over the detector above which it is not used "
        "(fraction); None, not 0, for no limit. Needs inputs='visits'.",
        default=0.24,
        optional=True,
    )
    max_psf_ap_corr_sigma_scaled_delta = Field[float](
        doc="Range of the aperture correction over the detector, by PSF sigma, above which it is not used; "
        "None, not 0, for no limit. Needs inputs='visits'.",
        default=0.22,
        optional=True,
    )
    min_n_psf_star = DictField[str, int](
        doc="Stars of the PSF model below which a detector is not used (number), by band; 'fallback' is for "
        "other bands, 0 for no limit. Needs inputs='visits'.",
        default={FALLBACK: 6},
    )
    max_star_e = DictField[str, float](
        doc="Median ellipticity of the PSF stars above which a detector is not used, by band; 'fallback' is "
        "for other bands, inf, not 0, for no limit. Needs inputs='visits'.",
        default={FALLBACK: 0.4},
    )
    max_star_unnormalized_e = DictField[str, float](
        doc="Median ellipticity of the PSF stars that is not divided by their size above which a detector is "
        "not used, in pixel^2, by band; 'fallback' is for other bands, inf, not 0, for no limit. "
        "Needs inputs='visits'.",
        default={FALLBACK: 2.8},
    )
    exclude_detectors = ListField[int](
        doc="Detectors that are never used, by number, e.g. [9] for a CCD of HSC that is dead; of a warp, "
        "their parts are left out.",
        default=[],
    )

    def validate(self) -> None:
        """Check that every band has a limit, and that no limit rejects all.

        Raises
        ------
        lsst.pex.config.FieldValidationError
            If a limit is missing or not positive, or no visit can pass.
        """
        super().validate()
        for name in ("min_n_psf_star", "max_star_e", "max_star_unnormalized_e"):
            if FALLBACK not in getattr(self, name):
                raise FieldValidationError(getattr(type(self), name), self, f"{name} needs a key 'fallback'.")
        for name, value in self.items():
            if name.startswith("max_"):
                self._check_positive(name, value)
        low, high = self.min_visit_psf_fwhm, self.max_visit_psf_fwhm
        if low is not None and high is not None and low > high:
            text = f"min_visit_psf_fwhm ({low:g}) must not be above max_visit_psf_fwhm ({high:g})."
            raise FieldValidationError(type(self).min_visit_psf_fwhm, self, text)
        if self.n_visits_max == 0:
            text = "n_visits_max must not be 0, which leaves nothing; use -1 for all."
            raise FieldValidationError(type(self).n_visits_max, self, text)

    def _check_positive(self, name: str, value: float | Mapping[str, float] | None) -> None:
        """Refuse limits that reject all inputs: 0 is no limit in most of
        ``PsfWcsSelectImagesConfig``, whence it may have been copied.
        """
        by_band = isinstance(value, Mapping)
        limits = value.values() if by_band else [value]
        if all(limit is None or limit > 0 for limit in limits):
            return
        none = "inf" if by_band else "None"
        text = f"{name} must be positive; use {none}, not 0, for no limit."
        raise FieldValidationError(getattr(type(self), name), self, text)
