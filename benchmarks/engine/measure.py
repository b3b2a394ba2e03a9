# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measure what a peer delivers: rows of tables, nothing judged."""

from __future__ import annotations

__all__ = ("TABLES", "Judge")

import dataclasses
from functools import cached_property

import astropy.table
import numpy as np
from scipy.ndimage import uniform_filter

from lsst.coadd.astroclearnet.comparison._photometry import adaptive_fwhm
from lsst.coadd.astroclearnet.core import CellStack
from lsst.coadd.astroclearnet.simulate import PIXEL_SCALE, StackTruth

from . import metrics
from .peers import Delivery
from .scenes import HALO, Scene, coverage_of
from .skies import SHAPE_SPACING

TABLES = {
    "rows": "one figure of one plane of one realisation",
    "sources": "one source in one plane",
    "peaks": "one local maximum after the common filter",
    "pairs": "one pair of stars in one plane",
    "stamps": "one odd galaxy in one plane",
}
"""Tables that a run writes, and what a row of each is."""

_INNER = np.s_[HALO:-HALO, HALO:-HALO]
_GAIN = 3.3
"""Electrons per nJy, as `simulate_stack` has it."""

_SEAM = 8
"""Pixels on each side of an edge of the coverage that are compared."""

_SMOOTH, _LEAST_SHARE = 5, 0.05
"""Pixels over which coverage is averaged before its noise is computed, about
those of the filter of the detection, and the least that is divided by."""

_PULLS = ("psf_pull", "psf_noise", "pixel_pull", "aperture_pull", "aperture_pixel_pull")
"""Columns of pulls; `Judge._pulls` says what each of them is."""

type Row = dict[str, float | int | str | bool]


class Judge:
    """Measures everything that peers make of one stack.

    Parameters
    ----------
    scene, realisation
        What was observed.
    stack, truth
        As `Scene.make` returns them.
    """

    def __init__(self, scene: Scene, realisation: int, stack: CellStack, truth: StackTruth):
        self.scene = scene
        self.realisation = realisation
        self.stack = stack
        self.truth = truth
        self.sources = metrics.select_sources(truth, stack, halo=HALO)
        self.unit = metrics.coadd_unit(truth.sky_sigma)
        self._key = {"scene": scene.name, "group": scene.kind, "n": scene.n_exposures}
        self._key |= {"realisation": realisation, "size": scene.size}
        self._skies: dict[float, np.ndarray] = {truth.target_fwhm: truth.image[_INNER]}

    def measure(self, peer: str, delivery: Delivery) -> dict[str, list[Row]]:
        """Measure one plane.

        Returns
        -------
        `dict`
            Rows for each of `TABLES`.
        """
        key = self._key | {"peer": peer, "plane": delivery.plane}
        sky = self.true_sky(delivery)
        tables = {
            "rows": self._measure_image(delivery, sky),
            "sources": self._measure_sources(delivery, sky),
            "peaks": self._find_peaks(delivery, sky),
            "pairs": self._measure_pairs(delivery),
            "stamps": self._measure_stamps(delivery, sky),
        }
        return {name: [key | row for row in rows] for name, rows in tables.items()}

    def measure_leak(self, peer: str, delivery: Delivery, clean: Delivery) -> Row:
        """Measure what a trail that no mask tells has left.

        Parameters
        ----------
        peer
            Name of the peer.
        delivery
            What it makes of the stack.
        clean
            What it makes of the same exposures with the trail masked. Without
            the trail they would know more of the sky: what the loss of these
            pixels costs is no light of the trail.
        """
        artifact = metrics.ideal_artifact(self._trail, self.truth.sky_sigma)[_INNER]
        leak = metrics.streak_leakage(delivery.image, clean.image, artifact)
        return self.row(peer, delivery.plane, "leak", leak)

    def find_trail(self) -> np.ndarray:
        """Tell which pixels a trail reaches, bool ``(n, y, x)``."""
        return metrics.footprint(self._trail)

    @cached_property
    def _trail(self) -> np.ndarray:
        """Light of the trail in each exposure, ``(n, y, x)``."""
        streaked = self.truth.streaked
        added = np.zeros(self.stack.image.shape, dtype=np.float32)
        added[streaked] = self.truth.streak * self.stack.good[streaked]
        return added

    def row(self, peer: str, plane: str, metric: str, value: float) -> Row:
        """Make a row of the table ``rows``."""
        return self._key | {"peer": peer, "plane": plane, "metric": metric, "value": float(value)}

    def true_sky(self, delivery: Delivery) -> np.ndarray:
        """Draw the noiseless sky at the PSF that a delivery declares."""
        if fwhm := delivery.target_fwhm:
            if fwhm not in self._skies:
                self._skies[fwhm] = self.truth.draw(target_fwhm=fwhm)[_INNER]
            return self._skies[fwhm]
        count = delivery.psf.shape[0]
        size = self.scene.size // count
        sky = np.zeros(delivery.image.shape)
        for i in range(count):
            for j in range(count):
                part = np.s_[i * size : (i + 1) * size, j * size : (j + 1) * size]
                sky[part] = metrics.truth_at_psf(self.truth, delivery.psf[i, j], halo=HALO)[part]
        return sky

    @cached_property
    def _noise(self) -> np.ndarray:
        """Noise of an ideal mean coadd, with the photons of the sources."""
        weight = self.truth.sky_sigma**-2.0
        light = np.tensordot(weight / weight.sum(), self.truth.signal, axes=1)[_INNER]
        return np.sqrt(self.unit**2 + np.maximum(light, 0) / (_GAIN * len(weight)))

    @cached_property
    def _depth(self) -> np.ndarray:
        """Noise of an ideal mean coadd relative to that of full coverage."""
        weight = self.truth.sky_sigma**-2.0
        share = np.tensordot(weight / weight.sum(), self.stack.good, axes=1)
        return np.maximum(uniform_filter(share, _SMOOTH)[_INNER], _LEAST_SHARE) ** -0.5

    def _measure_image(self, delivery: Delivery, sky: np.ndarray) -> list[Row]:
        image, unit = delivery.image, self.unit
        figures = {"psf_fwhm": adaptive_fwhm(delivery.kernel)}
        if self.scene.kind == "blank":
            blank = metrics.blank_field(image, unit, psf=delivery.kernel)
            figures |= {f"blank_{name}": value for name, value in dataclasses.asdict(blank).items()}
        else:
            figures["psnr"] = metrics.psnr(image, sky, unit)
            figures["ssim"] = metrics.ssim(image, sky, unit)
            background = metrics.sky_statistics(image, sky, unit)
            figures |= {"sky_rms": background.rms / unit, "sky_mean": background.mean / unit}
        if self.scene.coverage:
            figures["seam"] = self._measure_seam(image - sky)
        if delivery.plane == "latent" and self.scene.cell_size == self.scene.size:
            fit = metrics.exposure_chi2(
                image,
                self.stack,
                latent_fwhm=delivery.target_fwhm,
                halo=HALO,
                rejected=self.truth.artifacts,
            )
            figures |= {"chi2": fit.mean, "chi2_sources": float(np.nanmean(fit.chi2_sources))}
        return [{"metric": name, "value": float(value)} for name, value in figures.items()]

    def _measure_seam(self, error: np.ndarray) -> float:
        """Largest step of the error across an edge of the coverage.

        Medians of strips on both sides, in units of the noise of a pixel of
        the ideal coadd.
        """
        count = coverage_of(self.scene).sum(0)[_INNER]
        steps = [0.0]
        for plane, values in ((count, error), (count.T, error.T)):
            changes = np.abs(np.diff(plane.astype(int), axis=1)).mean(0)
            for edge in np.flatnonzero(changes > 0.3) + 1:
                left, right = values[:, max(edge - _SEAM, 0) : edge], values[:, edge : edge + _SEAM]
                if left.size and right.size:
                    steps.append(abs(float(np.median(right) - np.median(left))))
        return max(steps) / self.unit

    def _measure_sources(self, delivery: Delivery, sky: np.ndarray) -> list[Row]:
        if not len(self.sources):
            return []
        image, sources, kernel = delivery.image, self.sources, delivery.kernel
        inside = np.array(sources["inside"])
        fluxes = metrics.measure_fluxes(image, sky, sources, psf=kernel)
        ideal = metrics.ideal_aperture_sigma(
            fluxes["aperture_truth"], unit=self.unit, gain=_GAIN, n_exposures=self.scene.n_exposures
        )
        shapes = metrics.measure_shapes(image, sky, sources, psf=kernel)
        rings = metrics.rings(image, sky, sources, sigma=self._noise, psf_fwhm=adaptive_fwhm(kernel))
        columns = {
            name: np.array(sources[name]) for name in ("kind", "snr", "usable", "inside", "isolated", "pair")
        }
        columns |= {name: np.array(fluxes[name]) for name in ("aperture_error", "psf_error")}
        columns["aperture_sigmas"] = np.array(fluxes["aperture"] - fluxes["aperture_truth"]) / ideal
        columns |= self._pulls(delivery, fluxes)
        for name in ("fwhm", "fwhm_ratio", "dx", "dy", "ellipticity_error", "rounding"):
            columns[name] = np.array(shapes[name])
        columns["lumps"] = metrics.profile_rms(image, sky, sources)
        columns |= {f"ring_{name}": np.array(rings[name]) for name in ("height", "depth")}
        table = astropy.table.Table({"source": np.arange(len(sources)), **columns})[inside]
        return [dict(zip(table.colnames, (v.item() for v in row), strict=True)) for row in table]

    def _pulls(self, delivery: Delivery, fluxes: astropy.table.Table) -> dict[str, np.ndarray]:
        """Errors of PSF fluxes in units of the written one, the same fluxes of
        the written realization of the noise, and errors in units of what the
        variance plane says if pixels err independently. Then errors of
        aperture fluxes in units of what it says with the correlation of the
        noise, and without.

        A plane that lacks one of these has no pulls.
        """
        if delivery.psf_flux_variance is None or delivery.noise is None or delivery.variance is None:
            return dict.fromkeys(_PULLS, np.full(len(self.sources), np.nan))
        kernel = delivery.kernel
        sigma = np.sqrt(metrics.look_up(delivery.psf_flux_variance, self.sources))
        by_pixels = metrics.independent_sigma(delivery.variance, self.sources, psf=kernel)
        noise = metrics.measure_fluxes(delivery.noise, delivery.noise, self.sources, psf=kernel)["psf"]
        found, true = fluxes["psf"], fluxes["psf_truth"]
        apertures = metrics.aperture_sigma(
            delivery.variance, delivery.noise, self.stack.good.any(axis=0)[_INNER], self.sources
        )
        pulls = (
            metrics.pulls(found, true, sigma),
            metrics.pulls(noise, np.zeros(len(noise)), sigma),
            metrics.pulls(found, true, by_pixels),
            *(metrics.pulls(fluxes["aperture"], fluxes["aperture_truth"], sigma) for sigma in apertures),
        )
        return dict(zip(_PULLS, pulls, strict=True))

    def _find_peaks(self, delivery: Delivery, sky: np.ndarray) -> list[Row]:
        if self.scene.kind not in ("field", "grid", "coverage"):
            return []
        # Where some exposures are missing it takes more light to be found.
        sigma = self._depth if self.scene.kind == "coverage" else 1.0
        peaks = metrics.find_peaks(delivery.image, sky, self.sources, sigma=sigma)
        # Only the brightest false ones can matter, and those of sources.
        kept = np.array(peaks["source"] >= 0)
        false = np.flatnonzero(peaks["false"])
        kept[false[np.argsort(-np.array(peaks["value"])[false])][:100]] = True
        return [dict(zip(peaks.colnames, (v.item() for v in row), strict=True)) for row in peaks[kept]]

    def _measure_pairs(self, delivery: Delivery) -> list[Row]:
        if self.scene.kind != "pairs":
            return []
        pair = np.array(self.sources["pair"])
        places = metrics.pair_positions(self.sources)
        first = [
            int(np.flatnonzero(np.hypot(self.sources["x"] - x, self.sources["y"] - y) < 1e-6)[0])
            for x, y in places[:, :2]
        ]
        found = metrics.measure_pairs(delivery.image, places)
        return [
            {
                "pair": int(pair[source]),
                "separation": float(round(row["separation"] * PIXEL_SCALE, 3)),
                "mag": float(self.sources["mag"][source]),
                "dip": float(row["dip"]),
                "resolved": bool(row["resolved"]),
            }
            for source, row in zip(first, found, strict=True)
        ]

    def _measure_stamps(self, delivery: Delivery, sky: np.ndarray) -> list[Row]:
        if self.scene.kind != "shapes":
            return []
        half, rows = SHAPE_SPACING // 2, []
        for source in self.sources:
            row, column = round(source["y"]), round(source["x"])
            stamp = np.s_[max(row - half, 0) : row + half, max(column - half, 0) : column + half]
            errors = metrics.shape_errors(
                delivery.image[stamp], sky[stamp], sigma=float(np.median(self._noise[stamp]))
            )
            figures = dataclasses.asdict(errors)
            rows.append({"shape": str(source["shape"]), "snr": float(source["snr"]), **figures})
        return rows
