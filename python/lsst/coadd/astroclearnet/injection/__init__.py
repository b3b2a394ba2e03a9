# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Synthetic sources in real exposures.

`make_injection_catalog` places them, `draw_light` draws them as an exposure
sees them, `make_truth` says what a coadd of such exposures should hold, and
`put_injection_catalog` stores a catalogue in a repository. Catalogues have the
format of ``lsst.source_injection``, so that either package can use those of
the other.
"""

from ._area import *
from ._catalog import *
from ._draw import *
from ._errors import *
from ._measure import *
from ._noise import *
from ._options import *
from ._origin import *
from ._prepare import *
from ._profiles import *
from ._truth import *
