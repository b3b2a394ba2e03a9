# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the pipeline does with files that cannot be read or written."""

import errno
import os

import numpy as np
import pytest
from _pipelines import execute, load
from conftest import DATA_ID

from lsst.coadd.astroclearnet.assemble_acn_coadd import (
    UnusableInputsError,
)
from lsst.daf.butler import Butler
from lsst.resources.file import FileResourcePath

pytestmark = pytest.mark.usefixtures("hasty_filling")


def make_mean(repo, output, **fields):
    """Run the pipeline of the mean; return a Butler on its output."""
    return execute(repo, load("mean", assembleMeanCoadd=fields), output)[0]


def test_corrupt_file_is_dropped_and_recorded(fresh_repo, caplog):
    """Neither a file cut short nor one full of noise stops the patch."""
    files = sorted((fresh_repo / "HSC" / "runs" / "demo").rglob("calexp*.fits"))
    assert len(files) == 4
    files[1].write_bytes(files[1].read_bytes()[:20000])
    content = bytearray(files[2].read_bytes())
    content[5000:] = np.random.default_rng(1).bytes(len(content) - 5000)
    files[2].write_bytes(content)
    butler = make_mean(fresh_repo, "u/corrupt")
    table = butler.get("deepCoadd_inputs", DATA_ID)
    assert table["kept"].sum() == 2
    for reason in table["reason"][~table["kept"]]:
        assert "cannot be read" in reason
    for row in table[~table["kept"]]:
        assert f"Dropping visit={row['visit']} detector={row['detector']}" in caplog.text


def test_most_files_corrupt_fails_the_quantum_with_its_reason(fresh_repo):
    """The cause is then hardly in the data: no coadd of what is left."""
    for path in sorted((fresh_repo / "HSC" / "runs" / "demo").rglob("calexp*.fits"))[:3]:
        path.write_bytes(b"not a FITS file")
    with pytest.raises(UnusableInputsError, match="3 of 4 inputs cannot be used"):
        make_mean(fresh_repo, "u/broken")
    with Butler.from_config(str(fresh_repo), collections="u/broken") as butler:
        assert butler.query_datasets("deepCoadd", explain=False) == []


def test_missing_file_does_not_stop_the_patch(fresh_repo, caplog):
    """The middleware itself takes it out, and says so."""
    files = sorted((fresh_repo / "HSC" / "runs" / "demo").rglob("calexp*.fits"))
    files[0].unlink()
    with caplog.at_level("INFO"):
        table = make_mean(fresh_repo, "u/missing").get("deepCoadd_inputs", DATA_ID)
    assert len(table) == 3 and table["kept"].all()
    assert "calexp" in caplog.text and "Using 3 of 3 inputs" in caplog.text


def test_full_disk_keeps_what_was_written_before(fresh_repo, monkeypatch):
    before = make_mean(fresh_repo, "u/full")
    first = before.get("deepCoadd", DATA_ID).image.array
    moved = FileResourcePath.transfer_from
    tried = []

    def fill_up(self, src, *args, **kwargs):
        if "deepCoadd_" in self.ospath and "nImage" in self.ospath:
            tried.append(self.ospath)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.ospath)
        return moved(self, src, *args, **kwargs)

    monkeypatch.setattr(FileResourcePath, "transfer_from", fill_up)
    with pytest.raises(RuntimeError, match="Failed to serialize dataset deepCoadd_nImage") as caught:
        make_mean(fresh_repo, "u/full", clip_sigma=5.0)
    assert tried and "No space left on device" in str(caught.value.__cause__)
    monkeypatch.undo()
    runs = Butler.from_config(str(fresh_repo)).collections.query_info("u/full", include_summary=False)
    assert len(runs[0].children) >= 2
    with Butler.from_config(str(fresh_repo), collections=before.run) as butler:
        np.testing.assert_array_equal(butler.get("deepCoadd", DATA_ID).image.array, first)
        assert len(butler.get("deepCoadd_inputs", DATA_ID)) == 4
        assert len(butler.query_datasets("calexp", "HSC/defaults")) == 4
