# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files of the training: weights, checkpoints, and the command."""

import dataclasses
import errno
import json
from pathlib import Path

import click
import pytest
import safetensors
import safetensors.torch
import torch
from click.testing import CliRunner

from lsst.coadd.astroclearnet._locks import lock_file
from lsst.coadd.astroclearnet.assemble_acn_coadd import AssembleAcnCoaddConfig, AssembleAcnCoaddTask
from lsst.coadd.astroclearnet.cli._main import main
from lsst.coadd.astroclearnet.core._errors import CoreError
from lsst.coadd.astroclearnet.core.encoder import _encoder
from lsst.coadd.astroclearnet.core.encoder._encoder import StatisticEncoder, load_encoder, weights_file
from lsst.coadd.astroclearnet.training import TrainingOptions, train_encoder, write_weights
from lsst.coadd.astroclearnet.training._checkpoint import Checkpoint

_SMALL = TrainingOptions(n_galaxies=12, n_stacks=4, size=64, batch=2)


def test_shipped_weights_are_small_and_say_how_they_were_made():
    """Less than 1 MB, arrays only, made by acn train."""
    path = weights_file()
    assert path.stat().st_size < 1e6
    with safetensors.safe_open(path, framework="pt") as weights:
        metadata = weights.metadata()
        assert set(weights.keys()) == set(StatisticEncoder().state_dict())
    assert metadata["command"] == "acn train"
    options = json.loads(metadata["options"])
    same = {"seed", "batch", "size", "n_galaxies", "n_stacks", "learning_rate"}
    defaults = dataclasses.asdict(TrainingOptions())
    assert {name: options[name] for name in same} == {name: defaults[name] for name in same}


def _spoil(how, content):
    """Damage the bytes of a file of weights."""
    if how == "nan":
        tensors = safetensors.torch.load(content)
        next(iter(tensors.values())).view(-1)[0] = float("nan")
        return safetensors.torch.save(tensors)
    return {
        "short": content[:5000],
        "empty": b"",
        "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 900\n",
        "others": safetensors.torch.save({"a": torch.zeros(2)}),
    }[how]


@pytest.mark.parametrize("is_shipped", [True, False])
@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("short", "damaged or cut short"),
        ("empty", "damaged or cut short"),
        ("pointer", "run 'git lfs pull'"),
        ("nan", "some values are not finite"),
        ("others", "its arrays are not those of this version's network"),
        ("missing", "there is no such file"),
    ],
)
def test_weights_that_cannot_be_used_are_told(how, reason, is_shipped, tmp_path, monkeypatch):
    """One line that names the file and what to do; for the shipped file it is
    something else than for one of the user's.
    """
    path = tmp_path / "w.safetensors"
    if how != "missing":
        path.write_bytes(_spoil(how, weights_file().read_bytes()))
    if is_shipped:
        monkeypatch.setattr(_encoder, "weights_file", lambda: path)
    with pytest.raises(CoreError) as raised:
        load_encoder(weights=None if is_shipped else str(path))
    text = str(raised.value)
    assert str(path) in text and reason in text and "\n" not in text
    assert ("Install the package anew, or take recipe 'self'" in text) == is_shipped


def test_task_tells_of_weights_before_it_has_inputs(tmp_path):
    """Not after hours of reading, patch by patch; methods without weights do
    not look at them.
    """
    path = tmp_path / "w.safetensors"
    path.write_bytes(_spoil("short", weights_file().read_bytes()))
    config = AssembleAcnCoaddConfig()
    config.weights = str(path)
    with pytest.raises(CoreError, match="damaged or cut short"):
        AssembleAcnCoaddTask(config=config)
    config.method = "mm"
    AssembleAcnCoaddTask(config=config)


def test_other_weights_are_used_and_told_apart(tmp_path):
    """Those of a file, and their digest."""
    encoder = StatisticEncoder()
    write_weights(encoder, tmp_path / "w.safetensors", options=_SMALL)
    loaded = load_encoder(weights=str(tmp_path / "w.safetensors")).state_dict()
    assert all(torch.equal(values, loaded[name]) for name, values in encoder.state_dict().items())
    assert _encoder.weights_digest(str(tmp_path / "w.safetensors")) != _encoder.weights_digest()


def test_command_has_the_defaults_of_the_options():
    """What the command does unasked is what the options say."""
    options = dataclasses.asdict(TrainingOptions())
    command = main.get_command(click.Context(main), "train")
    defaults = {p.name: p.default for p in command.params if p.name in options}
    assert len(defaults) > 4 and defaults == {name: options[name] for name in defaults}


def test_command_writes_weights_and_keeps_existing_ones(tmp_path):
    """``acn train`` writes a file that loads, and never replaces unasked."""
    path = tmp_path / "weights.safetensors"
    arguments = [
        "train",
        str(path),
        "--steps",
        "2",
        "--scatter-steps",
        "1",
        "--n-galaxies",
        "10",
        "--n-stacks",
        "2",
    ]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    StatisticEncoder().load_state_dict(safetensors.torch.load_file(path))
    assert list(tmp_path.iterdir()) == [path]  # No checkpoint is left.
    before = path.read_bytes()
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 1 and "exists" in result.output
    assert path.read_bytes() == before
    result = CliRunner().invoke(main, ["train", str(tmp_path / "no" / "weights")])
    assert result.exit_code == 1 and "does not exist" in result.output


def test_two_trainings_of_one_file_do_not_mix(tmp_path):
    """The second is told at once, and leaves alone what the first has."""
    path, lock = tmp_path / "w.safetensors", tmp_path / "w.safetensors.lock"
    with lock.open("a") as file:
        lock_file(file, busy=AssertionError("nobody else is there"))
        result = CliRunner().invoke(main, ["train", str(path)])
        assert result.exit_code == 1 and list(tmp_path.iterdir()) == [lock]
        assert f"Another process is making {path}: wait, or give another name" in result.output


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_weights_are_replaced_by_whole_files_only(tmp_path):
    """A full disk leaves what was there, and no half file."""
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"precious")
    path.with_name(f"{path.name}.part").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as raised:
        write_weights(StatisticEncoder(), path, options=TrainingOptions())
    assert raised.value.errno == errno.ENOSPC
    assert raised.value.filename == str(path)  # not that of the half file
    assert path.read_bytes() == b"precious" and list(tmp_path.iterdir()) == [path]


def test_weights_can_be_read_by_whom_the_user_lets(tmp_path):
    """They are files like all others, not for their owner alone."""
    write_weights(StatisticEncoder(), tmp_path / "w.safetensors", options=_SMALL)
    (tmp_path / "other").write_bytes(b"")
    modes = {path.stat().st_mode for path in tmp_path.iterdir()}
    assert len(modes) == 1


@pytest.mark.parametrize("how", ["garbage", "weights", "short", "other", "object"])
def test_checkpoint_that_cannot_be_used_is_told_at_once(how, tmp_path):
    """Before the banks are drawn, in one line that says what to do."""
    path = tmp_path / "w.safetensors.checkpoint"
    if how == "garbage":
        path.write_bytes(b"garbage")
    elif how == "weights":
        write_weights(StatisticEncoder(), path, options=_SMALL)  # of a training that is done
    elif how == "short":
        Checkpoint(path, dataclasses.asdict(_SMALL)).keep(1, 0, encoder=StatisticEncoder())
        path.write_bytes(path.read_bytes()[:-5000])
    else:
        torch.save({"parts": 1} if how == "other" else StatisticEncoder(), path)
    lines = []
    with pytest.raises(CoreError, match="is no checkpoint of .*, or a damaged one: remove it to begin anew"):
        train_encoder(_SMALL, report=lines.append, checkpoint=path)
    assert not lines


@pytest.mark.parametrize(("part", "step"), [(1, 0), (0, 100)])
def test_checkpoint_of_another_network_is_told_at_once(part, step, tmp_path):
    """Such as that of an older version with the same options."""
    path = tmp_path / "w.safetensors.checkpoint"
    Checkpoint(path, dataclasses.asdict(_SMALL)).keep(part, step, encoder=torch.nn.Conv2d(1, 3, 5))
    lines = []
    with pytest.raises(CoreError, match="another version of acn train, .* or remove it") as raised:
        train_encoder(_SMALL, report=lines.append, checkpoint=path)
    assert str(path) in str(raised.value) and "\n" not in str(raised.value) and not lines


def test_command_takes_no_seed_that_torch_cannot(tmp_path):
    """Said by the command, with the range, before anything begins."""
    result = CliRunner().invoke(main, ["train", str(tmp_path / "w"), "--seed", str(2**64)])
    assert result.exit_code == 2 and "is not in the range" in result.output
