# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Configuration of what marks a pixel of the latent as not to be used."""

from __future__ import annotations

__all__ = ("TrustConfig",)

import dataclasses

from lsst.pex.config import Config, FieldValidationError, RangeField

from .core.patch._trust import TrustLimits

_DEFAULTS = TrustLimits()


class TrustConfig(Config):
    """Limits beyond which a pixel gets the plane ACN_UNTRUSTED.

    The plane is about the latent image; the coadd, which holds the data that
    the latent does not, has it too.
    """

    halo = RangeField[int](
        doc="Pixels around saturated ones whose latent is not trusted either (number). Raise it if rings "
        "are left around bleed trails.",
        default=_DEFAULTS.halo,
        min=0,
    )
    min_inputs = RangeField[int](
        doc="Inputs of a pixel below which its latent is not trusted (number). Raise it to 3 where cosmic "
        "rays were not masked: of two exposures it is not always clear which has one.",
        default=_DEFAULTS.min_inputs,
        min=1,
    )
    misfit = RangeField[float](
        doc="Flux that the exposures together say is missing or too much, as a point source in units of its "
        "error (noise, and 2 % of the flux there). Lower it for catalogues that must be clean.",
        default=_DEFAULTS.misfit,
        min=0.0,
        inclusiveMin=False,
    )
    chi2 = RangeField[float](
        doc="Reduced chi2 of the exposures about the latent within a few pixels above which a pixel is not "
        "trusted; it sees variable and moving sources and faults of single exposures, too. Lower it to mark "
        "more of them.",
        default=_DEFAULTS.chi2,
        min=1.0,
    )
    cell_chi2 = RangeField[float](
        doc="Median over a cell of the chi2 that the field chi2 limits, above which none of the cell is "
        "trusted. Raise it where the variances of the inputs are too small.",
        default=_DEFAULTS.cell_chi2,
        min=1.0,
    )
    loss_change = RangeField[float](
        doc="Relative change of the loss over the second half of the steps above which the fit of a cell has "
        "not converged; for the methods and recipes that iterate.",
        default=_DEFAULTS.loss_change,
        min=0.0,
        inclusiveMin=False,
    )

    min_seeing = RangeField[float](
        doc="Least FWHM of the PSF of all inputs of a cell together, in pixels of the patch. Stars that are "
        "sampled with less lose light in the latent; lower it only to look at such images.",
        default=_DEFAULTS.min_seeing,
        min=0.0,
    )
    max_seeing = RangeField[float](
        doc="Most FWHM of the PSF of all inputs of a cell together, in pixels of the patch: with more, "
        "bright stars are too faint and broader than the PSF of the results. A few sharp inputs among broad "
        "ones help less than their share: what counts is how much detail all show together. Raise it to 6 "
        "with target_fwhm of 3.5 or more.",
        default=_DEFAULTS.max_seeing,
        min=0.0,
        inclusiveMin=False,
    )

    psf_change = RangeField[float](
        doc="Most change of the PSF of all inputs of a cell together from the middle of the cell to its "
        "corner, relative to it (norm of the difference over that of the PSF; 0.3 is a change of the FWHM by "
        "a quarter). Within a cell PSFs are taken to change linearly. Lower cell_size rather than raise it.",
        default=_DEFAULTS.psf_change,
        min=0.0,
        inclusiveMin=False,
    )

    def validate(self) -> None:
        """Check that some seeing is within the limits.

        Raises
        ------
        lsst.pex.config.FieldValidationError
            If none is.
        """
        super().validate()
        if self.min_seeing >= self.max_seeing:
            text = f"min_seeing ({self.min_seeing:g}) must be below max_seeing ({self.max_seeing:g})."
            raise FieldValidationError(type(self).min_seeing, self, text)

    def make_limits(self) -> TrustLimits:
        """Translate to what the core takes."""
        names = [field.name for field in dataclasses.fields(TrustLimits)]
        return TrustLimits(**{name: getattr(self, name) for name in names})
