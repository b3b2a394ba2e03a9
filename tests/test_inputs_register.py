# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""An input is resampled while the next is read; nothing else changes."""

from __future__ import annotations

import dataclasses
import gc
import logging
import threading
import weakref

import numpy as np
import pytest
from _inputs_data import change, make_config

from lsst.coadd.astroclearnet._errors import UnusableInputsError
from lsst.coadd.astroclearnet.core import InvalidExposureError
from lsst.coadd.astroclearnet.core.warp import _register
from lsst.coadd.astroclearnet.inputs._prepare import prepare_inputs
from lsst.coadd.astroclearnet.inputs._register import Registrar
from lsst.coadd.astroclearnet.inputs._scratch import Scratch

LOG = logging.getLogger("test_inputs_register")


def prepare(patch, inputs, *, n_threads, **config):
    return prepare_inputs(
        inputs,
        config=make_config(**config),
        geometry=patch.geometry,
        band="i",
        halo=10,
        pixel_scale=0.168,
        scratch=Scratch(),
        log=LOG,
        n_threads=n_threads,
    )


def before(monkeypatch, owner, name, told):
    """Let something be told before a function or method is called."""
    inner = getattr(owner, name)

    def call(*args, **kwargs):
        told()
        return inner(*args, **kwargs)

    monkeypatch.setattr(owner, name, call)


@pytest.mark.parametrize("n_threads", [0, 2])
def test_threads_change_no_pixel_and_no_record(small_patch, n_threads):
    def spoil(image):
        image.variance.array[:] = np.nan

    inputs = [*small_patch.inputs]
    inputs[1] = dataclasses.replace(inputs[1], fault="cannot be read")
    inputs[2] = change(inputs[2], spoil)
    expected, records = prepare(small_patch, inputs, n_threads=1)
    found, others = prepare(small_patch, inputs, n_threads=n_threads)
    assert [one.label for one in found] == [one.label for one in expected]
    assert 0 < len(found) < len(inputs)
    assert repr(others) == repr(records)
    for one, other in zip(found, expected, strict=True):
        for name in ("image", "variance", "flags", "good"):
            assert np.array_equal(getattr(one, name), getattr(other, name))


def test_one_thread_does_one_thing_after_the_other(small_patch, monkeypatch):
    events = []
    before(monkeypatch, Registrar, "_adapt", lambda: events.append("read"))
    before(monkeypatch, _register, "resample", lambda: events.append("resampled"))
    prepare(small_patch, small_patch.inputs, n_threads=1)
    assert events == ["read", "resampled"] * len(small_patch.inputs)


def test_next_is_read_while_one_is_resampled(small_patch, monkeypatch):
    n = len(small_patch.inputs)
    read = [threading.Event() for _ in range(n)]
    reading, resampling = iter(read), iter(read[1:])

    def wait():
        event = next(resampling, None)  # after the last there is none
        assert event is None or event.wait(timeout=60)

    before(monkeypatch, Registrar, "_adapt", lambda: next(reading).set())
    before(monkeypatch, _register, "resample", wait)
    warped, _ = prepare(small_patch, small_patch.inputs, n_threads=2)
    assert len(warped) == n


def test_butler_and_models_are_asked_in_one_thread(small_patch, monkeypatch):
    """WCS and PSF may be objects of libraries that know no other thread."""
    seen = {"_adapt": [], "make": [], "resample": [], "finish": []}
    for step, threads in seen.items():
        owner = Registrar if step == "_adapt" else _register.WarpPlan
        before(monkeypatch, owner, step, lambda threads=threads: threads.append(threading.current_thread()))
    prepare(small_patch, small_patch.inputs, n_threads=2)
    assert [len(threads) for threads in seen.values()] == [len(small_patch.inputs)] * 4
    here = threading.current_thread()
    assert {step: here in threads for step, threads in seen.items()} == {
        step: step != "resample" for step in seen
    }


def test_error_is_that_of_the_first(small_patch):
    """Also where the next was read, and is at fault, before it came up."""

    def spoil(image):
        image.variance.array[:] = np.nan

    inputs = [change(small_patch.inputs[0], spoil), *small_patch.inputs[1:]]
    inputs[1] = dataclasses.replace(inputs[1], fault="cannot be read")
    told, threads = [], set(threading.enumerate())
    for n_threads in (1, 2):
        with pytest.raises(UnusableInputsError) as caught:
            prepare(small_patch, inputs, n_threads=n_threads, on_bad_input="raise")
        told.append(str(caught.value))
    assert told[0] == told[1]
    assert set(threading.enumerate()) <= threads  # none waits for more, while the error is kept


@pytest.mark.parametrize("n_threads", [1, 2])
def test_no_more_frames_are_held_than_are_worked_on(small_patch, monkeypatch, n_threads):
    """When one is read none is left, but with threads the one before it."""
    frames, held = [], []
    adapt = Registrar._adapt

    def note(self, one):
        gc.collect()
        held.append(sum(frame() is not None for frame in frames))
        exposure = adapt(self, one)
        frames.append(weakref.ref(exposure))
        return exposure

    monkeypatch.setattr(Registrar, "_adapt", note)
    prepare(small_patch, small_patch.inputs, n_threads=n_threads)
    assert len(held) == len(small_patch.inputs) and max(held) == n_threads - 1


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("step", ["_adapt", "resample"])
def test_nothing_is_kept_of_what_cannot_be_used(small_patch, monkeypatch, n_threads, step):
    """It is let go at once: the garbage collector may come late, and in a
    thread in which objects of other libraries must not end.
    """

    class Frame:
        pass

    frames = []

    def fail(*args, **kwargs):
        frame = Frame()
        frames.append(weakref.ref(frame))
        raise InvalidExposureError("It cannot be used.")

    owner = Registrar if step == "_adapt" else _register.WarpPlan
    monkeypatch.setattr(owner, step, fail)
    # What is captured of a log keeps the errors that it names.
    monkeypatch.setattr(LOG, "propagate", False)
    gc.disable()
    try:
        warped, records = prepare(small_patch, small_patch.inputs, n_threads=n_threads)
        held = [frame for frame in frames if frame() is not None]
    finally:
        gc.enable()
    assert not warped and all(record.bad for record in records)
    assert len(frames) == len(small_patch.inputs) and not held


@pytest.mark.parametrize("n_threads", [1, 2])
def test_exposure_under_two_numbers_is_used_once(small_patch, caplog, n_threads):
    """Its noise is no other the second time: it would be taken for sky."""
    first, *rest = small_patch.inputs
    again = dataclasses.replace(first, data_id={**first.data_id, "visit": 99999})
    expected, _ = prepare(small_patch, small_patch.inputs, n_threads=1)
    warped, records = prepare(small_patch, [again, first, *rest], n_threads=n_threads)
    assert [one.label for one in warped] == [one.label for one in expected]
    (record,) = [record for record in records if not record.kept]
    assert record.visit == 99999 and record.bad
    assert f"has the same pixels as {first.label}: its noise would count" in record.reason
    assert f"Dropping visit=99999 detector={record.detector}: {record.reason}" in caplog.text
    with pytest.raises(UnusableInputsError, match="has the same pixels as"):
        prepare(small_patch, [first, again], n_threads=n_threads, on_bad_input="raise")
