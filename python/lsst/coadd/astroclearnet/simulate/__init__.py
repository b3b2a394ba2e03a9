# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Simulated skies and exposures with known truth.

One code for the demo repository, the tests and the benchmarks. Nothing here
imports ``lsst`` but the core; `lsst.coadd.astroclearnet.demo` writes the
exposures to a Butler repository.
"""

from ._artifacts import *
from ._camera import *
from ._draw import *
from ._exposures import *
from ._faults import *
from ._scene import *
from ._stack import *
from ._stack_exposure import *
from ._visits import *
