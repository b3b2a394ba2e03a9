# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rows of the table of metrics, and what each of them means."""

from __future__ import annotations

__all__ = (
    "DEFINITIONS",
    "PER_EXPOSURE",
    "Definition",
    "Row",
    "make_row",
    "make_table",
    "measure_median",
    "restate_units",
)

import dataclasses
from collections.abc import Iterable

import numpy as np
from astropy.table import Table

from .._magnitudes import flux_from_mag


@dataclasses.dataclass(frozen=True, kw_only=True)
class Definition:
    """What a metric is."""

    statistic: str
    """Last part of its name in analysis_tools: median, sigmaMad, count..."""

    unit: str
    """Unit as astropy reads it; empty for a pure number."""

    text: str
    """One sentence for the table."""

    key: str
    """First part of its name in analysis_tools."""


def _define(statistic: str, unit: str, text: str, key: str) -> Definition:
    return Definition(statistic=statistic, unit=unit, text=text, key=key)


DEFINITIONS = {
    "star_fwhm": _define(
        "median",
        "arcsec",
        "Median FWHM of isolated bright stars (Gaussian with their adaptive moments).",
        "starFwhm",
    ),
    "star_fwhm_scatter": _define(
        "sigmaMad", "arcsec", "Robust scatter of the FWHM of these stars.", "starFwhm"
    ),
    "psf_fwhm": _define(
        "median", "arcsec", "Median FWHM, measured alike, of the attached PSF at these stars.", "psfFwhm"
    ),
    "star_over_psf_fwhm": _define(
        "median",
        "",
        "Median ratio of the FWHM of a star to that of the attached PSF at the same place in its pixel.",
        "starOverPsfFwhm",
    ),
    "star_over_psf_fwhm_scatter": _define(
        "sigmaMad", "", "Robust scatter of this ratio from star to star.", "starOverPsfFwhm"
    ),
    "star_ellipticity": _define(
        "median", "", "Median |e| of these stars, e = (a^2 - b^2) / (a^2 + b^2).", "starEllipticity"
    ),
    "e1_diff": _define("median", "", "Median of e1 of a star minus e1 of the attached PSF.", "e1Diff"),
    "e2_diff": _define("median", "", "Median of e2 of a star minus e2 of the attached PSF.", "e2Diff"),
    "sky_rms": _define(
        "stdev",
        "nJy",
        "Standard deviation of pixels away from sources, without the outer 0.1 % on each side.",
        "sky",
    ),
    "sky_mean": _define("mean", "nJy", "Mean of these pixels; 0 is expected.", "sky"),
    "sky_pull": _define(
        "stdev", "", "sky_rms in units of the declared error (square root of the variance plane).", "skyPull"
    ),
    "sky_aperture_rms": _define(
        "sigmaMad",
        "nJy",
        "Robust scatter of apertures on empty sky, at the common PSF; none in a restored image, whose sky "
        "is 0.",
        "skyAperture",
    ),
    "sky_aperture_pull": _define(
        "sigmaMad",
        "",
        "Robust scatter of apertures on empty sky, at the plane's own PSF, in units of their declared error: "
        "that of the variance plane, with the correlation of the noise if the metadata tell it. None in a "
        "restored image, or of fewer than 20 apertures.",
        "skyAperturePull",
    ),
    "pixel_correlation": _define(
        "mean", "", "Correlation of neighbouring sky pixels, mean of both directions.", "pixelCorrelation"
    ),
    "point_source_depth": _define(
        "5sigmaDepth",
        "mag",
        "AB magnitude of 5 times the scatter of PSF fluxes on empty sky; none of a restored image "
        "(acn_latent), whose sky is 0 and tells nothing about faint sources.",
        "pointSource",
    ),
    "flux_ratio": _define(
        "median", "", "Median aperture flux relative to the reference plane, at the common PSF.", "fluxRatio"
    ),
    "centroid_dx": _define(
        "median",
        "mas",
        "Median x of a centroid minus that in the reference, at the common PSF.",
        "dx",
    ),
    "centroid_dy": _define(
        "median",
        "mas",
        "Median y of a centroid minus that in the reference, at the common PSF.",
        "dy",
    ),
    "star_flux_bias": _define(
        "median", "", "Median of aperture flux / true flux - 1 of stars, at the common PSF.", "starFluxBias"
    ),
    "galaxy_flux_bias": _define(
        "median",
        "",
        "Median of aperture flux / true flux - 1 of galaxies, at the common PSF.",
        "galaxyFluxBias",
    ),
    "n_sources": _define(
        "count",
        "ct",
        "Detections in the plane, after a filter with its own PSF, above the noise between sources; in a "
        "restored image, which has none, above the flux that they have in the planes beside it.",
        "sources",
    ),
    "n_split": _define(
        "count",
        "ct",
        "Sources of the reference with more than one detection within its PSF FWHM: resolved blends, or "
        "false structure.",
        "splitSources",
    ),
    "n_only_here": _define(
        "count", "ct", "Detections with none in the reference within its PSF FWHM.", "onlyHere"
    ),
    "n_only_in_reference": _define(
        "count", "ct", "Detections in the reference with none here within its PSF FWHM.", "onlyInReference"
    ),
    "n_split_stars": _define(
        "count", "ct", "Isolated true stars with more than one detection: always false.", "splitStars"
    ),
    "false_positive_rate": _define(
        "rate",
        "arcmin-2",
        "Detections in the sign-flipped residual (plane - reference, at the common PSF) away from sources of "
        "the reference, above as many sigma of the sky there as a detection needs.",
        "falsePositive",
    ),
    "missed_rate": _define(
        "rate", "arcmin-2", "The same in the residual (reference - plane): light that is missing.", "missed"
    ),
    "completeness": _define(
        "fraction",
        "",
        "True sources, where the reference has data, with a detection of their own within its PSF FWHM: of a "
        "blend that is not resolved one counts.",
        "completeness",
    ),
    "purity": _define(
        "fraction", "", "Detections with a true source within the PSF FWHM of the reference.", "purity"
    ),
    "exposure_chi2": _define(
        "median", "", "Median over the exposures used of the reduced chi2 against the model.", "exposureChi2"
    ),
    "exposure_chi2_max": _define("max", "", "Largest reduced chi2 of an exposure used.", "exposureChi2"),
    "exposure_chi2_of": _define(
        "value", "", "Reduced chi2 of this exposure (visit, detector) against the model.", ""
    ),
    "n_exposures": _define("count", "ct", "Exposures (visit, detector) used.", "exposures"),
    "mask_fraction": _define("fraction", "", "Share of the pixels of the patch in this mask plane.", "mask"),
    "seam_ratio": _define(
        "rms",
        "",
        "Steps of the sky across edges of cells, rms, relative to those across lines elsewhere: 1 without "
        "seams. Not of a restored image, which has no noise there.",
        "seam",
    ),
    "run_time": _define("total", "s", "Wall time of the task that made the plane, on this patch.", "runTime"),
    "peak_memory": _define("max", "Mbyte", "Largest resident memory of that process.", "memory"),
}
"""What each metric means, by name. Names of metrics by S/N, mask plane or
exposure begin with one of these."""

Row = tuple[str, str, float, float, str, int, str, str]
"""Name, plane, value, error, unit, n, statistic, definition."""

PER_EXPOSURE = "exposure_chi2_of_"
"""How the names of the metrics of single exposures begin."""


_IN_PIXELS = {"arcsec": (1.0, "pix"), "mas": (1e-3, "pix"), "arcmin-2": (1 / 3600, "pix-2")}
"""What each unit becomes where a pixel was taken as 1 arcsec."""

_COLUMNS = ("name", "plane", "value", "error", "unit", "n", "statistic", "definition")


def make_row(
    name: str, plane: str, value: float, error: float = np.nan, *, n: int, suffix: str = "", note: str = ""
) -> Row:
    """Make a row of the table.

    Parameters
    ----------
    name
        One of `DEFINITIONS`.
    plane
        Which coadd.
    value, error
        In the unit of the definition; NaN if there is none.
    n
        How many values it is made from.
    suffix
        Added to the name: a bin of S/N, a mask plane.
    note
        Added to the definition.
    """
    definition = DEFINITIONS[name]
    full = f"{name}_{suffix}" if suffix else name
    text = f"{definition.text} {note}".rstrip()
    return full, plane, float(value), float(error), definition.unit, int(n), definition.statistic, text


def make_table(rows: Iterable[Row]) -> Table:
    """Make the table of metrics.

    Parameters
    ----------
    rows
        As of `make_row`.

    Returns
    -------
    `astropy.table.Table`
        Columns ``name``, ``plane``, ``value``, ``error``, ``unit``, ``n``,
        ``statistic``, ``definition``.
    """
    return Table(rows=list(rows), names=_COLUMNS, dtype=(str, str, float, float, str, int, str, str))


def restate_units(metrics: Table, *, pixels: bool, counts: bool) -> Table:
    """Return metrics without units that the images do not have.

    Parameters
    ----------
    metrics
        As of `make_table`, of images whose pixels were taken as 1 arcsec and
        whose unit was taken as nJy where they have none.
    pixels
        Give sizes in pixels.
    counts
        Give fluxes in the unit of the image, whatever it is, and no
        magnitudes.
    """
    metrics = metrics.copy()
    for row in metrics:
        if pixels and row["unit"] in _IN_PIXELS:
            factor, row["unit"] = _IN_PIXELS[row["unit"]]
            row["value"], row["error"] = factor * row["value"], factor * row["error"]
        elif counts and row["unit"] == "mag":
            row["value"] = flux_from_mag(row["value"])
            row["error"] *= 0.4 * np.log(10) * row["value"]
            row["unit"] = "count"
            row["definition"] = row["definition"].replace("AB magnitude of 5 times", "5 times")
        elif counts and row["unit"] == "nJy":
            row["unit"] = "count"
    return metrics


def measure_median(values: np.ndarray) -> tuple[float, float, int]:
    """Return the median, its error and the number of finite values."""
    values = values[np.isfinite(values)]
    if not len(values):
        return float("nan"), float("nan"), 0
    low, middle, high = np.percentile(values, (15.865, 50.0, 84.135))
    error = 1.2533 * 0.5 * (high - low) / np.sqrt(len(values)) if len(values) > 2 else float("nan")
    return float(middle), float(error), len(values)
