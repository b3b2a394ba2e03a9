# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the memory of the device is short, exposures are worked in parts."""

import logging
import sys

import numpy as np
import pytest
import torch

from lsst.coadd.astroclearnet.core import FitError, FitOptions, _batches, fit_patch
from lsst.coadd.astroclearnet.core._batches import parts, try_smaller_batches
from lsst.coadd.astroclearnet.core.methods import _fit
from lsst.coadd.astroclearnet.simulate import simulate_stack

_N = 12


@pytest.fixture(autouse=True)
def limit(monkeypatch):
    """Let each test begin as a new process does."""
    monkeypatch.setattr(_batches._Limit, "images", sys.maxsize)


def _sizes(device: str) -> list[int]:
    images = torch.empty(_N, 2, 2, device=device)
    return [len(images[part]) for part in parts(images)]


def test_cpu_takes_one_and_a_gpu_everything():
    """The device called meta stands for one that is not the CPU."""
    assert _sizes("cpu") == [1] * _N
    assert _sizes("meta") == [_N]


@pytest.mark.parametrize(("room", "expected"), [(12, [12]), (7, [6, 6]), (5, [3] * 4), (1, [1] * 12)])
def test_batches_shrink_until_they_fit(room, expected, caplog):
    """A device with room for a few images gets as few at a time."""

    def work() -> list[int]:
        sizes = _sizes("meta")
        if max(sizes) > room:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return sizes

    with caplog.at_level(logging.WARNING):
        assert try_smaller_batches(work, n=_N) == expected
    assert len(caplog.records) == np.log2(12 // expected[0]).astype(int)
    caplog.clear()
    # What was learned holds for the cells that follow.
    assert try_smaller_batches(work, n=_N) == expected
    assert not caplog.records


def test_no_room_at_all_is_an_error():
    """The message says what helps."""

    def work():
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(FitError, match="make cells smaller, or fit on the CPU"):
        try_smaller_batches(work, n=_N)


def test_cell_is_fitted_again(monkeypatch, caplog):
    """A patch comes out as without the shortage, and the log tells of it."""
    stack, _ = simulate_stack(n_exposures=5, size=80, seed=3)
    options = FitOptions(method="mean", cell_size=40, halo=20, n_threads=1)

    def fit():
        return fit_patch(lambda tile, halo: stack, height=40, width=40, options=options)

    plenty = fit()
    reduce, shortages = _fit.compute_statistic, [2, 1]

    def run_short(*args, **kwargs):
        if shortages:
            shortages.pop()
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return reduce(*args, **kwargs)

    monkeypatch.setattr(_fit, "compute_statistic", run_short)
    with caplog.at_level(logging.WARNING):
        short = fit()
    np.testing.assert_array_equal(short.coadd, plenty.coadd)
    np.testing.assert_array_equal(short.noise, plenty.noise)
    told = [record.getMessage() for record in caplog.records]
    assert any("batches of 2" in line for line in told)
    assert any("batches of 1" in line for line in told)
