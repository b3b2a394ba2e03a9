# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Sphinx configuration: that of single packages of the Science Pipelines."""

# ruff: noqa: F405

import sys
from pathlib import Path

from documenteer.conf.pipelinespkg import *  # noqa: F403

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "coadd_astroclearnet"
html_theme_options["logo"]["text"] = project
html_title = project
html_short_title = project
# No link that would be loaded from elsewhere: the pages work offline.
html_theme_options["external_links"] = []

# Parts of the configuration that nothing here uses: C++ and REST interfaces,
# notebooks, videos, moved pages.
for name in (
    "documenteer.ext.autocppapi",
    "documenteer.ext.openapi",
    "myst_nb",
    "sphinxcontrib.doxylink",
    "sphinxcontrib.mermaid",
    "sphinxcontrib.redoc",
    "sphinxcontrib.youtube",
    "sphinxext.opengraph",
    "sphinxext.rediraffe",
):
    if name in extensions:
        extensions.remove(name)
extensions.append("acn_directives")

# The build needs no network: names of other packages are not linked.
intersphinx_mapping = {}

# Two hyphens begin an option in commands to copy.
smartquotes = False

# Defaults as they are written, not where a function lies in memory.
autodoc_preserve_defaults = True
typehints_defaults = None

# Methods of pipe_base and pex_config are documented there.
automodsumm_inherited_members = False

# Imports for type checkers only may be of packages that are not installed.
suppress_warnings = ["sphinx_autodoc_typehints"]

html_css_files.append("acn.css")  # in _static

exclude_patterns += ["_ext", "_build", "images"]
