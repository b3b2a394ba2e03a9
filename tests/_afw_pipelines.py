# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs of pipelines on a repository of `_afw_repository`."""

from __future__ import annotations

import _pipelines
import numpy as np
from _pipelines import DEFAULTS, PIPELINES

from lsst.pipe.base import Instrument, LabelSpecifier, Pipeline

QUICK = {"method": "mm", "mm_iterations": 10, "cell_size": 120}
_STAMP = 25  # side of what is measured, in pixels


class Camera(Instrument):
    """The instrument of the repository; no obs package is needed."""

    @classmethod
    def getName(cls):
        return "HSC"

    def register(self, registry, *, update=False):
        raise NotImplementedError("It is in the repository already.")

    def getRawFormatter(self, dataId):
        raise NotImplementedError("There are no raw images.")


def load(name, label, fields, *, only=()):
    """Return a pipeline of ours for ExposureF, or some of its tasks."""
    pipeline = Pipeline.from_uri(f"{PIPELINES}/{name}.yaml")
    pipeline.addConfigOverride("parameters", "image_model", "afw")
    for field, value in fields.items():
        pipeline.addConfigOverride(label, field, value)
    return pipeline.subsetFromLabels(LabelSpecifier(labels=set(only))) if only else pipeline


def make(label, task, fields):
    """Return a pipeline of one task of the Science Pipelines."""
    pipeline = Pipeline(label)
    pipeline.addTask(task, label)
    for field, value in fields.items():
        pipeline.addConfigOverride(label, field, value)
    return pipeline


def execute(root, sky, pipeline, output, *, inputs=DEFAULTS):
    """Run a pipeline on the patch; return a Butler on what it wrote."""
    where = " AND ".join(f"{key}={value!r}" for key, value in sky.data_id.items())
    return _pipelines.execute(root, pipeline, output, inputs=inputs, where=where)[0]


def measure_fluxes(exposure, sky, *, fit):
    """Fit the PSF to each star, or sum the pixels around it; return fluxes
    and true ones, in nJy.
    """
    import lsst.geom

    fluxes = []
    for x, y, flux in sky.stars:
        place = lsst.geom.Point2D(x, y)
        box = lsst.geom.Box2I.makeCenteredBox(place, lsst.geom.Extent2I(_STAMP))
        if fit:
            model = exposure.psf.computeImage(place)
            box.clip(model.getBBox())
        weight = model[box].array / np.sum(model[box].array ** 2) if fit else 1.0
        fluxes.append((float(np.sum(weight * exposure.image[box].array)), flux))
    return np.array(fluxes).T
