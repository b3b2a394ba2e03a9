# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""The comparison task on plain objects, without a Butler."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from test_assemble_acn_coadd import make_task, run

from lsst.coadd.astroclearnet._coadds import view_from_cell_coadd, view_from_exposure
from lsst.coadd.astroclearnet.compare_acn_coadd import (
    CompareAcnCoaddConfig,
    CompareAcnCoaddConnections,
    CompareAcnCoaddTask,
    IncomparableCoaddsError,
)
from lsst.coadd.astroclearnet.core import InputExposure, InvalidExposureError, Plane
from lsst.images import Box
from lsst.pipe.base.testUtils import lintConnections


@pytest.fixture(scope="module")
def coadds(small_patch):
    mean = run(make_task(method="mean"), small_patch)
    latent = run(make_task(mm_iterations=40), small_patch)
    return mean, latent


def compare(coadds, small_patch, *, truth=True, **fields):
    mean, latent = coadds
    config = CompareAcnCoaddConfig()
    config.update(**fields)
    config.validate()
    task = CompareAcnCoaddTask(config=config)
    inputs = dict(reference=mean.coadd, coadd=latent.coadd, latent=latent.latent, n_image=latent.n_image)
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
    assert table.colnames == ["name", "plane", "value", "error", "unit", "n", "definition"]
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
    assert isinstance(outputs.plot, Figure) and outputs.plot.get_suptitle() == "a patch"


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
    assert set(connections.inputs) == {"reference", "coadd", "latent", "n_image"}
    config.use_truth, config.use_latent, config.image_model = True, False, "afw"
    connections = CompareAcnCoaddConnections(config=config)
    assert set(connections.inputs) == {"reference", "coadd", "n_image", "truth_image", "truth_catalog"}
    assert connections.reference.storageClass == "ExposureF"
    assert connections.coadd.storageClass == "CellCoadd"


def test_connections_are_sound():
    lintConnections(CompareAcnCoaddConnections)
