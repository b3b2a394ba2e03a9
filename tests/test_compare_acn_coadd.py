# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""The comparison task on plain objects, without a Butler."""

import collections
import importlib
import sys
import types

import numpy as np
import pytest
from astropy.table import Table
from matplotlib.figure import Figure
from test_assemble_acn_coadd import make_task, run

from lsst.coadd.astroclearnet._coadds import view_from_cell_coadd, view_from_exposure
from lsst.coadd.astroclearnet.compare_acn_coadd import (
    CompareAcnCoaddConfig,
    CompareAcnCoaddConnections,
    CompareAcnCoaddTask,
    IncomparableCoaddsError,
)
from lsst.coadd.astroclearnet.comparison._bundle import make_bundle
from lsst.coadd.astroclearnet.core import InputExposure, InvalidExposureError, Plane
from lsst.daf.butler import Butler, DatasetType
from lsst.images import Box
from lsst.pex.config import FieldValidationError
from lsst.pipe.base.testUtils import lintConnections

pytestmark = pytest.mark.usefixtures("hasty_filling")


@pytest.fixture(scope="module")
def coadds(small_patch):
    mean = run(make_task(method="mean"), small_patch)
    latent = run(make_task(mm_iterations=40), small_patch)
    return mean, latent


def compare(coadds, small_patch, *, truth=True, calexps=(), **fields):
    mean, latent = coadds
    config = CompareAcnCoaddConfig()
    config.update(**fields)
    config.validate()
    task = CompareAcnCoaddTask(config=config)
    inputs = dict(
        reference=mean.coadd,
        coadd=latent.coadd,
        latent=latent.latent,
        n_image=latent.n_image,
        inputs_table=latent.inputs_table,
        fit_history=latent.fit_history,
        run_metadata={"run_time_s": 12.5, "peak_memory_mb": 900.0},
        calexps=calexps,
    )
    if truth:
        inputs |= dict(truth_image=small_patch.truth_image, truth_catalog=small_patch.truth_catalog)
    return task.run(**inputs, title="a patch"), task


@pytest.fixture(scope="module")
def result(coadds, small_patch):
    return compare(coadds, small_patch)


def value(result, name, plane):
    table = result.metrics
    rows = table[(table["name"] == name) & (table["plane"] == plane)]
    assert len(rows) == 1, f"{name} of {plane}"
    return rows["value"][0]


def test_table_defines_what_it_lists(result):
    table = result[0].metrics
    assert table.colnames == [
        *("name", "plane", "value", "error", "unit", "n", "statistic", "definition"),
    ]
    assert set(table["plane"]) == {"deepCoadd", "acn_coadd", "acn_latent"}
    assert all(len(text) > 20 for text in table["definition"])
    keys = list(zip(table["name"], table["plane"], strict=True))
    assert len(set(keys)) == len(keys)


def test_latent_is_sharper_and_quieter_than_the_mean(result):
    outputs, _ = result
    assert value(outputs, "star_fwhm", "deepCoadd") > 0.6
    for plane in ("acn_coadd", "acn_latent"):
        assert value(outputs, "star_fwhm", plane) == pytest.approx(2.5 * 0.168, rel=0.1)
    assert value(outputs, "sky_rms", "acn_latent") < value(outputs, "sky_rms", "deepCoadd")


def test_fluxes_agree_with_the_truth(result):
    outputs, _ = result
    for plane in ("deepCoadd", "acn_coadd"):
        assert value(outputs, "star_flux_bias_snr_100", plane) == pytest.approx(0, abs=0.02)
    assert value(outputs, "flux_ratio_snr_100", "acn_coadd") == pytest.approx(1, abs=0.02)


def test_metadata_and_plot(result):
    outputs, task = result
    assert task.metadata["n_sources"] > 5 and task.metadata["n_stars"] >= 1
    for name in ("plot", "flux_plot", "psf_plot", "fit_plot", "exposure_plot"):
        figure = getattr(outputs, name)
        assert isinstance(figure, Figure)
        title = figure.get_suptitle()
        assert title.startswith("a patch\n") and "acn_coadd, acn_latent: mm" in title, name
    assert outputs.metric_bundle is None


def test_what_tables_tell_is_in_the_metrics(result, coadds):
    outputs, _ = result
    inputs = coadds[1].inputs_table
    assert value(outputs, "n_exposures", "acn_coadd") == len(inputs) == 4
    assert value(outputs, "exposure_chi2", "acn_coadd") == pytest.approx(np.median(inputs["chi2"]))
    for row in inputs:
        name = f"exposure_chi2_of_{row['visit']}_{row['detector']}"
        assert value(outputs, name, "acn_coadd") == row["chi2"]
    assert value(outputs, "run_time", "acn_coadd") == 12.5
    assert value(outputs, "peak_memory", "acn_coadd") == 900.0
    coadd = coadds[1].coadd
    for plane in ("INTERPOLATED", "CLIPPED"):
        share = np.mean(coadd.mask.get(plane))
        assert value(outputs, f"mask_fraction_{plane}", "acn_coadd") == share


def test_truth_tells_what_was_found(result):
    outputs, _ = result
    for plane in ("deepCoadd", "acn_coadd"):
        assert value(outputs, "completeness_snr_100", plane) > 0.7
        assert value(outputs, "purity", plane) > 0.7


def test_sharpest_exposure_is_drawn(coadds, small_patch):
    handles = [
        types.SimpleNamespace(dataId=one.data_id, get=lambda one=one: one.exposure_or_handle)
        for one in small_patch.inputs
    ]
    table = coadds[1].inputs_table
    outputs, _ = compare(coadds, small_patch, truth=False, calexps=handles, use_exposure=True)
    best = table["visit"][np.argmin(table["psf_fwhm_arcsec"])]
    titles = [axis.get_title() for axis in outputs.plot.axes]
    assert titles[0].startswith(f"visit {best}")
    shown = outputs.plot.axes[0].images[0].get_array()
    assert 5 < np.std(shown) and shown.shape == coadds[1].coadd.image.array.shape


def test_any_pair_of_coadds_can_be_compared(coadds):
    """Two coadds, and nothing else."""
    mean, latent = coadds
    config = CompareAcnCoaddConfig()
    config.update(use_latent=False, use_tables=False)
    outputs = CompareAcnCoaddTask(config=config).run(
        reference=latent.coadd, coadd=mean.coadd, names={"reference": "mine", "coadd": "yours"}
    )
    assert set(outputs.metrics["plane"]) == {"mine", "yours"}
    assert value(outputs, "flux_ratio_snr_100", "yours") == pytest.approx(1, abs=0.03)
    assert outputs.fit_plot is None and outputs.exposure_plot is None


def test_catalogue_alone_gives_biases(coadds, small_patch):
    """As of injected sources: named as lsst.source_injection names them."""
    truth = small_patch.truth_catalog
    catalog = Table(
        {
            "ra": truth["ra"],
            "dec": truth["dec"],
            "source_type": np.where(truth["type"] == "star", "DeltaFunction", "Sersic"),
            "mag": np.asarray(truth["mag"]),
            "half_light_radius": np.asarray(truth["half_light_radius"]),
            "n": np.asarray(truth["sersic_n"]),
        }
    )
    mean, latent = coadds
    config = CompareAcnCoaddConfig()
    config.update(use_catalog=True, use_tables=False)
    task = CompareAcnCoaddTask(config=config)
    inputs = dict(reference=mean.coadd, coadd=latent.coadd, latent=latent.latent)
    outputs = task.run(**inputs, truth_catalog=catalog)
    for plane in ("deepCoadd", "acn_coadd"):
        assert value(outputs, "star_flux_bias_snr_100", plane) == pytest.approx(0, abs=0.02)
    assert "purity" not in outputs.metrics["name"]
    with pytest.raises(IncomparableCoaddsError, match="no column flux"):
        catalog.remove_column("mag")
        task.run(**inputs, truth_catalog=catalog)


def test_without_truth_there_are_no_biases(coadds, small_patch):
    outputs, _ = compare(coadds, small_patch, truth=False)
    assert not any("bias" in name for name in outputs.metrics["name"])
    assert value(outputs, "flux_ratio_snr_100", "acn_coadd") == pytest.approx(1, abs=0.02)


def test_bins_follow_the_config(coadds, small_patch):
    outputs, _ = compare(coadds, small_patch, snr_edges=[10.0, 30.0])
    names = {name for name in outputs.metrics["name"] if name.startswith("flux_ratio")}
    assert names == {"flux_ratio_snr_10_30", "flux_ratio_snr_30"}


def test_another_patch_is_refused(coadds, small_patch):
    mean, latent = coadds
    box = mean.coadd.bbox
    cut = mean.coadd[Box.factory[box.y.start : box.y.start + 100, box.x.start : box.x.stop]]
    with pytest.raises(IncomparableCoaddsError, match="acn_coadd covers .*deepCoadd covers") as caught:
        CompareAcnCoaddTask().run(reference=cut, coadd=latent.coadd, n_image=latent.n_image)
    assert "deepCoadd" in caught.value.metadata["reason"]


def test_view_of_an_adapted_coadd_is_that_of_a_cell_coadd(coadds):
    """An ExposureF comes through its adapter and looks the same."""
    coadd = coadds[0].coadd
    expected = view_from_cell_coadd(coadd, name="deepCoadd")
    flags = np.zeros(coadd.image.array.shape, np.uint32)
    flags[coadd.mask.get("NO_DATA")] |= np.uint32(Plane.NO_DATA)
    flags[coadd.mask.get("SATURATED")] |= np.uint32(Plane.SATURATED)

    class Wcs:
        def pixel_to_sky(self, *, x, y):
            sky = coadd.sky_projection.pixel_to_sky(x=x, y=y)
            return sky.ra.deg, sky.dec.deg

    def psf(*, x, y):
        if x < coadd.bbox.x.start:
            raise InvalidExposureError("no input here")
        return coadd.psf.compute_kernel_image(x=x, y=y).array

    exposure = InputExposure(
        visit=0,
        detector=0,
        physical_filter="",
        image=coadd.image.array,
        variance=coadd.variance.array,
        flags=flags,
        x0=coadd.bbox.x.start,
        y0=coadd.bbox.y.start,
        psf=psf,
        wcs=Wcs(),
    )
    view = view_from_exposure(exposure, name="deepCoadd")
    assert view.box == expected.box and view.pixel_scale == pytest.approx(expected.pixel_scale, rel=1e-5)
    for plane in ("image", "variance", "bad", "saturated"):
        np.testing.assert_array_equal(getattr(view, plane), getattr(expected, plane))
    place = dict(x=view.x0 + 20, y=view.y0 + 30)
    np.testing.assert_array_equal(view.psf(**place), expected.psf(**place))
    assert view.psf(x=view.x0 - 5, y=view.y0) is None


def test_connections_follow_the_config():
    config = CompareAcnCoaddConfig()
    connections = CompareAcnCoaddConnections(config=config)
    tables = {"n_image", "inputs_table", "fit_history", "run_metadata"}
    assert set(connections.inputs) == {"reference", "coadd", "latent"} | tables
    assert "metric_bundle" not in connections.outputs
    config.use_truth, config.use_latent, config.image_model = True, False, "afw"
    config.use_exposure, config.write_metric_bundle = True, True
    connections = CompareAcnCoaddConnections(config=config)
    truth = {"truth_image", "truth_catalog"}
    assert set(connections.inputs) == {"reference", "coadd", "calexps"} | tables | truth
    assert connections.metric_bundle.storageClass == "MetricMeasurementBundle"
    assert connections.calexps.storageClass == "ExposureF"
    config.use_tables, config.coadd_model, config.use_truth, config.use_exposure = False, "afw", False, False
    other = CompareAcnCoaddConnections(config=config)
    assert set(other.inputs) == {"reference", "coadd"} and other.coadd.storageClass == "ExposureF"
    assert set(other.outputs) == {"metrics", "plot", "flux_plot", "psf_plot", "metric_bundle"}
    assert connections.reference.storageClass == "ExposureF"
    assert connections.coadd.storageClass == "CellCoadd"


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        (dict(use_truth=True, use_catalog=True), "set one of"),
        (dict(use_exposure=True, use_tables=False), "needs inputs_table"),
    ],
)
def test_settings_that_do_not_fit(fields, text):
    config = CompareAcnCoaddConfig()
    config.update(**fields)
    with pytest.raises(FieldValidationError, match=text):
        config.validate()


def test_bundle_is_that_of_analysis_tools(result, monkeypatch):
    """With stand-ins that have what analysis_tools c74f828 has."""

    class Measurement:
        def __init__(self, metric, quantity):
            self.metric_name, self.quantity = metric, quantity

    class Bundle(collections.UserDict):
        def __init__(self, *, dataset_identifier, reference_package, timestamp_version):
            super().__init__()

    for name, content in (
        ("lsst.analysis", {}),
        ("lsst.analysis.tools", {}),
        ("lsst.analysis.tools.interfaces", {"MetricMeasurementBundle": Bundle}),
        ("lsst.verify", {"Measurement": Measurement}),
    ):
        try:
            importlib.import_module(name)
        except ImportError:
            module = types.ModuleType(name)
            vars(module).update(content)
            monkeypatch.setitem(sys.modules, name, module)
    metrics = result[0].metrics
    bundle = make_bundle(metrics, band="i")
    found = {f"{key}_{one.metric_name}": one.quantity for key, values in bundle.items() for one in values}
    assert len(found) == sum(map(len, bundle.values()))
    expected = value(result[0], "star_fwhm", "acn_coadd")
    assert found["starFwhm_i_acn_coadd_median"].to_value("arcsec") == expected
    assert found["starFwhm_i_acn_coadd_count"].value > 0
    assert "e1Diff_i_deepCoadd_median" in found and "fluxRatio_i_acn_latent_snr_100_median" in found
    assert not any("29324" in name for name in found)


def test_bundle_in_a_butler(result, tmp_path):
    """Written and read as the full stack does, where that is installed."""
    reason = "MetricMeasurementBundle is of the full Science Pipelines"
    pytest.importorskip("lsst.analysis.tools.interfaces", reason=reason, exc_type=ImportError)
    metrics = result[0].metrics.copy()
    metrics["value"][metrics["name"] == "sky_rms"] = np.nan
    bundle = make_bundle(metrics, band="i")
    Butler.makeRepo(tmp_path / "repo")
    with Butler.from_config(tmp_path / "repo", run="run", writeable=True) as butler:
        name = "acnCoaddComparison_metrics"
        kind = DatasetType(name, (), "MetricMeasurementBundle", universe=butler.dimensions)
        butler.registry.registerDatasetType(kind)
        found = butler.get(butler.put(bundle, kind))
    assert type(found) is type(bundle) and list(found) == list(bundle)
    for key, expected in bundle.items():
        for one, other in zip(found[key], expected, strict=True):
            assert one.metric_name == other.metric_name and one.quantity.unit == other.quantity.unit
            np.testing.assert_equal(one.quantity.value, other.quantity.value)


def test_connections_are_sound():
    lintConnections(CompareAcnCoaddConnections)
