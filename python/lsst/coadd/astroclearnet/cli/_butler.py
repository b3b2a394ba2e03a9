# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Repositories of users: opened and read, or said why not in a line."""

from __future__ import annotations

__all__ = ("find_datasets", "label_dataset", "open_butler", "read_dataset")

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from lsst.daf.butler import Butler, DataId, DatasetRef


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


def find_datasets(
    butler: Butler, name: str, collections: str, where: str = "", data_id: DataId | None = None
) -> list[DatasetRef]:
    """Return the datasets of one type, ordered by data id; none if the
    repository does not know the type.
    """
    from lsst.daf.butler import MissingDatasetTypeError

    try:
        refs = butler.query_datasets(name, collections, where=where, data_id=data_id, explain=False)
    except MissingDatasetTypeError:
        butler.collections.query(collections)  # a wrong name is told first
        return []
    return sorted(refs, key=lambda ref: tuple(ref.dataId.required_values))


def label_dataset(ref: DatasetRef) -> str:
    """Return a data id as a user writes it."""
    return ", ".join(f"{key}={value}" for key, value in ref.dataId.required.items())
