# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""The folder in which resampled exposures are kept."""

from __future__ import annotations

import errno
import logging
import shutil
import tempfile
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
from _inputs_data import make_config

from lsst.coadd.astroclearnet.assemble_acn_coadd import AssembleAcnCoaddTask
from lsst.coadd.astroclearnet.core.warp._register import WarpedExposure
from lsst.coadd.astroclearnet.inputs import _scratch as _inputs_scratch

pytestmark = pytest.mark.usefixtures("hasty_filling")

Usage = namedtuple("Usage", "total used free")


def run(patch, **fields):
    task = AssembleAcnCoaddTask(config=make_config(cell_size=100, **fields))
    return task.run(inputs=patch.inputs, geometry=patch.geometry, band="i")


@pytest.fixture(scope="module")
def expected(small_patch):
    return run(small_patch)


def assert_same(result, expected):
    np.testing.assert_array_equal(result.coadd.image.array, expected.coadd.image.array)
    np.testing.assert_array_equal(result.coadd.mask.array, expected.coadd.mask.array)


def test_folder_changes_nothing_and_is_left_empty(small_patch, expected, tmp_path, caplog):
    """With the exposures on disk the result is the same."""
    assert_same(run(small_patch, scratch=str(tmp_path)), expected)
    assert not list(tmp_path.iterdir()) and str(tmp_path) not in caplog.text


def test_large_stacks_go_to_the_folder_for_temporary_files(small_patch, expected, tmp_path, monkeypatch):
    """Memory is bounded without a folder being named."""
    monkeypatch.setattr(_inputs_scratch, "_MOST_BYTES_IN_MEMORY", 1000.0)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    seen = []
    moved_to = WarpedExposure.moved_to
    monkeypatch.setattr(
        WarpedExposure, "moved_to", lambda self, path: seen.append(path) or moved_to(self, path)
    )
    assert_same(run(small_patch), expected)
    assert seen and all(path.parent == tmp_path for path in seen)
    assert not list(tmp_path.iterdir())


def test_files_do_not_outlive_the_job_and_are_not_open(small_patch, tmp_path, monkeypatch):
    """Nothing that has a name is left if the job is killed, as by a batch
    system; and a deep stack has more exposures than a process may open files.
    """
    moved_to = WarpedExposure.moved_to
    n_open, left = [], []

    def move(self, path):
        moved = moved_to(self, path)
        for name in ("image", "variance", "flags", "good"):
            np.testing.assert_array_equal(getattr(moved, name), getattr(self, name))
            assert getattr(moved, name).dtype == getattr(self, name).dtype
        n_open.append(len(list(Path("/dev/fd").iterdir())))
        left.extend(path.iterdir())
        return moved

    monkeypatch.setattr(WarpedExposure, "moved_to", move)
    run(small_patch, scratch=str(tmp_path))
    assert not left and len(n_open) == 4 and len(set(n_open)) == 1


def test_folder_must_exist(small_patch, tmp_path):
    """The error names the folder."""
    with pytest.raises(FileNotFoundError, match="nowhere"):
        run(small_patch, scratch=str(tmp_path / "nowhere"))


def test_folder_that_cannot_be_removed_does_not_lose_the_fit(
    small_patch, expected, tmp_path, monkeypatch, caplog
):
    """As on NFS, which keeps files that are open."""

    def rmdir(path, **options):
        raise OSError(errno.ENOTEMPTY, "Directory not empty", str(path))

    monkeypatch.setattr("os.rmdir", rmdir)
    assert_same(run(small_patch, scratch=str(tmp_path)), expected)
    (left,) = tmp_path.iterdir()
    assert f"The folder {left} could not be removed" in caplog.text


def test_full_disk_is_an_error_that_says_what_to_do(small_patch, tmp_path, monkeypatch, caplog):
    def write(path, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", write)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(2e6, 1e6, 1e6))
    text = r"visit=29324 detector=\d+ cannot be written to .*acn-.*No space.*need 0\.0 GB, 0\.0 GB are free"
    with caplog.at_level(logging.WARNING), pytest.raises(OSError, match=text) as caught:
        run(small_patch, scratch=str(tmp_path))
    assert str(tmp_path) in str(caught.value) and "another folder in the field scratch" in str(caught.value)
    assert f"Resampled exposures go to {tmp_path}" in caplog.text
    assert not list(tmp_path.iterdir())
