# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fixtures that several test files share."""

import shutil
import types

import astropy.units as u
import pytest

from lsst.daf.butler import Butler

WHERE = "skymap='hsc_rings_demo' AND tract=9813 AND patch=40 AND band='i'"
DATA_ID = {"skymap": "hsc_rings_demo", "tract": 9813, "patch": 40, "band": "i"}


@pytest.fixture(scope="session")
def small_repo(tmp_path_factory):
    """Make a demo repository of 4 visits and 200 x 200 px.

    It must not be changed; `fresh_repo` gives a copy.
    """
    from lsst.coadd.astroclearnet.demo import DemoConfig, make_demo_repository

    root = tmp_path_factory.mktemp("small") / "repo"
    make_demo_repository(root, DemoConfig(size=200, n_visits=4))
    return root


@pytest.fixture
def fresh_repo(small_repo, tmp_path):
    """Copy the small demo repository."""
    return shutil.copytree(small_repo, tmp_path / "repo")


@pytest.fixture(scope="session")
def small_patch(small_repo):
    """Read geometry, exposures and truth of the small demo repository.

    The images are shared: tests change copies only.
    """
    from lsst.coadd.astroclearnet.adapters import PatchGeometry
    from lsst.coadd.astroclearnet.assemble_acn_coadd import CoaddInput

    with Butler.from_config(str(small_repo), collections="HSC/defaults") as butler:
        content = butler.get("acn_sky_geometry", skymap=DATA_ID["skymap"])
        refs = butler.query_datasets("calexp", with_dimension_records=True)
        return types.SimpleNamespace(
            geometry=PatchGeometry.from_dict(content, tract=DATA_ID["tract"], patch=DATA_ID["patch"]),
            inputs=[
                CoaddInput(exposure_or_handle=butler.get(ref), data_id=dict(ref.dataId.mapping))
                for ref in sorted(refs, key=lambda ref: ref.dataId["visit"])
            ],
            truth_image=butler.get("acn_truth_image", DATA_ID),
            truth_catalog=butler.get("acn_truth_catalog", DATA_ID),
        )


@pytest.fixture
def stand_ins(monkeypatch):
    """Give what the adapters import of the full stack where it is missing."""
    from _afw_stand_ins import install

    install(monkeypatch)


@pytest.fixture(scope="module")
def hasty_filling():
    """Stop the filling of holes after a few steps.

    Of a few exposures it takes most of the time of a fit, and matters to
    single pixels beside holes: tests of all that is around the fit can do
    without the rest of it. What is clipped, and the noise, are known before.
    """
    from lsst.coadd.astroclearnet.core.statistic import _stages

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_stages, "_FILL_STEPS", 12)
        yield


def to_njy(image):
    """Return the pixels of an image in nJy, float64 ``(y, x)``."""
    return image.convert_unit(u.nJy).image.array.astype(float)
