# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pipelines of the package that are run in the process of the tests."""

from __future__ import annotations

from conftest import WHERE

from lsst.pipe.base import Pipeline
from lsst.pipe.base.simple_pipeline_executor import SimplePipelineExecutor

PIPELINES = "resource://lsst.coadd.astroclearnet/resources/pipelines"
DEFAULTS = ("HSC/defaults",)


def load(name, **settings):
    """Return a pipeline, with some fields of its tasks, by label, set."""
    pipeline = Pipeline.from_uri(f"{PIPELINES}/{name}.yaml")
    for label, fields in settings.items():
        for field, value in fields.items():
            pipeline.addConfigOverride(label, field, value)
    return pipeline


def prepare(repo, pipeline, output, *, inputs=DEFAULTS, where=WHERE):
    """Return what runs a pipeline on the patch of the demo."""
    butler = SimplePipelineExecutor.prep_butler(str(repo), inputs=list(inputs), output=output)
    return SimplePipelineExecutor.from_pipeline(pipeline, where=where, butler=butler)


def execute(repo, pipeline, output, **options):
    """Run it; return a Butler on its output, and the quanta that ran."""
    executor = prepare(repo, pipeline, output, **options)
    quanta = executor.run(register_dataset_types=True)
    return executor.butler, quanta
