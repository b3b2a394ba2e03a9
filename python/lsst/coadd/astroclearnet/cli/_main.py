# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""The command ``acn``: finds commands and reports their errors."""

from __future__ import annotations

__all__ = ("main",)

import contextlib
import errno
import importlib
import logging
import signal
import sys
from collections.abc import Iterator
from types import FrameType

import click

from .. import __version__
from ._progress import LogHandler

_COMMANDS = {
    "compare": "Compare two coadds in plain FITS files: a table, pictures, a page.",
    "demo": "Make a Butler repository with simulated exposures and their truth.",
    "ingest": "Make a Butler repository from plain FITS exposures.",
    "inject": "Add synthetic sources to the exposures of a repository and find them again.",
    "report": "Write one page about the coadds of a run, to open and to mail.",
    "restore": "Restore the sky behind exposures on one pixel grid; needs no LSST software.",
    "summary": "Print the comparison of coadds in a repository and export its picture.",
    "train": "Train the encoder that is shipped with the package.",
}
"""Help line of each command; command ``x`` is the object ``x`` of the module
``_x``, so that this list needs none of them."""


def _expected_errors() -> tuple[type[Exception], ...]:
    """Return the errors that users can cause; called when one is raised, so
    that a command which never uses the core does not load it.
    """
    from ..core import CoreError

    errors: list[type[Exception]] = [CoreError, OSError, MemoryError]
    if "lsst.daf.butler" in sys.modules:
        from sqlalchemy.exc import DBAPIError

        from lsst.daf.butler import ButlerUserError

        from ..repository import RepositoryError

        errors += [ButlerUserError, DBAPIError, RepositoryError]
    return tuple(errors)


def _describe(error: Exception) -> str:
    """Return an error as one line, with the file name where there is one."""
    if isinstance(error, OSError) and error.strerror:
        where = f": {error.filename}" if error.filename else ""
        return f"{error.strerror}{where}"
    if isinstance(error, MemoryError):
        return " ".join(f"There is not enough memory. {error}".split())
    # What a data base says, without the command that it was told.
    text = str(getattr(error, "orig", error))
    return " ".join(text.split()) or type(error).__name__


@contextlib.contextmanager
def _one_line_errors(*, debug: bool) -> Iterator[None]:
    """Turn errors that users can cause into messages of click, and Ctrl-C
    into one with the exit code that a shell expects.

    Anything else is a mistake in the program and keeps its traceback.
    """
    try:
        yield
    except (click.exceptions.Exit, click.Abort, click.ClickException):
        raise
    except KeyboardInterrupt:
        click.echo("\nInterrupted.", err=True)
        raise click.exceptions.Exit(128 + signal.SIGINT) from None
    except ModuleNotFoundError as error:
        name = error.name or ""
        if debug or name.startswith("lsst.coadd.astroclearnet"):
            raise
        raise click.ClickException(
            f"This command needs the Python package {name!r}, which is not installed."
        ) from error
    except _expected_errors() as error:
        if debug or getattr(error, "errno", None) == errno.EPIPE:  # click handles a closed pipe
            raise
        raise click.ClickException(_describe(error)) from error


def _stop(number: int, frame: FrameType | None) -> None:
    """End as after an error: what is half made shall be removed."""
    raise SystemExit(128 + number)


class _LazyGroup(click.Group):
    """A group that imports a command when it is called, and that turns the
    errors a user can cause into one line.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"._{cmd_name}", __package__)
        return getattr(module, cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> object:
        with _one_line_errors(debug=ctx.params["debug"]):
            return super().invoke(ctx)


@click.group(name="acn", cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="acn")
@click.option("--debug", "--verbose", "debug", is_flag=True, help="Log more; show tracebacks.")
def main(*, debug: bool) -> None:
    """Latent images of the sky from many exposures, with AstroClearNet.

    The pipeline itself runs by pipetask; these commands prepare its input,
    show its output, and do the same job without LSST software.
    """
    # A batch system sends it when the time is over.
    signal.signal(signal.SIGTERM, _stop)
    root = logging.getLogger()
    if not any(isinstance(handler, LogHandler) for handler in root.handlers):
        root.addHandler(LogHandler())
    logging.getLogger("lsst.coadd.astroclearnet").setLevel(logging.DEBUG if debug else logging.INFO)
    # It warns of each optional library that is not installed.
    logging.getLogger("lsst.daf.butler._storage_class").setLevel(logging.ERROR)
    # The error that it logs is raised, too.
    logging.getLogger("lsst.daf.butler.direct_butler._direct_butler").setLevel(logging.CRITICAL)
