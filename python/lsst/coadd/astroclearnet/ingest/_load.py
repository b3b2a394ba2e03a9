# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read a description: defaults, table and texts to fill in."""

from __future__ import annotations

__all__ = ("load_config",)

import string
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pydantic
import yaml
from astropy.table import Row, Table

from ._config import Exposure, IngestConfig
from ._errors import IngestError


def load_config(path: Path, *, data_root: Path | None = None) -> IngestConfig:
    """Read a description.

    Parameters
    ----------
    path
        YAML file. Beside the fields of `IngestConfig` it may have
        ``data_root`` (directory of the files, relative to the YAML file),
        ``table`` (``file`` and ``key``: a table that astropy reads, one row
        an exposure), and ``defaults`` (fields of an exposure for all of
        them). ``{name}`` in a text stands for the value ``name`` of the
        exposure or, if it has none, of its row of the table.
    data_root
        Used in place of that of the file.

    Returns
    -------
    `IngestConfig`
        The checked description, all paths complete.

    Raises
    ------
    IngestError
        If it cannot be used; the text names the entry.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise IngestError(f"{path} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise IngestError(f"{path} must hold a mapping with instrument, sky_map and exposures.")
    root = data_root or path.parent / content.pop("data_root", ".")
    content.pop("data_root", None)
    if not root.is_dir():
        raise IngestError(f"The data root {root} does not exist; name the directory with --data-root.")
    table = content.pop("table", None)
    defaults = content.pop("defaults", {})
    rows = _read_rows(root, table) if table is not None else None
    entries = content.get("exposures")
    if entries is None and rows is not None:
        entries = [{table["key"]: key} for key in rows]
    if not isinstance(entries, list):
        raise IngestError(f"{path}: exposures must be a list, or a table be given.")
    content["exposures"] = [
        _complete(entry, number=number, defaults=defaults, rows=rows, key=(table or {}).get("key"), root=root)
        for number, entry in enumerate(entries)
    ]
    try:
        return IngestConfig.model_validate(content)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "description"
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise IngestError(f"{path}: {where}: {first['msg']}{more}.") from error


def _read_rows(root: Path, table: Any) -> dict[Any, Row]:
    if not isinstance(table, dict) or set(table) != {"file", "key"}:
        raise IngestError(
            "table must have file (what astropy reads) and key (column that names an exposure)."
        )
    try:
        rows = Table.read(root / table["file"])
    except (OSError, ValueError) as error:
        raise IngestError(f"{root / table['file']} cannot be read as a table: {error}") from error
    if table["key"] not in rows.colnames:
        raise IngestError(f"{root / table['file']} has no column {table['key']!r}.")
    return dict(zip(rows[table["key"]].tolist(), rows, strict=True))


def _complete(
    entry: Any,
    *,
    number: int,
    defaults: Mapping[str, Any],
    rows: Mapping[Any, Row] | None,
    key: str | None,
    root: Path,
) -> Any:
    """Add defaults to an exposure and fill in its texts and paths."""
    if not isinstance(entry, dict):
        raise IngestError(f"exposures.{number} must be a mapping.")
    values = {k: v for k, v in defaults.items() if isinstance(v, int | float)}
    if rows is not None:
        if entry.get(key) not in rows:
            raise IngestError(f"exposures.{number}: the table has no row with {key} = {entry.get(key)!r}.")
        row = rows[entry[key]]
        values.update({name: row[name] for name in row.colnames})
    values.update({name: value for name, value in entry.items() if not isinstance(value, dict | list)})
    merged = _merge(defaults, {k: v for k, v in entry.items() if k in Exposure.model_fields})
    unknown = set(entry) - set(Exposure.model_fields) - ({key} if key else set())
    # Other plain values serve as variables; anything else is a mistake.
    if any(isinstance(entry[name], dict | list) for name in unknown):
        raise IngestError(f"exposures.{number}: unknown entries {', '.join(sorted(unknown))}.")
    return _fill(merged, values, where=f"exposures.{number}", root=root)


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Merge two mappings and those in them."""
    result = dict(base)
    for name, value in over.items():
        both = isinstance(value, dict) and isinstance(base.get(name), dict)
        result[name] = _merge(base[name], value) if both else value
    return result


def _fill(value: Any, values: Mapping[str, Any], *, where: str, root: Path) -> Any:
    """Replace ``{name}`` in all texts; make files relative to the root."""
    if isinstance(value, dict):
        filled = {k: _fill(v, values, where=f"{where}.{k}", root=root) for k, v in value.items()}
        if isinstance(filled.get("file"), str):
            filled["file"] = root / filled["file"]
        return filled
    if not isinstance(value, str):
        return value
    try:
        return string.Formatter().vformat(value, (), values)
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        known = ", ".join(sorted(values))
        raise IngestError(
            f"{where}: {value!r} cannot be filled in: {error}; known names: {known}."
        ) from error
