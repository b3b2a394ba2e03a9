# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""A page with pictures and tables in one file."""

from __future__ import annotations

__all__ = ("Section", "choose_key_rows", "format_number", "make_page", "pivot_metrics", "render_table")

import base64
import dataclasses
import html
import importlib.resources
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from astropy.table import Table

from ._rows import PER_EXPOSURE

_KEY = (
    *("star_fwhm", "star_over_psf_fwhm", "sky_rms", "sky_aperture_rms", "point_source_depth"),
    *("flux_ratio", "star_flux_bias", "galaxy_flux_bias", "completeness", "purity", "n_sources", "n_split"),
    *("false_positive_rate", "mask_fraction_NO_DATA", "seam_ratio", "run_time", "peak_memory"),
)
"""How the names of the first metrics to look at begin."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Section:
    """Part of a page with a title of its own."""

    title: str
    tables: Sequence[tuple[str, Table]] = ()
    """Captions and tables; the first stands before the pictures, the others
    are folded behind them. `render_table` says how cells are shown."""

    pictures: Sequence[tuple[str, bytes]] = ()
    """Captions and PNG files."""


def format_number(value: float, error: float = math.nan) -> str:
    """Write a number with as many digits as its error justifies.

    Parameters
    ----------
    value, error
        In one unit; an error that is NaN or 0 is not written.
    """
    if not math.isfinite(value):
        return "-"
    if not (math.isfinite(error) and error > 0):
        return f"{value:.4g}"
    digits = max(0, 1 - math.floor(math.log10(error)))
    return f"{value:.{digits}f} ± {error:.{digits}f}"


def pivot_metrics(
    metrics: Table, *, texts: Sequence[str] = ("unit", "definition"), absent: Any = (math.nan, math.nan)
) -> Table:
    """Put the planes of a table of metrics side by side.

    Parameters
    ----------
    metrics
        Columns ``name``, ``plane``, ``value``, ``error`` and `texts`.
    texts
        Names of columns that follow the planes.
    absent
        Stands where a plane does not have a metric.

    Returns
    -------
    `astropy.table.Table`
        A row for each metric, a column for each plane with pairs of value
        and error as objects. Metrics of single exposures are left out.
    """
    planes = list(dict.fromkeys(str(plane) for plane in metrics["plane"]))
    lines: dict[str, dict[str, Any]] = {}
    for row in metrics:
        name = str(row["name"])
        if name.startswith(PER_EXPOSURE):
            continue
        empty = {"metric": name, **dict.fromkeys(planes, absent)}
        line = lines.setdefault(name, empty | {text: str(row[text]) for text in texts})
        line[str(row["plane"])] = (float(row["value"]), float(row["error"]))
    table = Table()
    for name in ("metric", *planes, *texts):
        column = np.empty(len(lines), dtype=object)
        for i, line in enumerate(lines.values()):
            column[i] = line[name]
        table[name] = column
    return table


def render_table(table: Table, *, identifier: str) -> str:
    """Write a table that can be sorted and filtered.

    Parameters
    ----------
    table
        Cells are texts, numbers, or pairs of value and error.
    identifier
        Of the element; unique on the page.
    """
    heads = []
    for column in table.columns.values():
        unit = f" [{column.unit}]" if column.unit else ""
        heads.append(f'<th scope="col"><button type="button">{html.escape(column.name + unit)}</button></th>')
    rows = []
    for row in table:
        cells = "".join(_render_cell(row[name]) for name in table.colnames)
        rows.append(f"<tr>{cells}</tr>")
    return (
        f'<input class="filter" type="search" data-table="{identifier}" aria-label="filter rows" '
        f'placeholder="filter rows">\n<table id="{identifier}"><thead><tr>{"".join(heads)}</tr></thead>\n'
        f"<tbody>\n{chr(10).join(rows)}\n</tbody></table>"
    )


def _render_cell(value: Any) -> str:
    """Write a cell; numbers carry their exact value for sorting."""
    if isinstance(value, tuple):
        return f'<td class="number" data-value="{value[0]!r}">{format_number(*value)}</td>'
    if isinstance(value, (bool, np.bool_)):
        return f"<td>{'yes' if value else 'no'}</td>"
    if isinstance(value, (int, float, np.number)):
        text = str(value) if isinstance(value, (int, np.integer)) else format_number(float(value))
        return f'<td class="number" data-value="{float(value)!r}">{text}</td>'
    text = html.escape(str(value))
    return f'<td class="text">{text}</td>' if len(text) > 30 else f"<td>{text}</td>"


def make_page(
    title: str,
    introduction: str,
    sections: Sequence[Section],
    *,
    links: Mapping[str, Sequence[tuple[str, str]]] | None = None,
) -> str:
    """Write a page that needs no other file and no network.

    Parameters
    ----------
    title
        Of the page.
    introduction
        A paragraph of plain text.
    sections
        In order.
    links
        Titles and addresses of other pages, named after the sections: by what
        stands before them, a line each.

    Returns
    -------
    `str`
        HTML.
    """
    folder = importlib.resources.files("lsst.coadd.astroclearnet") / "resources" / "report"
    style, script = ((folder / name).read_text() for name in ("page.css", "page.js"))
    anchors = _render_links([(one.title, f"#s{k}") for k, one in enumerate(sections)])
    for before, others in (links or {}).items():
        anchors += f"\n<p>{html.escape(before)}\n{_render_links(others)}</p>"
    body = "\n".join(_render_section(section, k) for k, section in enumerate(sections))
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head><meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width">\n<title>{html.escape(title)}</title>\n'
        f'<link rel="icon" href="data:,">\n<style>\n{style}</style></head>\n<body>\n'
        f"<h1>{html.escape(title)}</h1>\n<p>{html.escape(introduction)}</p>\n<nav>{anchors}</nav>\n"
        f"{body}\n<script>\n{script}</script>\n</body></html>\n"
    )


def _render_links(links: Sequence[tuple[str, str]]) -> str:
    """Write titles and addresses as links."""
    return "\n".join(f'<a href="{html.escape(address)}">{html.escape(text)}</a>' for text, address in links)


def _render_section(section: Section, k: int) -> str:
    """Write one section: first table, pictures, other tables folded."""
    tables = []
    for i, (caption, table) in enumerate(section.tables):
        content = render_table(table, identifier=f"t{k}-{i}")
        opened = " open" if i == 0 else ""
        tables.append(f"<details{opened}><summary>{html.escape(caption)}</summary>\n{content}</details>")
    figures = []
    for caption, picture in section.pictures:
        data = base64.b64encode(picture).decode("ascii")
        text = html.escape(caption)
        image = f'<img alt="{text}" src="data:image/png;base64,{data}">'
        figures.append(f"<figure>{image}<figcaption>{text}</figcaption></figure>")
    head = f'<section id="s{k}"><h2>{html.escape(section.title)}</h2>'
    return "\n".join([head, *tables[:1], *figures, *tables[1:], "</section>"])


def choose_key_rows(table: Table) -> Table:
    """Choose what tells in a minute what a coadd gains and costs.

    Parameters
    ----------
    table
        With a column ``name`` or ``metric``.
    """
    names = table["name" if "name" in table.colnames else "metric"]
    return table[np.array([str(name).startswith(_KEY) for name in names], dtype=bool)]
