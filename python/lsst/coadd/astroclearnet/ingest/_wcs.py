# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""World coordinates of an exposure: FITS headers, and those of SCAMP."""

from __future__ import annotations

__all__ = ("read_wcs",)

import math
import warnings
from pathlib import Path

import numpy as np
from astropy.coordinates import FK5, ICRS
from astropy.io import fits
from astropy.wcs import WCS, FITSFixedWarning, WcsError
from astropy.wcs.utils import proj_plane_pixel_scales, wcs_to_celestial_frame

from ._config import MOST_SCALE, WcsConfig
from ._errors import IngestError, naming_file
from ._hdu import find_hdu

_TEXT_SUFFIXES = (".head", ".ahead", ".txt")


def read_wcs(config: WcsConfig, header: fits.Header, *, source: Path) -> WCS:
    """Make the WCS of an exposure.

    Parameters
    ----------
    config
        Where it is, and what to add to it.
    header
        Header of the image; used where `config` names no file.
    source
        File of the image, for the text of an error.

    Returns
    -------
    `astropy.wcs.WCS`
        ICRS, right ascension first. FK5 of J2000 is taken as it is: the two
        differ by 0.02 arcsec.

    Raises
    ------
    IngestError
        If the header cannot be used; the text names the file.
    """
    if config.file is not None:
        source = config.file
        header = _read_header(source, config.hdu)
    header = header.copy()
    with naming_file(source), warnings.catch_warnings():
        warnings.simplefilter("ignore", FITSFixedWarning)  # remarks on dates
        try:
            wcs = WCS(header)
            if not wcs.has_celestial or wcs.naxis != 2:
                raise IngestError(f"{source}: its header has no celestial WCS.")
            _check_frame(wcs, source=source)
            _check_scale(wcs, source=source)
            _move(header, config, source=source)
            return WCS(header)
        except WcsError as error:
            raise IngestError(f"{source}: its WCS cannot be used: {error}") from error


def _move(header: fits.Header, config: WcsConfig, *, source: Path) -> None:
    """Add the offsets of a description to the reference position."""
    names = ("CRVAL1", "CRVAL2", "CRPIX1", "CRPIX2")
    # For what is not given FITS has 0: a place, but not that of the image.
    if missing := [name for name in names if not isinstance(header.get(name), int | float)]:
        raise IngestError(f"{source}: its header has no number as {' and as '.join(missing)}.")
    ra, dec = header["CRVAL1"], header["CRVAL2"]
    header["CRVAL1"] = ra + config.ra_offset / 3600 / np.cos(np.deg2rad(dec))
    header["CRVAL2"] = dec + config.dec_offset / 3600


def _check_scale(wcs: WCS, *, source: Path) -> None:
    """Refuse the scale that FITS has for what is not given: a degree for each
    pixel.
    """
    scale = 3600 * float(proj_plane_pixel_scales(wcs).max())
    if scale > MOST_SCALE:
        raise IngestError(
            f"{source}: the pixels of its WCS are {scale:.3g} arcsec wide; its header needs CD1_1, CD1_2, "
            "CD2_1 and CD2_2, or CDELT1 and CDELT2."
        )


def _read_header(path: Path, hdu: int | str | None) -> fits.Header:
    if path.suffix not in _TEXT_SUFFIXES:
        with naming_file(path), fits.open(path) as hdus:
            return find_hdu(hdus, hdu or 0, source=path).header.copy()
    with naming_file(path):
        headers = _split_headers(path)
    if not headers:
        raise IngestError(f"{path} is empty.")
    if hdu is None and len(headers) > 1:
        raise IngestError(
            f"{path} holds {len(headers)} headers; give the number of that of the exposure as wcs.hdu, "
            "from 1 for the first."
        )
    number = 1 if hdu is None else hdu
    if number not in range(1, len(headers) + 1):
        raise IngestError(f"{path} has no header number {number!r}; it holds {len(headers)}, counted from 1.")
    return headers[int(number) - 1]


def _split_headers(path: Path) -> list[fits.Header]:
    """Read a text file with a header for each chip, each up to its END."""
    # SCAMP writes names of places in latin-1, and FITS holds ASCII only.
    text = path.read_text(encoding="latin-1").encode("ascii", "replace").decode("ascii")
    blocks: list[list[str]] = [[]]
    for line in text.split("\n"):
        if line.rstrip() == "END":
            blocks.append([])
        else:
            blocks[-1].append(line.rstrip())
    if not any(blocks[-1]):  # nothing but empty lines after the last END
        blocks.pop()
    return [fits.Header.fromstring("\n".join(lines), sep="\n") for lines in blocks]


def _check_frame(wcs: WCS, *, source: Path) -> None:
    """Refuse what must not be taken for right ascension and declination of
    the ICRS.
    """
    remedy = "Put one in ICRS into the header of the image, or into a file that wcs.file names."
    # The frame alone does not tell: astropy believes a RADESYS beside GLON.
    if [axis[:4] for axis in wcs.wcs.ctype] != ["RA--", "DEC-"]:
        raise IngestError(
            f"{source}: the axes of its WCS are {' and '.join(wcs.wcs.ctype)}; they must be right ascension "
            f"and declination, in this order. {remedy}"
        )
    try:
        frame = wcs_to_celestial_frame(wcs)
    except ValueError as error:
        raise IngestError(
            f"{source}: the frame {wcs.wcs.radesys} of its WCS is not known. {remedy}"
        ) from error
    if isinstance(frame, ICRS):
        return
    if isinstance(frame, FK5) and math.isclose(frame.equinox.jyear, 2000.0):
        return
    name = wcs.wcs.radesys or frame.name.upper()
    equinox = frame.equinox.jyear_str if isinstance(frame, FK5) else frame.equinox.byear_str
    raise IngestError(
        f"{source}: its WCS is in {name} of equinox {equinox}; only ICRS and FK5 of J2000 can be read. "
        f"{remedy}"
    )
