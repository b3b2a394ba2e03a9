# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""The file from which an interrupted training goes on."""

from __future__ import annotations

__all__ = ("EVERY", "Checkpoint", "Keepable")

import io
import json
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from .._files import write_whole
from ..core._errors import CoreError

EVERY = 100
"""Steps from one checkpoint to the next: a minute or so. A line of progress
tells of as many, so that its loss is that of steps of one run."""


class Keepable(Protocol):
    """What changes from step to step: a network, an optimiser, ..."""

    def state_dict(self) -> Mapping[str, Any]: ...

    def load_state_dict(self, state: Any) -> Any: ...


class Checkpoint:
    """State of a training in a file, written as a whole.

    Parameters
    ----------
    path
        The file; it is read if it exists. Without one nothing is kept.
    options
        Of the training; those of the file must be the same.

    Raises
    ------
    CoreError
        If the file cannot be used: it is no checkpoint of a training, is
        damaged, or was written with other options.
    """

    def __init__(self, path: Path | None, options: Mapping[str, Any]):
        self.path = path
        self._options = dict(options)
        self._kept = self._read(path) if path and path.exists() else None

    @property
    def part(self) -> int:
        """Parts that were done when the file was written."""
        return self._kept["part"] if self._kept else 0

    @property
    def step(self) -> int:
        """Steps of the next part that were done."""
        return self._kept["step"] if self._kept else 0

    def resume(self, part: int, **members: Keepable) -> int:
        """Bring what changes to where it was in a part.

        Parameters
        ----------
        part
            Parts before it.
        **members
            As for `keep`; left alone if the file says nothing of this part.

        Returns
        -------
        `int`
            Steps of the part that were done.

        Raises
        ------
        CoreError
            If the file is of another version of the package, with another
            network.
        """
        if self._kept is None or self.part != part:
            return 0
        for name, member in members.items():
            if name in self._kept["members"]:
                self._load(member, self._kept["members"][name])
        return self.step

    def _load(self, member: Keepable, state: Any) -> None:
        try:
            member.load_state_dict(state)
        except (RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise CoreError(
                f"{self.path} was written by another version of acn train, with another network: go on with "
                "that version, or remove it to begin anew."
            ) from error

    def keep(self, part: int, step: int, **members: Keepable) -> None:
        """Write the file, if it is time to.

        Parameters
        ----------
        part
            Parts that were done.
        step
            Steps of the next part that were done.
        **members
            All that the steps to come depend on.
        """
        if self.path is None or step % EVERY:
            return
        states = {name: member.state_dict() for name, member in members.items()}
        content = io.BytesIO()
        torch.save({"options": self._options, "part": part, "step": step, "members": states}, content)
        write_whole(self.path, content.getvalue())

    def _read(self, path: Path) -> dict[str, Any]:
        content = path.read_bytes()
        kept, reason = None, None
        if zipfile.is_zipfile(io.BytesIO(content)):
            try:
                kept = torch.load(io.BytesIO(content), weights_only=True)
            except (RuntimeError, pickle.UnpicklingError, EOFError) as error:
                reason = error
        if not isinstance(kept, dict) or not {"options", "part", "step", "members"} <= kept.keys():
            raise CoreError(
                f"{path} is no checkpoint of acn train, or a damaged one: remove it to begin anew."
            ) from reason
        if kept["options"] != self._options:
            raise CoreError(
                f"{path} was written with other options ({json.dumps(kept['options'])}): give these, or "
                "remove it to begin anew."
            )
        return kept
