# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Find the HDU that a description names."""

from __future__ import annotations

__all__ = ("find_hdu",)

from pathlib import Path

from astropy.io import fits

from ._errors import IngestError

_MOST_NAMES = 12
"""HDUs that a message lists."""


def find_hdu(hdus: fits.HDUList, hdu: int | str, *, source: Path) -> fits.hdu.base.ExtensionHDU:
    """Return an HDU of a file.

    Parameters
    ----------
    hdus
        The open file.
    hdu
        Number, 0 for the primary HDU, or name.
    source
        Name of the file, for the text of an error.

    Raises
    ------
    IngestError
        If there is none of that number or name; the text lists those there
        are.
    """
    try:
        return hdus[hdu]
    except (IndexError, KeyError):
        found = [f"{number} {one.name}".rstrip() for number, one in enumerate(hdus)]
        more = f" and {len(found) - _MOST_NAMES} more" if len(found) > _MOST_NAMES else ""
        raise IngestError(
            f"{source} has no HDU {hdu}; it has {', '.join(found[:_MOST_NAMES])}{more}."
        ) from None
