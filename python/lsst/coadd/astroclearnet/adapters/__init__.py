# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Between the image libraries and the core.

What is behind an adapter knows neither ``lsst.images`` nor ``lsst.afw``.
"""

from ._adapter import *
from ._aperture_corrections import *
from ._catalogs import *
from ._geometry import *
from ._images import *
from ._masks import *
from ._output import *
from ._output_planes import *
from ._provenance import *
from ._read import *
