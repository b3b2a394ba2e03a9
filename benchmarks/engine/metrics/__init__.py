# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every figure of the benchmark: what it means and where it comes from.

Arrays are ``(y, x)`` without a halo. A measuring function gives one value a
source; `summarize` and `bin_values` make medians and scatters of them, so
that values of several scenes and realizations can be put together first.
S/N is that of `select_sources`; ``unit`` is the noise of a pixel in an ideal
mean coadd, `coadd_unit`.
"""

from ._detection import *
from ._exposures import *
from ._fluxes import *
from ._images import *
from ._pairs import *
from ._residuals import *
from ._shapes import *
from ._sources import *
from ._structure import *
from ._summary import *
