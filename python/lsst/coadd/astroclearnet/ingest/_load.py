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

import reprlib
import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pydantic
import yaml
from astropy.io.registry import IORegistryError
from astropy.table import Row, Table

from ._config import Exposure, IngestConfig
from ._errors import IngestError, naming_file

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_MISSING = "is missing"

_MOST_FAULTS = 5
"""Faults, or exposures with one, that a message names."""


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
        content = yaml.safe_load(path.read_bytes())  # UTF-8, whatever the locale
    except yaml.YAMLError as error:
        raise IngestError(f"{path} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise IngestError(f"{path} must hold a mapping with instrument, sky_map and exposures.")
    named_root = _take(content, "data_root", str, "a path") or "."
    root = data_root or path.parent / named_root
    if not root.is_dir():
        raise IngestError(f"The data root {root} does not exist; name the directory with --data-root.")
    table = content.pop("table", None)
    defaults = _take(content, "defaults", dict, "a mapping") or {}
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
        raise IngestError(f"{path}: {_describe_faults(error, len(content['exposures']))}.") from error


def _take(content: dict[str, Any], name: str, kind: type, what: str) -> Any:
    """Remove an entry that `IngestConfig` does not have, and return it; `None`
    if there is none, or nothing is written behind it.
    """
    value = content.pop(name, None)
    if value is not None and not isinstance(value, kind):
        raise IngestError(f"{name} must be {what}; got {reprlib.repr(value)}.")
    return value


def _describe_faults(error: pydantic.ValidationError, n_exposures: int) -> str:
    """Say what is wrong with a description: each fault once, with the
    exposures that have it, and no more than can be read.
    """
    where: dict[str, list[int]] = {}
    for fault in error.errors():
        if fault["type"] == "too_short" and n_exposures:
            continue  # those with faults are not counted
        match fault["loc"]:
            case ("exposures", int(number), *fields):
                where.setdefault(_describe_fault(fault, fields), []).append(number)
            case fields:
                where.setdefault(_describe_fault(fault, fields), [])
    texts: dict[tuple[int, ...], list[str]] = {}
    for text, numbers in where.items():
        texts.setdefault(tuple(numbers), []).append(text)
    faults = [
        ", ".join(found) + _name_exposures(numbers, n_exposures, missing=found[0].endswith(_MISSING))
        for numbers, found in texts.items()
    ]
    rest = len(faults) - _MOST_FAULTS
    return "; ".join(faults[:_MOST_FAULTS]) + (f"; and {rest} more" if rest > 0 else "")


def _describe_fault(fault: ErrorDetails, fields: Sequence[int | str]) -> str:
    """Say what is wrong with one entry, in the words of a description."""
    name = ".".join(str(part) for part in fields) or "the description"
    match fault["type"]:
        case "missing":
            return f"{name} {_MISSING}"
        case "extra_forbidden":
            return f"{name} is not known"
        case "too_short" | "string_too_short":
            return f"{name} is empty"
        case "string_too_long":
            return f"{name} has more than {fault['ctx']['max_length']} characters"
        case "value_error":
            return f"{name}: {fault['ctx']['error']}"
        case "union_tag_not_found":
            return f"{name}.kind {_MISSING}"
        case "union_tag_invalid":
            return f"{name}.kind must be one of {fault['ctx']['expected_tags']}; got {fault['ctx']['tag']!r}"
        case "model_type" | "model_attributes_type" | "dict_type":
            message = "a mapping"
        case "path_type":
            message = "the name of a file"
        case _:
            message = fault["msg"].removeprefix("Input should be ").replace(", unable to", "; unable to")
    return f"{name} must be {message}; got {reprlib.repr(fault['input'])}"


def _name_exposures(numbers: Sequence[int], n_exposures: int, *, missing: bool) -> str:
    """Name those with a fault, counted from 0 as in the file."""
    if not numbers:
        return ""
    if len(numbers) == n_exposures > 1:
        return f" in all {n_exposures} exposures: {'put it under' if missing else 'look at'} defaults"
    listed = ", ".join(str(number) for number in numbers[:_MOST_FAULTS])
    more = ", ..." if len(numbers) > _MOST_FAULTS else ""
    return f" in exposure{'s' * (len(numbers) > 1)} {listed}{more} (of {n_exposures}, counted from 0)"


def _read_rows(root: Path, table: Any) -> dict[Any, Row]:
    if not isinstance(table, dict) or set(table) != {"file", "key"}:
        raise IngestError(
            "table must have file (what astropy reads) and key (column that names an exposure)."
        )
    path = root / str(table["file"])
    with naming_file(path):
        try:
            rows = Table.read(path)
        except IORegistryError as error:  # it lists all formats that there are
            raise IngestError(f"{path} is no table of a format that astropy knows.") from error
    if table["key"] not in rows.colnames:
        raise IngestError(f"{path} has no column {table['key']!r}.")
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
        wanted = entry.get(key)
        if isinstance(wanted, dict | list) or wanted not in rows:
            raise IngestError(
                f"exposures.{number}: the table has no row with {key} = {reprlib.repr(wanted)}."
            )
        row = rows[wanted]
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
