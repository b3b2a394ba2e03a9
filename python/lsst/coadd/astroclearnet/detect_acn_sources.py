# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""The subtask that detects sources on a coadd whose noise is correlated.

The only module that cannot be imported without the full stack.
"""

from __future__ import annotations

__all__ = ("DetectAcnSourcesTask",)

from typing import Any

import numpy as np

from lsst.meas.algorithms import DynamicDetectionTask
from lsst.pipe.base import Struct

from .flux_errors import sky_scatter, variance_between_sources


class DetectAcnSourcesTask(DynamicDetectionTask):
    """Detect sources by the noise between sources.

    Takes the place of the ``detection`` subtask of
    ``lsst.pipe.tasks.multiBand.DetectCoaddSourcesTask``, with the same
    configuration; set ``thresholdType="pixel_stdev"`` and
    ``doThresholdScaling=False``.

    Processing summary: the smoothed image is compared with the variance
    without what faint sources add to it, which says how well they are known,
    not whether they are there; this is scaled to the scatter of the empty
    places, because the noise of the pixels is correlated. So a threshold is
    one in sigma, however many exposures have seen a place.
    """

    def convolveImage(self, maskedImage: Any, psf: Any, doSmooth: bool = True) -> Struct:  # noqa: N802, N803
        """Smooth an image, and give it the variance that sources are compared
        with.

        As lsst/meas_algorithms detection.py:504-564 does it, whose callers
        take noise from the result alone (dynamicDetection.py:455 and 511,
        detection.py:935).

        Parameters
        ----------
        maskedImage
            The coadd, ``lsst.afw.image.MaskedImageF``. Only its mask is
            changed: ``EDGE`` where it cannot be smoothed.
        psf
            The PSF to smooth with, ``lsst.afw.detection.Psf``.
        doSmooth
            Whether to smooth.

        Returns
        -------
        `lsst.pipe.base.Struct`
            ``middle``: the smoothed image without its edges; ``sigma``: the
            width of the PSF in pixels.
        """
        known = self._known(maskedImage)
        if not known.any():
            return super().convolveImage(maskedImage, psf, doSmooth=doSmooth)
        variance = maskedImage.variance.Factory(maskedImage.variance, True)
        variance.array[:] = variance_between_sources(variance.array, known)
        between = maskedImage.Factory(maskedImage.image, maskedImage.mask, variance)
        found = super().convolveImage(between, psf, doSmooth=doSmooth)
        middle, known = found.middle, self._known(found.middle)
        significance = np.where(known, middle.image.array / np.sqrt(middle.variance.array), 0)
        scatter = sky_scatter(significance, ~known) if known.any() else np.nan
        if scatter > 0:
            middle.variance.array[:] *= scatter**2
            self.metadata["noise_scatter"] = scatter
            self.log.info("The smoothed sky scatters by %.2f times what independent pixels would.", scatter)
        return found

    def _known(self, masked_image: Any) -> np.ndarray:
        """Return the pixels whose noise is looked at, bool ``(y, x)``."""
        bad = masked_image.mask.getPlaneBitMask(self.config.statsMask)
        return (masked_image.mask.array & bad) == 0
