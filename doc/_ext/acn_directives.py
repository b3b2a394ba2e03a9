# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Directives that read the package, so that the guide cannot drift from it."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import yaml
from documenteer.ext.lssttasks.crossrefs import format_config_id
from documenteer.ext.lssttasks.taskutils import get_type
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.docutils import SphinxDirective
from sphinx.util.rst import escape

ROOT = Path(__file__).resolve().parents[2]
PIPELINES = ROOT / "python/lsst/coadd/astroclearnet/resources/pipelines"
CONFIGS = ROOT / "python/lsst/coadd/astroclearnet/resources/config"


def format_table(header: Sequence[str], rows: Iterable[Sequence[str]], widths: str) -> str:
    """Write a table in reStructuredText; cells are one line each."""
    lines = [".. list-table::", "   :header-rows: 1", f"   :widths: {widths}", ""]
    for row in (header, *rows):
        lines += [f"   {'*' if i == 0 else ' '} - {cell}" for i, cell in enumerate(row)]
    return "\n".join(lines)


def literal(text: str) -> str:
    """Write text as code."""
    return f"``{text}``" if text else ""


class Connections(SphinxDirective):
    """``acn-connections``: the datasets of a task, under their default names.

    The page becomes the place that the field ``connections`` of the task's
    configuration refers to.
    """

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Make the table."""
        config = get_type(self.arguments[0]).ConfigClass
        connections = config.ConnectionsClass
        rows = []
        for name, connection in connections.allConnections.items():
            kind = "output" if name in connections.outputs else "input"
            dataset = connection.name.format(**connections.defaultTemplates)
            dimensions = ", ".join(sorted(connection.dimensions))
            what = f"{literal(dataset)} ({literal(connection.storageClass)}; {dimensions})"
            rows.append((f"{literal(name)} ({kind})", what, escape(connection.doc)))
        header = ("connection", "dataset type (storage class; dimensions)", "what it is")
        table = self.parse_text_to_nodes(format_table(header, rows, "20 38 42"))
        return [*self._make_topic(f"lsst.pipe.base.config.{config.__name__}Connections"), *table]

    def _make_topic(self, config_name: str) -> list[nodes.Node]:
        """Register a page for a class that is made at run time."""
        target = nodes.target("", "", ids=[format_config_id(config_name)])
        topics = getattr(self.env, "lsst_task_topics", None)
        if topics is None:
            topics = self.env.lsst_task_topics = {}
        topics[target["ids"][0]] = {
            "docname": self.env.docname,
            "lineno": self.lineno,
            "target": target,
            "summary_node": [],
            "fully_qualified_name": config_name,
            "type": "Config",
        }
        return [target]


class Columns(SphinxDirective):
    """``acn-columns``: the columns of a table that the assembly writes."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Make the table of ``inputs`` or ``history``."""
        from lsst.coadd.astroclearnet.outputs import _tables

        if self.arguments[0] == "inputs":
            table = _tables.make_inputs_table([], pixel_scale=1.0)
        else:
            table = _tables.make_history_table([])
        rows = [
            (literal(column.name), str(column.unit or "\u2014"), escape(column.description))
            for column in table.itercols()
        ]
        return self.parse_text_to_nodes(format_table(("column", "unit", "meaning"), rows, "22 14 64"))


class InputPlanes(SphinxDirective):
    """``acn-input-planes``: mask planes of exposures, and those left out."""

    def run(self) -> list[nodes.Node]:
        """Make the table."""
        from lsst.coadd.astroclearnet.adapters import INPUT_PLANES
        from lsst.coadd.astroclearnet.assemble_acn_coadd import AssembleAcnCoaddConfig
        from lsst.coadd.astroclearnet.core import Plane, _planes

        texts = ModuleAnalyzer.for_module(_planes.__name__).find_attr_docs()
        left_out = AssembleAcnCoaddConfig().bad_plane_bits
        rows = []
        for plane in Plane:
            spellings = [name for name, known in INPUT_PLANES.items() if known == plane]
            text = " ".join(" ".join(texts["Plane", plane.name]).split())
            names = ", ".join(literal(name) for name in spellings)
            rows.append(
                (literal(plane.name), names or "set here", escape(text), "yes" if plane & left_out else "")
            )
        header = ("plane", "names in inputs", "meaning", "left out by default")
        return self.parse_text_to_nodes(format_table(header, rows, "16 24 46 14"))


class OutputPlanes(SphinxDirective):
    """``acn-output-planes``: mask planes of what the package writes."""

    def run(self) -> list[nodes.Node]:
        """Make the table."""
        from lsst.coadd.astroclearnet.adapters._output_planes import OUTPUT_PLANES

        rows = [(literal(plane.name), escape(" ".join(plane.description.split()))) for plane in OUTPUT_PLANES]
        return self.parse_text_to_nodes(format_table(("plane", "meaning"), rows, "20 80"))


class Metrics(SphinxDirective):
    """``acn-metrics``: what each metric means, as the table itself says."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Make the table of ``comparison`` or ``injection``."""
        if self.arguments[0] == "injection":
            from lsst.coadd.astroclearnet.injection import _measure

            rows = [(literal(name), escape(text)) for name, text in _measure.DEFINITIONS.items()]
            return self.parse_text_to_nodes(format_table(("name", "definition"), rows, "25 75"))
        from lsst.coadd.astroclearnet.comparison._rows import DEFINITIONS

        rows = [
            (
                literal(name),
                escape(one.unit) or "\u2014",
                escape(one.text),
                literal(f"{one.key}: ..._{one.statistic}") if one.key else "not in bundles",
            )
            for name, one in DEFINITIONS.items()
        ]
        header = ("name", "unit", "definition", "in analysis_tools")
        return self.parse_text_to_nodes(format_table(header, rows, "20 10 46 24"))


class Pipelines(SphinxDirective):
    """``acn-pipelines``: each pipeline with the description in its file."""

    def run(self) -> list[nodes.Node]:
        """Make a list with an entry for each file."""
        lines = []
        for path in sorted(PIPELINES.rglob("*.yaml")):
            text = yaml.safe_load(path.read_text())["description"]
            lines += [literal(f"pipelines/{path.relative_to(PIPELINES)}"), *_quote(text), ""]
        return self.parse_text_to_nodes("\n".join(lines))


class ConfigFiles(SphinxDirective):
    """``acn-config-files``: each file of overrides with its comment on top."""

    def run(self) -> list[nodes.Node]:
        """Make a list with an entry for each file."""
        lines = []
        for path in sorted(CONFIGS.glob("*.py")):
            _, text, _ = path.read_text().split("\n\n", 2)
            comment = re.sub(r"^# ?", "", text, flags=re.MULTILINE)
            lines += [literal(f"config/{path.name}"), *_quote(comment), ""]
        return self.parse_text_to_nodes("\n".join(lines))


class ReadmeSection(SphinxDirective):
    """``acn-readme``: a section of README.md, or only its table, so that each
    figure stands in one place.
    """

    required_arguments = 1
    final_argument_whitespace = True
    option_spec = {"table": lambda argument: True}  # noqa: RUF012

    def run(self) -> list[nodes.Node]:
        """Parse the section as Markdown."""
        from docutils.utils import new_document
        from myst_parser.parsers.docutils_ import Parser

        path = ROOT / "README.md"
        self.env.note_dependency(str(path))
        found = re.search(
            rf"^## {re.escape(self.arguments[0])}\n(.*?)(?=^## |\Z)", path.read_text(), re.M | re.S
        )
        if not found:
            raise ExtensionError(f"README.md has no section {self.arguments[0]!r}.")
        text = found[1]
        if "table" in self.options:
            text = re.search(r"^\|.*?(?=\n\n)", text, re.M | re.S)[0]
        document = new_document(str(path), self.state.document.settings)
        Parser().parse(text, document)
        return document.children


class Targets(SphinxDirective):
    """``acn-targets``: what was asked of the engine, and what it did."""

    def run(self) -> list[nodes.Node]:
        """Make the table, with as many digits as can be read."""
        path = ROOT / "benchmarks/results/targets.csv"
        self.env.note_dependency(str(path))
        rows = []
        with path.open(newline="") as stream:
            for row in csv.DictReader(stream):
                # What is called a percentage is a fraction in the file.
                factor = 100 if row["check"].endswith(" %") else 1
                value, error, low, high = (
                    factor * float(row[name] or "nan") for name in ("value", "error", "low", "high")
                )
                measured = f"{value:.3g}" + (f" \u00b1 {error:.1g}" if error > 0 else "")
                limits = [f"\u2265 {low:g}"] if math.isfinite(low) else []
                limits += [f"\u2264 {high:g}"] if math.isfinite(high) else []
                met = "yes" if row["passed"] == "True" else "**no**"
                what = escape(f"{row['quantity']}: {row['check']}")
                rows.append((row["number"], what, measured, ", ".join(limits) or "\u2014", met))
        header = ("number", "quantity", "measured", "asked", "met")
        return self.parse_text_to_nodes(format_table(header, rows, "8 46 20 18 8"))


def _quote(text: str) -> list[str]:
    """Indent paragraphs; what is indented already is shown as code."""
    lines = []
    for paragraph in re.split(r"\n\n+", text.strip("\n")):
        is_code = paragraph.startswith(" ")
        if is_code and not (lines and lines[-2:-1] == ["   ::"]):
            lines += ["   ::", ""]
        lines += [f"   {line if is_code else escape(line)}" for line in paragraph.splitlines()] + [""]
    return lines


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives."""
    app.add_directive("acn-connections", Connections)
    app.add_directive("acn-columns", Columns)
    app.add_directive("acn-input-planes", InputPlanes)
    app.add_directive("acn-output-planes", OutputPlanes)
    app.add_directive("acn-metrics", Metrics)
    app.add_directive("acn-pipelines", Pipelines)
    app.add_directive("acn-config-files", ConfigFiles)
    app.add_directive("acn-readme", ReadmeSection)
    app.add_directive("acn-targets", Targets)
    # They read files and modules that Sphinx does not know of.
    return {"parallel_read_safe": False, "parallel_write_safe": True}
