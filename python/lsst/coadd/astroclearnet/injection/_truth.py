# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a coadd of injected exposures should hold."""

from __future__ import annotations

__all__ = ("make_truth", "merge_injected")

from collections.abc import Sequence

import astropy.units as u
import numpy as np
from astropy.table import Table, vstack

from lsst.images import Image

from .._coadds import sample_gaussian
from ..adapters import PatchGeometry
from ..comparison._truth import SERSIC_OF_TYPE
from ..core.warp._frame import Frame
from ..simulate import flux_from_mag
from ._draw import draw_light

_STARS = ("DeltaFunction", "Star")
_KERNEL_SIZE = 61


def merge_injected(catalogs: Sequence[Table]) -> Table:
    """Join the catalogues of what was injected into single exposures.

    Parameters
    ----------
    catalogs
        What `InjectAcnSourcesTask`, or ``VisitInjectTask`` of
        lsst.source_injection, wrote for each exposure.

    Returns
    -------
    `~astropy.table.Table`
        One row a source that was drawn into at least one exposure, ordered
        by ``injection_id``, without pixel positions, and with the number of
        exposures as ``n_exposures``. Sources at two places are two, even if
        catalogues that were made apart give them one id.
    """
    drawn = [catalog[np.asarray(catalog["injection_flag"]) == 0] for catalog in catalogs]
    drawn = [catalog for catalog in drawn if len(catalog)]
    if not drawn:
        return Table({"injection_id": np.zeros(0, np.int64), "n_exposures": np.zeros(0, int)})
    table = vstack(drawn, metadata_conflicts="silent")
    place = np.column_stack([np.asarray(table[name], float) for name in ("injection_id", "ra", "dec")])
    _, first, count = np.unique(place, axis=0, return_index=True, return_counts=True)
    table = table[first]
    for name in ("x", "y", "injection_flag", "injection_draw_size"):
        if name in table.colnames:
            table.remove_column(name)
    table["n_exposures"] = count
    return table


def make_truth(injected: Table, geometry: PatchGeometry, *, target_fwhm: float) -> tuple[Table, Image]:
    """Describe the injected sources on a patch.

    Parameters
    ----------
    injected
        What `merge_injected` returns.
    geometry
        The patch.
    target_fwhm
        FWHM of the Gaussian PSF of the image, in pixels.

    Returns
    -------
    catalog : `~astropy.table.Table`
        Sources on the outer box of the patch, in the columns of the truth of
        the demo repository (``id``, ``type``, ``x``, ``y``, ``ra``, ``dec``,
        ``flux`` in nJy, ``mag``, ``half_light_radius``, ``sersic_n``,
        ``in_patch``), with those of the injection beside them.
    image : `lsst.images.Image`
        Their light without noise, in nJy; nothing else is on it.
    """
    outer = geometry.outer_bbox
    kernel = sample_gaussian(target_fwhm, _KERNEL_SIZE)
    frame = Frame(
        label=f"tract={geometry.tract} patch={geometry.patch}",
        x0=outer.x.start,
        y0=outer.y.start,
        width=outer.x.size,
        height=outer.y.size,
        wcs=geometry.wcs,
    )
    if len(injected):
        drawn = draw_light(injected, frame, psf=lambda *, x, y: kernel)
        table, light = drawn.catalog, drawn.light
    else:
        table, light = injected, np.zeros((frame.height, frame.width))
    image = Image(light.astype(np.float32), bbox=outer, unit=u.nJy, sky_projection=geometry.sky_projection)
    return _describe(table, frame), image


def _describe(table: Table, frame: Frame) -> Table:
    """Put the sources on the patch into the columns of a truth catalogue."""
    if not len(table):
        names = ("id", "ra", "dec", "x", "y", "flux", "mag", "half_light_radius", "sersic_n")
        empty = {name: np.zeros(0) for name in names}
        return Table(empty | {"type": np.zeros(0, "U6"), "in_patch": np.zeros(0, bool)})
    x, y = np.asarray(table["x"]), np.asarray(table["y"])
    inside = (x >= frame.x0 - 0.5) & (x < frame.x0 + frame.width - 0.5)
    inside &= (y >= frame.y0 - 0.5) & (y < frame.y0 + frame.height - 0.5)
    table, x, y = table[inside], x[inside], y[inside]
    mag = np.asarray(table["mag"], float)
    kinds = [str(kind) for kind in table["source_type"]]
    is_star = np.isin(kinds, _STARS)
    result = Table(
        {
            "id": np.asarray(table["injection_id"]),
            "type": np.where(is_star, "star", "galaxy"),
            "ra": np.asarray(table["ra"], float) * u.deg,
            "dec": np.asarray(table["dec"], float) * u.deg,
            "x": x * u.pix,
            "y": y * u.pix,
            "flux": np.asarray(flux_from_mag(mag)) * u.nJy,
            "mag": mag,
            "half_light_radius": _fill(table, "half_light_radius", is_star) * u.arcsec,
            "sersic_n": [
                SERSIC_OF_TYPE.get(kind.lower(), index)
                for kind, index in zip(kinds, _fill(table, "n", is_star), strict=True)
            ],
            "in_patch": np.ones(len(table), bool),
        },
        meta=dict(table.meta),
    )
    for name in ("injection_id", "source_type", "q", "beta", "trunc", "n_exposures"):
        if name in table.colnames:
            result[name] = table[name]
    return result


def _fill(table: Table, name: str, is_star: np.ndarray) -> np.ndarray:
    """Return a column of galaxies, with 0 for stars and where it is not."""
    if name not in table.colnames:
        return np.zeros(len(table))
    values = np.ma.filled(np.ma.asarray(table[name], dtype=float), 0.0)
    return np.where(is_star, 0.0, np.nan_to_num(values))
