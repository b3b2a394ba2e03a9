# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Repositories of users: opened and read, or said why not in a line."""

from __future__ import annotations

__all__ = (
    "find_datasets",
    "find_metrics",
    "label_dataset",
    "open_butler",
    "read_dataset",
    "split_collections",
)

import difflib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from lsst.daf.butler import Butler, DataId, DatasetRef

_MOST_NAMES = 8
"""Collections that a message names."""


def _shorten(error: BaseException) -> str:
    """Return the beginning of a text, up to where details start."""
    text = " ".join(str(getattr(error, "orig", error)).split())
    return text.partition(" (given ")[0].partition(" (Background on this error")[0]


def open_butler(repo: str, *, writeable: bool) -> Butler:
    """Open a repository.

    Parameters
    ----------
    repo
        Address or alias.
    writeable
        Whether it will be changed.

    Raises
    ------
    click.ClickException
        If there is none that can be opened.
    """
    import yaml
    from sqlalchemy.exc import SQLAlchemyError

    from lsst.daf.butler import Butler

    try:
        return Butler.from_config(repo, writeable=writeable)
    except (OSError, RuntimeError, ValueError, LookupError, yaml.YAMLError, SQLAlchemyError) as error:
        raise click.ClickException(
            f"{repo} cannot be opened as a Butler repository: {_shorten(error)}"
        ) from error


def read_dataset(butler: Butler, ref: DatasetRef) -> Any:
    """Read a dataset.

    Raises
    ------
    click.ClickException
        If its file is missing or spoiled.
    """
    try:
        return butler.get(ref)
    except (OSError, RuntimeError, ValueError, LookupError) as error:
        reason = _shorten(error.__cause__ or error)
        raise click.ClickException(
            f"{ref.datasetType.name} of {label_dataset(ref)} in {ref.run} cannot be read: {reason}"
        ) from error


def split_collections(text: str, *, option: str) -> list[str]:
    """Return the collections of an option, which commas part.

    Raises
    ------
    click.UsageError
        If there are none, or a pattern, which has no order to look in.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise click.UsageError(f"{option} names no collection.")
    if pattern := next((name for name in names if set(name) & set("*?[]")), ""):
        raise click.UsageError(f"{option} takes names of collections, not patterns such as {pattern}.")
    return names


def find_datasets(
    butler: Butler, name: str, collections: Sequence[str], where: str = "", data_id: DataId | None = None
) -> list[DatasetRef]:
    """Return the datasets of one type, ordered by data id; none if the
    repository does not know the type.

    Raises
    ------
    click.ClickException
        If there is no such collection, or ``where`` cannot be understood.
    """
    from lsst.daf.butler import InvalidQueryError, MissingCollectionError, MissingDatasetTypeError

    try:
        try:
            refs = butler.query_datasets(name, collections, where=where, data_id=data_id, explain=False)
        except MissingDatasetTypeError:
            butler.collections.query_info(collections)  # a wrong name is told first
            return []
    except MissingCollectionError as error:
        raise click.ClickException(
            f"{str(error).rstrip('.')}; {_name_collections(butler, collections)}"
        ) from error
    except InvalidQueryError as error:
        text = " ".join(str(error).split()).rstrip(".")
        if match := re.search(r"dependent on (\w+) without", text):
            text = f"it must name the {match[1]}, too: {match[1]}='...' AND {where}"
        raise click.ClickException(f"--where cannot be used: {text}.") from error
    return sorted(refs, key=lambda ref: tuple(ref.dataId.required_values))


def _name_collections(butler: Butler, wanted: Sequence[str]) -> str:
    """Say what collections there are, the likeliest first."""
    from lsst.daf.butler import CollectionType

    # What a user names are chains; the runs in them have names of machines.
    known = list(butler.collections.query("*", collection_types=CollectionType.CHAINED))
    likely = [name for one in wanted for name in difflib.get_close_matches(one, known, n=_MOST_NAMES)]
    names = list(dict.fromkeys([*likely, *sorted(known)]))
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return f"there are {', '.join(names[:_MOST_NAMES])}{more}." if names else "there are none."


def find_metrics(
    butler: Butler, coadd_name: str, collections: Sequence[str], where: str = ""
) -> list[DatasetRef]:
    """Return the tables of the comparison of coadds, patch by patch.

    Parameters
    ----------
    butler
        The repository.
    coadd_name
        The coadds are called ``NAME_coadd``.
    collections
        Where to look.
    where
        Which patches.

    Raises
    ------
    click.ClickException
        If there are none; the text says what is lacking.
    """
    name = f"{coadd_name}_coadd_comparison_metrics"
    if found := find_datasets(butler, name, collections, where):
        return found
    lacking = f"No {name} in {', '.join(collections)}"
    reference = f"{coadd_name.removesuffix('acn')}deepCoadd"
    if where and find_datasets(butler, name, collections):
        raise click.ClickException(f"{lacking} matches --where {where!r}.")
    if not find_datasets(butler, f"{coadd_name}_coadd", collections):
        reason = f"there is no {coadd_name}_coadd: run pipelines/mean.yaml, then pipelines/acn.yaml"
    elif not find_datasets(butler, reference, collections):
        reason = (
            f"there is no {reference} to compare {coadd_name}_coadd with: run pipelines/mean.yaml first, "
            "then pipelines/acn.yaml with its output among the inputs"
        )
    else:
        reason = "run compareAcnCoadd first, e.g. pipetask run ... -p acn.yaml#evaluate"
    raise click.ClickException(f"{lacking}: {reason}.")


def label_dataset(ref: DatasetRef) -> str:
    """Return a data id as a user writes it."""
    return ", ".join(f"{key}={value}" for key, value in ref.dataId.required.items())
