# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""The task that compares a latent coadd with a standard one."""

from __future__ import annotations

__all__ = (
    "CompareAcnCoaddConfig",
    "CompareAcnCoaddConnections",
    "CompareAcnCoaddTask",
    "IncomparableCoaddsError",
)

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lsst.images import Image
from lsst.pipe.base import AlgorithmError, AnnotatedPartialOutputsError, PipelineTask, QuantumContext, Struct
from lsst.utils.timer import timeMethod

from ._errors import ReasonError
from .comparison._connections import PATCH, CompareAcnCoaddConfig, CompareAcnCoaddConnections

if TYPE_CHECKING:
    from astropy.table import Table

    from ._coadds import CoaddView
    from .comparison._metrics import Comparison
    from .comparison._truth import Truth

_NAMES = {"reference": "deepCoadd", "coadd": "acn_coadd", "latent": "acn_latent"}


class IncomparableCoaddsError(ReasonError):
    """The coadds of a patch cannot be compared."""


class CompareAcnCoaddTask(PipelineTask):
    """Compare the coadds of a patch: a table of metrics and pictures.

    Processing summary: bring all planes to one PSF; measure the same sources
    in each; measure stars, sky, masks and seams on the planes as they are;
    detect in each and match; add what tables and metadata of the run tell;
    draw. Works for any two or three coadds on the same pixels.
    """

    ConfigClass = CompareAcnCoaddConfig
    _DefaultName = "compareAcnCoadd"
    config: CompareAcnCoaddConfig

    def runQuantum(  # noqa: N802
        self,
        butlerQC: QuantumContext,  # noqa: N803
        inputRefs: Any,  # noqa: N803
        outputRefs: Any,  # noqa: N803
    ) -> None:
        """Fetch datasets, run, put what came out."""
        inputs = butlerQC.get(inputRefs)
        names = {name: getattr(inputRefs, name).datasetType.name for name in _NAMES if name in inputs}
        data_id = butlerQC.quantum.dataId
        title = "  ".join(f"{key}={data_id[key]}" for key in PATCH)
        if "run_metadata" in inputs:
            inputs["run_metadata"] = _read_run(inputs["run_metadata"])
        try:
            outputs = self.run(**inputs, names=names, title=title, band=str(data_id["band"]))
        except AlgorithmError as error:
            raise AnnotatedPartialOutputsError.annotate(error, self, log=self.log) from error
        butlerQC.put(outputs, outputRefs)

    @timeMethod
    def run(
        self,
        *,
        reference: Any,
        coadd: Any,
        latent: Any = None,
        n_image: Image | None = None,
        inputs_table: Table | None = None,
        fit_history: Table | None = None,
        run_metadata: Mapping[str, float] | None = None,
        calexps: Sequence[Any] = (),
        truth_image: Image | None = None,
        truth_catalog: Table | None = None,
        names: Mapping[str, str] | None = None,
        title: str = "",
        band: str = "",
    ) -> Struct:
        """Compare coadds; needs no Butler.

        Parameters
        ----------
        reference
            Coadd to compare with, ``CellCoadd`` or ``ExposureF`` as
            `image_model` says.
        coadd
            Coadd to be compared, as `coadd_model` says.
        latent
            A third coadd, as `coadd_model` says.
        n_image
            Number of inputs used in each pixel.
        inputs_table, fit_history
            As `AssembleAcnCoaddTask` writes them.
        run_metadata
            With ``run_time_s`` and ``peak_memory_mb`` of the assembly.
        calexps
            Handles of exposures with a ``dataId``; the sharpest is drawn.
        truth_image
            Noiseless image, in nJy.
        truth_catalog
            Columns ``ra`` and ``dec`` in degrees, ``type`` or
            ``source_type`` (``star``, ``DeltaFunction``, or other); without
            ``truth_image`` also ``flux`` in nJy or ``mag``, and for galaxies
            ``half_light_radius`` in arcsec, ``sersic_n`` or ``n``, and if
            they are known axis ratio ``q`` and ``trunc`` in arcsec, where the
            profile ends. Columns with another unit are converted.
        names
            Name of each plane in the table and the pictures, by the names of
            these parameters; those of the connections by default.
        title
            Written over the pictures.
        band
            For the names of a bundle of metrics.

        Returns
        -------
        `lsst.pipe.base.Struct`
            ``metrics`` (`~astropy.table.Table`; how the planes were made is
            in ``meta["configuration"]``); ``plot``, ``flux_plot``,
            ``psf_plot``, ``fit_plot`` and ``exposure_plot``
            (`~matplotlib.figure.Figure`, or `None` without their input); and
            ``metric_bundle``, `None` unless `write_metric_bundle` is set.

        Raises
        ------
        IncomparableCoaddsError
            If the planes do not share their pixels, have no PSF, or have a
            unit that is not of flux density.
        """
        from astropy.table import vstack

        from ._coadds import view_coadd
        from .comparison._metrics import compare_views
        from .comparison._rows import make_table
        from .comparison._run import make_exposure_rows, make_run_rows

        names = _NAMES | dict(names or {})
        try:
            planes = [("reference", reference, self.config.image_model)]
            planes += [("coadd", coadd, self.config.coadd_model), ("latent", latent, self.config.coadd_model)]
            views = [
                view_coadd(image, image_model=model, name=names[plane])
                for plane, image, model in planes
                if image is not None
            ]
            truth = None if truth_catalog is None else self._view_truth(truth_image, truth_catalog, views[1])
            comparison = compare_views(
                views,
                truth=truth,
                detection_sigma=self.config.detection_sigma,
                aperture_radius=self.config.aperture_radius,
                snr_edges=[*self.config.snr_edges, math.inf],
                star_snr=self.config.star_snr,
                isolation=self.config.isolation,
            )
        except ValueError as error:
            raise IncomparableCoaddsError(str(error)) from error
        n_sources, n_stars = len(comparison.sources.x), int(np.sum(comparison.stars))
        self.log.info("Measured %d sources and %d stars in %d planes.", n_sources, n_stars, len(views))
        self.metadata["n_sources"], self.metadata["n_stars"] = n_sources, n_stars
        rows = [] if inputs_table is None else make_exposure_rows(inputs_table, names["coadd"])
        rows += [] if run_metadata is None else make_run_rows(run_metadata, names["coadd"])
        metrics: Table = vstack([comparison.metrics, make_table(rows)]) if rows else comparison.metrics
        metrics.meta["configuration"] = _describe(views)
        exposure = self._view_exposure(calexps, inputs_table, views[1])
        outputs = self._draw(views, comparison, n_image=n_image, exposure=exposure, truth=truth, title=title)
        return Struct(
            metrics=metrics,
            metric_bundle=self._bundle(metrics, band),
            **outputs,
            **self._draw_tables(inputs_table, fit_history, title=_title(title, views)),
        )

    def _view_truth(self, image: Image | None, catalog: Table, like: CoaddView) -> Truth:
        """Put the truth on the pixels of a coadd."""
        from ._coadds import view_from_truth
        from .comparison._truth import read_catalog

        view = None
        if image is not None:
            view = view_from_truth(image, fwhm=self.config.truth_fwhm, like=like)
        return read_catalog(catalog, like=like, view=view)

    def _view_exposure(
        self, handles: Sequence[Any], inputs_table: Table | None, like: CoaddView
    ) -> CoaddView | None:
        """Look at the sharpest of the exposures."""
        from .adapters import make_adapter
        from .comparison._exposure import choose_exposure, view_exposure

        chosen = None if inputs_table is None or not handles else choose_exposure(inputs_table)
        for handle in handles:
            if (handle.dataId["visit"], handle.dataId["detector"]) == chosen:
                data_id = {"visit": chosen[0], "detector": chosen[1]}
                adapter = make_adapter(self.config.image_model)
                return view_exposure(handle, like, adapter=adapter, data_id=data_id)
        return None

    def _draw(
        self,
        views: Sequence[CoaddView],
        comparison: Comparison,
        *,
        n_image: Image | None,
        exposure: CoaddView | None,
        truth: Truth | None,
        title: str,
    ) -> dict[str, Any]:
        """Make the pictures of the planes."""
        from .comparison.pictures._diagrams import make_flux_figure, make_psf_figure
        from .comparison.pictures._plots import make_comparison_figure

        title = _title(title, views)
        return {
            "plot": make_comparison_figure(
                views,
                comparison,
                n_image=None if n_image is None else np.asarray(n_image.array),
                exposure=exposure,
                extra=[truth.view] if truth and truth.view else [],
                title=title,
            ),
            "flux_plot": make_flux_figure(views, comparison, title=title),
            "psf_plot": make_psf_figure(views, comparison, title=title),
        }

    def _draw_tables(
        self, inputs_table: Table | None, fit_history: Table | None, *, title: str
    ) -> dict[str, Any]:
        """Make the pictures of the tables, as far as there are any."""
        from .comparison.pictures._diagrams import make_exposure_figure, make_fit_figure

        figures = {"fit_plot": None, "exposure_plot": None}
        if fit_history is not None:
            figures["fit_plot"] = make_fit_figure(fit_history, title=title)
        if inputs_table is not None:
            figures["exposure_plot"] = make_exposure_figure(inputs_table, title=title)
        return figures

    def _bundle(self, metrics: Table, band: str) -> Any:
        """Make the bundle of analysis_tools, where that is installed."""
        if not self.config.write_metric_bundle:
            self.log.debug(
                "No MetricMeasurementBundle: it needs lsst.analysis.tools of the full Science Pipelines."
            )
            return None
        from .comparison._bundle import make_bundle

        return make_bundle(metrics, band=band)


def _describe(views: Sequence[CoaddView]) -> list[str]:
    """Write lines about how the planes were made."""
    names: dict[str, list[str]] = {}
    for view in views:
        names.setdefault(view.configuration, []).append(view.name)
    return [f"{', '.join(made)}: {how}" for how, made in names.items() if how]


def _title(title: str, views: Sequence[CoaddView]) -> str:
    """Add to a data id how the planes were made."""
    return "\n".join([title, *_describe(views)])


def _read_run(metadata: Any) -> dict[str, float]:
    """Find run time and memory in the metadata of a task."""
    wanted = ("run_time_s", "peak_memory_mb")
    for task in metadata.names():
        part = metadata[task]
        found = {name: float(part[name]) for name in wanted if hasattr(part, "names") and name in part}
        if found:
            return found
    return {}
