# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Progress of a command: a bar on a terminal, log lines elsewhere."""

from __future__ import annotations

__all__ = ("LogHandler", "Progress")

import logging
import shutil
import sys
from types import TracebackType
from typing import TYPE_CHECKING, Self

import click

from .._progress import find_step

if TYPE_CHECKING:
    from click._termui_impl import ProgressBar

_LOG = logging.getLogger("lsst.coadd.astroclearnet.cli")

_BAR_WIDTH = 16
_BESIDE_BAR = _BAR_WIDTH + 32
"""Columns that brackets, count, share and time left take."""


def _is_terminal() -> bool:
    return sys.stderr.isatty()


class LogHandler(logging.Handler):
    """Writes log lines to standard error, whatever that is at the time."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        # A bar may be on the line.
        start = "\r\033[K" if _is_terminal() else ""
        click.echo(start + self.format(record), err=True)


class Progress:
    """Takes lines of progress and shows them on standard error.

    On a terminal a line that tells a step (`.._progress.find_step`) moves a
    bar; others have a line of their own. Elsewhere each is a log line of
    level INFO. Warnings are log lines everywhere.

    Parameters
    ----------
    quiet
        Show nothing.
    """

    def __init__(self, *, quiet: bool = False):
        self._quiet, self._on_terminal = quiet, _is_terminal()
        self._bar: ProgressBar[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def __call__(self, line: str) -> None:
        """Show a line."""
        if self._quiet:
            return
        if not self._on_terminal:
            _LOG.info("%s", line)
            return
        if (step := find_step(line)) is None:
            self._close()
            click.echo(line, err=True)
            return
        done, total = step
        if self._bar is None or self._bar.length != total or done < self._bar.pos:
            self._close()
            self._bar = self._open(total)
        self._bar.update(done - self._bar.pos, self._shorten(line))
        if done >= total:
            self._close()

    def warn(self, line: str) -> None:
        """Show a line that tells of something that may be wrong."""
        if not self._quiet:
            self._close()
            _LOG.warning("%s", line)

    def _open(self, total: int) -> ProgressBar[str]:
        bar = click.progressbar(
            length=total,
            width=_BAR_WIDTH,
            show_pos=True,
            show_percent=True,
            item_show_func=lambda text: text,
            file=sys.stderr,
        )
        bar.__enter__()
        return bar

    def _close(self) -> None:
        """Leave the bar as it is and go to the next line."""
        if self._bar is not None:
            self._bar.render_finish()
            self._bar = None

    def _shorten(self, line: str) -> str:
        """Cut a line to the room beside the bar, where it has one."""
        room = shutil.get_terminal_size().columns - _BESIDE_BAR
        return line if len(line) <= room else line[: max(room - 3, 0)] + "..." * (room > 3)
