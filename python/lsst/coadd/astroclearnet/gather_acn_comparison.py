# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""The task that gathers the comparisons of the patches of a tract."""

from __future__ import annotations

__all__ = (
    "GatherAcnComparisonConfig",
    "GatherAcnComparisonConnections",
    "GatherAcnComparisonTask",
)

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import lsst.pipe.base.connectionTypes as cT
from lsst.pex.config import ListField
from lsst.pipe.base import (
    NoWorkFound,
    PipelineTask,
    PipelineTaskConfig,
    PipelineTaskConnections,
    QuantumContext,
    Struct,
)
from lsst.utils.timer import timeMethod

if TYPE_CHECKING:
    from astropy.table import Table

_TRACT = ("skymap", "tract", "band")


class GatherAcnComparisonConnections(
    PipelineTaskConnections, dimensions=_TRACT, defaultTemplates={"coadd_name": "acn"}
):
    """Datasets of `GatherAcnComparisonTask`."""

    metrics = cT.Input(
        doc="Metrics of each patch.",
        name="{coadd_name}_coadd_comparison_metrics",
        storageClass="ArrowAstropy",
        dimensions=("skymap", "tract", "patch", "band"),
        multiple=True,
        deferLoad=True,
    )
    summary = cT.Output(
        doc="Each metric of each plane over the patches of the tract.",
        name="{coadd_name}_coadd_comparison_tract_metrics",
        storageClass="ArrowAstropy",
        dimensions=_TRACT,
    )
    table = cT.Output(
        doc="The metrics of all patches, with a column patch.",
        name="{coadd_name}_coadd_comparison_tract_table",
        storageClass="ArrowAstropy",
        dimensions=_TRACT,
    )
    tract_plot = cT.Output(
        doc="Some of the metrics, patch by patch.",
        name="{coadd_name}_coadd_comparison_tract_plot",
        storageClass="Plot",
        dimensions=_TRACT,
    )


class GatherAcnComparisonConfig(PipelineTaskConfig, pipelineConnections=GatherAcnComparisonConnections):
    """Configuration of `GatherAcnComparisonTask`."""

    plotted = ListField[str](
        doc="Names of the metrics that are drawn, a panel each; those that no patch has are left out.",
        default=[
            "star_fwhm",
            "star_over_psf_fwhm",
            "sky_rms",
            "point_source_depth",
            "flux_ratio_snr_100",
            "flux_ratio_snr_20_100",
            "n_sources",
            "false_positive_rate",
            "exposure_chi2",
            "run_time",
        ],
    )


class GatherAcnComparisonTask(PipelineTask):
    """Gather the metrics of patches into a table and a figure of the tract.

    Processing summary: stack the tables of the patches; take median, scatter
    and worst patch of each metric; draw some of them patch by patch.
    """

    ConfigClass = GatherAcnComparisonConfig
    _DefaultName = "gatherAcnComparison"
    config: GatherAcnComparisonConfig

    def runQuantum(  # noqa: N802
        self,
        butlerQC: QuantumContext,  # noqa: N803
        inputRefs: Any,  # noqa: N803
        outputRefs: Any,  # noqa: N803
    ) -> None:
        """Fetch the tables, run, put what came out."""
        handles = butlerQC.get(inputRefs)["metrics"]
        metrics = {int(handle.dataId["patch"]): _read(handle) for handle in handles}
        data_id = butlerQC.quantum.dataId
        title = "  ".join(f"{key}={data_id[key]}" for key in _TRACT)
        butlerQC.put(self.run(metrics=metrics, title=title), outputRefs)

    @timeMethod
    def run(self, *, metrics: Mapping[int, Table], title: str = "") -> Struct:
        """Gather tables; needs no Butler.

        Parameters
        ----------
        metrics
            Tables of `CompareAcnCoaddTask` by patch.
        title
            Written over the figure.

        Returns
        -------
        `lsst.pipe.base.Struct`
            ``table``: all rows, with a column ``patch``. ``summary``: one
            row a metric and plane, with columns ``name``, ``plane``,
            ``median``, ``scatter`` (half of 16 to 84 %), ``min``, ``max``,
            ``unit``, ``n_patches``, ``patch_min``, ``patch_max`` and
            ``definition``; metrics of single exposures are left out.
            ``tract_plot``: `~matplotlib.figure.Figure`.

        Raises
        ------
        lsst.pipe.base.NoWorkFound
            If there is no patch.
        """
        from .comparison._tract import (
            describe_patches,
            make_tract_figure,
            stack_patches,
            summarize_patches,
        )

        if not metrics:
            raise NoWorkFound("No patch of this tract was compared.")
        table = stack_patches(metrics)
        self.log.info("Gathered the metrics of %d patch%s.", len(metrics), "es" * (len(metrics) > 1))
        self.metadata["n_patches"] = len(metrics)
        title = "\n".join([title, *describe_patches(metrics)])
        figure = make_tract_figure(table, names=list(self.config.plotted), title=title)
        return Struct(table=table, summary=summarize_patches(table), tract_plot=figure)


def _read(handle: Any) -> Table:
    """Read a table with its meta, which the Butler drops unless told not to;
    older ones cannot be told.
    """
    drop = "strip_astropy_meta_yaml"
    known = drop in handle.ref.datasetType.storageClass.parameters
    return handle.get(parameters={drop: False} if known else None)
