# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Configuration of `AssembleAcnCoaddTask`."""

from __future__ import annotations

__all__ = ("AssembleAcnCoaddConfig",)

import dataclasses
import logging
import math

from lsst.pex.config import ChoiceField, ConfigField, Field, FieldValidationError, RangeField
from lsst.pipe.base import PipelineTaskConfig

from ._connections import AssembleAcnCoaddConnections
from ._trust_config import TrustConfig
from .core import FitOptions
from .core._options import DEVICES, LEAST_HALO, LINEAR_METHODS, METHODS, RECIPES
from .inputs._config import InputsConfig

_LOG = logging.getLogger(__name__)

_DEFAULTS = FitOptions()


class AssembleAcnCoaddConfig(
    InputsConfig, PipelineTaskConfig, pipelineConnections=AssembleAcnCoaddConnections
):
    """Configuration of `AssembleAcnCoaddTask`.

    The defaults are those of an installation by pip; ``config/hsc.py`` holds
    what a repository of the full Science Pipelines needs.
    """

    method = ChoiceField[str](
        doc="How the coadd is made. 'mm', 'kaiser' and 'mean' are the classical methods to compare with.",
        allowed=dict(METHODS),
        default=_DEFAULTS.method,
        optional=False,
    )
    recipe = ChoiceField[str](
        doc="Network used by method 'acn'. Change it to 'self' to do without trained weights, to 'paper' to "
        "compare with the published method.",
        allowed=dict(RECIPES),
        default=_DEFAULTS.recipe,
        optional=False,
    )
    weights = Field[str](
        doc="File of 'acn train' for recipe 'trained', in the place of the weights that are shipped. Each "
        "job must find it under this name.",
        default=None,
        optional=True,
    )
    target_fwhm = Field[float](
        doc="FWHM of the Gaussian PSF of the results, in pixels of the patch (at least 1.5). Lower it for "
        "sharper images with more noise; methods 'kaiser' and 'mean' have PSFs of their own. With more than "
        "two thirds of the halo cells show at their seams (above 0.2 sigma of the sky): raise halo with it.",
        default=_DEFAULTS.target_fwhm,
    )
    cell_size = Field[int](
        doc="Largest side of the cells in which the patch is worked, in pixels: the largest size up to it "
        "that divides both sides of the patch is used (100 for patches of 4100 x 4200 pixels, as at the "
        "edge of an HSC tract). Within a cell PSFs are taken to change linearly: lower it where the log "
        "warns that they change too much, or memory is short; 300 instead of 200 saves a quarter of the "
        "time. Where PSFs are the same all over the frames, cells of 200 and 400 pixels give the same images "
        "to 0.1 sigma in every pixel (benchmarks/results/planes.md). If PSFs vary by 1 % from the middle of "
        "the larger cell to its edge, up to 0.04 % of the pixels, in the brightest stars, change by more (by "
        "0.65 at most).",
        default=_DEFAULTS.cell_size,
    )
    halo = Field[int](
        doc="Border fitted with a cell and then cropped, in pixels. Raise it if cells show at their seams, "
        "and to at least 1.5 target_fwhm. 24 instead of 40 saves a fifth of the time, but single pixels near "
        "borders then depend on the size of the cells by up to 0.6 sigma of the sky, and steps reach 0.2.",
        default=_DEFAULTS.halo,
    )
    seed = Field[int](
        doc="Offset of the random seed, which otherwise comes from the data id alone. Change it to see how "
        "much of a result is chance.",
        default=0,
    )
    clip_sigma = Field[float](
        doc="Residual above which a pixel of an exposure can be clipped as an artifact, in sigma. Lower it "
        "if trails or cosmic rays are left; raise it if the cores of variable stars are clipped.",
        default=_DEFAULTS.clip_sigma,
    )
    mm_iterations = Field[int](
        doc="Iterations of method 'mm' (number). More sharpen further and make galaxies lumpy.",
        default=_DEFAULTS.mm_iterations,
    )
    self_steps = Field[int](
        doc="Optimiser steps of recipe 'self' (number). More cost proportionally more time.",
        default=_DEFAULTS.self_steps,
    )
    paper_steps = Field[int](
        doc="Optimiser steps of recipe 'paper' (number). More cost proportionally more time.",
        default=_DEFAULTS.paper_steps,
    )
    huber_delta = Field[float](
        doc="Residual at which the Huber loss becomes linear, in sigma. Lower it where outliers are common.",
        default=_DEFAULTS.huber_delta,
    )
    device = ChoiceField[str](
        doc="Where the fit runs. Set 'cuda' if a job without a GPU shall fail instead of being slow.",
        allowed=dict(DEVICES),
        default=_DEFAULTS.device,
        optional=False,
    )
    scratch = Field[str](
        doc="Folder, on a local disk, in which the resampled exposures are kept while the patch is fitted; "
        "what was put there is removed at the end. Empty keeps them in memory if they need less than 1 GB "
        "there, at 13 bytes for each pixel and exposure, and otherwise in the system's folder for temporary "
        "files (TMPDIR): 7.6 GB for 33 exposures of 4200 x 4200.",
        default="",
    )
    min_inputs = RangeField[int](
        doc="Visits below which nothing is made of a patch (number); several detectors of one count once. Of "
        "one visit alone (allowed by default, with a warning) no artifact can be clipped: raise it to 3 or "
        "more for science.",
        default=1,
        min=1,
    )
    on_bad_input = ChoiceField[str](
        doc="What an exposure gets that cannot be read, lacks PSF or WCS, or has the same pixels as another. "
        "One whose pixels cannot be converted to nJy is an error in any case.",
        allowed={
            "drop": "A warning and a row with the reason in the inputs table; the others are used.",
            "raise": "An error that names it.",
        },
        default="drop",
        optional=False,
    )
    max_bad_fraction = RangeField[float](
        doc="Fraction of the inputs that may be dropped by on_bad_input; with more the patch fails, because "
        "the cause is then hardly in the data. Raise it to 1 to take whatever is left.",
        default=0.5,
        min=0.0,
        max=1.0,
        inclusiveMax=True,
    )

    max_failed_cells = RangeField[float](
        doc="Fraction of the cells whose fit may fail; they are left without data (NO_DATA, counted as "
        "n_failed_cells in the metadata) with a warning each. With more the patch fails. Set it to 0 to have "
        "none that are not whole.",
        default=0.05,
        min=0.0,
        max=1.0,
    )

    trust = ConfigField(
        doc="Limits beyond which a pixel of the latent image must not be used (plane ACN_UNTRUSTED).",
        dtype=TrustConfig,
    )

    def validate(self) -> None:
        """Check the values against those that the fit accepts, and warn where
        two fields go ill together.

        Raises
        ------
        lsst.pex.config.FieldValidationError
            If a value is out of its range, or two fields do not agree.
        """
        super().validate()
        try:
            self.make_fit_options()
        except ValueError as error:
            name = str(error).split(maxsplit=1)[0]
            raise FieldValidationError(getattr(type(self), name), self, str(error)) from error
        most = self.select.n_visits_max
        if 0 < most < self.min_inputs:
            text = f"min_inputs ({self.min_inputs}) must not be above select.n_visits_max ({most})."
            raise FieldValidationError(type(self).min_inputs, self, text)
        if self.method not in LINEAR_METHODS and self.halo < LEAST_HALO * self.target_fwhm:
            _LOG.warning(
                "halo is %d pixels, less than %g times target_fwhm (%g pixels): cells will show at their "
                "seams. Set halo to %d or more.",
                *(self.halo, LEAST_HALO, self.target_fwhm, math.ceil(LEAST_HALO * self.target_fwhm)),
            )

    def make_fit_options(self, *, seed: int | None = None, n_threads: int = 0) -> FitOptions:
        """Translate the fields that concern the fit.

        Parameters
        ----------
        seed
            Seed of this patch; by default the field `seed`.
        n_threads
            Threads of torch; 0 leaves its own choice.

        Raises
        ------
        ValueError
            If a value is out of its range; the text begins with the field.
        """
        same = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(FitOptions)
            if field.name not in ("seed", "n_threads")
        }
        return FitOptions(seed=self.seed if seed is None else seed, n_threads=n_threads, **same)
