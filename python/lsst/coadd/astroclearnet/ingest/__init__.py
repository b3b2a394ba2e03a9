# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""From plain FITS exposures to a Butler repository.

The description is `IngestConfig`, read by `load_config`; each exposure is
read by `read_plain_exposure`, and `ingest` writes the repository.
"""

from ._config import *
from ._errors import *
from ._load import *
from ._psf import *
from ._read import *
from ._repository import *
