# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pipelines whose tasks must read the same exposures."""

import pytest
from test_pipelines import configure, load, locate, pipetask


@pytest.mark.parametrize("name", ["acn", "demo", "acn-inject"])
def test_contracts_keep_tasks_to_the_same_exposures(name):
    """A name that is changed in one task alone would pair other exposures
    with the coadds than those that they were made of.
    """
    labels = ["assembleAcnCoadd", "compareAcnCoadd", *(["assembleMeanCoadd"] if name != "acn" else [])]
    change = "{}:connections.calexp_type=other"
    for label in labels:
        with pytest.raises(Exception, match=r"set connections.calexp_type of (both|\w+ and \w+)\.") as caught:
            load(name, change.format(label)).to_graph()
        assert caught.type.__name__ == "ContractError"
    load(name, *(change.format(label) for label in labels)).to_graph()


def test_names_of_exposures_that_are_not_read_do_not_matter():
    load("acn", "compareAcnCoadd:use_exposure=False", "compareAcnCoadd:connections.calexp_type=x").to_graph()
    warps = load(
        "acn-from-warps", "compareAcnCoadd:use_exposure=True", "compareAcnCoadd:connections.calexps=x"
    )
    warps.to_graph()
    load("acn", "compareAcnCoadd:connections.calexps=calexp").to_graph()


def test_pipetask_tells_of_a_lone_name():
    change = configure("compareAcnCoadd", ["connections.calexp_type=other"])
    code, text = pipetask("build", "-p", locate("acn"), *change, "--show", "pipeline-graph")
    assert code != 0
    assert "must draw one of the exposures that assembleAcnCoadd reads" in text.rstrip().splitlines()[-1]
