# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the engine is asked to reach, and whether it does."""

from __future__ import annotations

__all__ = ("Check", "Target", "evaluate_targets")

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np

from . import metrics
from .peers import ENGINE
from .pool import SECOND_WEIGHTS, Pool
from .skies import SHAPE_SNR

COADD = "clipped mean"
"""The peer that stands for the coadd of today."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Check:
    """One number with its limits."""

    label: str
    value: float
    error: float = float("nan")
    low: float = -np.inf
    high: float = np.inf
    scale: float = 1.0
    """Factor for print, e.g. 100 for per cent."""

    @property
    def passed(self) -> bool:
        """Whether the value is within its limits; a missing one is not."""
        return bool(np.isfinite(self.value) and self.low <= self.value <= self.high)

    def __str__(self) -> str:
        error = f" +- {self.scale * self.error:.2g}" if np.isfinite(self.error) else ""
        return f"{self.label} {self.scale * self.value:.3g}{error}{'' if self.passed else ' (!)'}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Target:
    """A row of the targets."""

    number: int
    quantity: str
    wanted: str
    checks: tuple[Check, ...]

    @property
    def reached(self) -> bool:
        """Whether there are checks, and all pass."""
        return bool(self.checks) and all(check.passed for check in self.checks)


def evaluate_targets(tables) -> tuple[Target, ...]:
    """Compare a run with the targets.

    Parameters
    ----------
    tables
        `~benchmarks.engine.run.Results`, or anything that gives a table for
        a name of `~benchmarks.engine.measure.TABLES`.

    Returns
    -------
    `tuple` [`Target`]
        In order of their numbers. What was not run is not reached.
    """
    pool = Pool(tables)
    return tuple(
        Target(number=number, quantity=quantity, wanted=wanted, checks=tuple(function(pool)))
        for number, (quantity, wanted, function) in enumerate(_TARGETS, start=1)
    )


def _within(label: str, values: np.ndarray, limit: float) -> Check:
    """Check that the median is within a limit of 0; in per cent."""
    summary = metrics.summarize(values)
    error = summary.median_error
    return Check(label=label, value=summary.median, error=error, low=-limit, high=limit, scale=100)


def _bias(pool: Pool, plane: str, *, kinds, snr, limit: float, **where) -> Iterator[Check]:
    where = where or {"group": ("field", "grid")}
    for kind in kinds:
        sources = pool.sources(ENGINE, plane, kind=kind, snr=snr, **where)
        yield _within(f"{kind} {_bin(snr)} %", sources["aperture_error"], limit)


def _bin(snr: tuple[float, float]) -> str:
    return f"S/N {snr[0]:g}-{snr[1]:g}" if np.isfinite(snr[1]) else f"S/N >{snr[0]:g}"


def _widths(pool: Pool, factor: float = 1.0, **where) -> Iterator[Check]:
    where = where or {"group": ("field", "grid")}
    for snr in metrics.WIDTH_BINS:
        sources = pool.sources(ENGINE, "latent", kind="star", snr=snr, **where)
        yield _within(f"{_bin(snr)} %", sources["fwhm_ratio"] - 1.0, 0.02 * factor)


def _star_fwhm(pool: Pool) -> Iterator[Check]:
    yield from _widths(pool)
    ratios = []
    for scene in pool.scenes("field", "grid"):
        mine, coadd = (
            metrics.summarize(
                pool.sources(peer, plane, kind="star", snr=(20, np.inf), scene=(scene,))["fwhm"]
            )
            for peer, plane in ((ENGINE, "latent"), (COADD, "coadd"))
        )
        if mine.n and coadd.n:
            ratios.append(mine.median / coadd.median)
    yield Check(label="largest ratio to the coadd's", value=np.max(ratios) if ratios else np.nan, high=0.6)


def _bright_stars(pool: Pool) -> Iterator[Check]:
    yield from _bias(pool, "latent", kinds=("star",), snr=(100, np.inf), limit=0.003)


def _medium(pool: Pool) -> Iterator[Check]:
    yield from _bias(pool, "latent", kinds=("star", "galaxy"), snr=(20, 100), limit=0.01)


def _faint(pool: Pool) -> Iterator[Check]:
    yield from _bias(pool, "latent", kinds=("star", "small", "large"), snr=(6, 20), limit=0.02)


def _coadd_fluxes(pool: Pool) -> Iterator[Check]:
    for snr in metrics.SNR_BINS[1:]:
        yield from _bias(pool, "coadd", kinds=("star", "galaxy"), snr=snr, limit=0.01)
    for snr in metrics.SNR_BINS[1:]:
        scatters = []
        for peer in (ENGINE, COADD):
            sources = pool.sources(peer, "coadd", snr=snr, group=("field", "grid"))
            # Relative: of a sharper image more light is in the aperture.
            scatters.append(metrics.summarize(sources["aperture_error"] * sources["snr"]))
        ratio = scatters[0].scatter / scatters[1].scatter
        error = ratio * np.hypot(*(one.scatter_error / one.scatter for one in scatters))
        yield Check(
            label=f"relative scatter over the coadd's, {_bin(snr)}", value=ratio, error=error, high=1.1
        )


def _lumps(pool: Pool, factor: float = 1.0, **where) -> Iterator[Check]:
    where = where or {"group": ("field", "grid")}
    for label, exposures, limit in (("n >= 16", (16, 1000), 0.10), ("n < 16", (0, 15), 0.14)):
        sources = pool.sources(ENGINE, "latent", kind="galaxy", n=exposures, **where)
        if len(sources):
            summary = metrics.summarize(sources["lumps"])
            yield Check(label=label, value=summary.median, error=summary.median_error, high=limit * factor)


def _psnr(pool: Pool) -> Iterator[Check]:
    gains = []
    for scene in pool.scenes("field"):
        mine, other = (pool.figures(peer, "latent", "psnr", scene=(scene,)) for peer in (ENGINE, "mm"))
        if len(mine) and len(mine) == len(other):
            gains.append(np.mean(mine - other))
    error = np.std(gains) / max(len(gains), 1) ** 0.5 if gains else np.nan
    yield Check(
        label="mean over scenes, dB", value=np.mean(gains) if gains else np.nan, error=error, low=13.0
    )
    yield Check(label="least, dB", value=np.min(gains, initial=np.inf) if gains else np.nan, low=13.0)


def _leak(pool: Pool, factor: float = 1.0, groups=("field", "fault")) -> Iterator[Check]:
    for plane, limit in (("latent", 0.01), ("coadd", 0.03)):
        for scene in pool.scenes(*groups):
            leaks = pool.figures(ENGINE, plane, "leak", scene=(scene,))
            if len(leaks):
                error = np.std(leaks) / len(leaks) ** 0.5
                value, limits = np.mean(leaks), {"low": -limit * factor, "high": limit * factor}
                yield Check(label=f"{plane}, {scene} %", value=value, error=error, scale=100, **limits)


def _pairs(pool: Pool) -> Iterator[Check]:
    for peer, separation, least in (
        (ENGINE, 0.6, 1.0),
        ("engine 2.0", 0.5, 0.95),
        (ENGINE, 0.5, 0.6),
        ("engine 1.5", 0.4, 0.5),
    ):
        label = f'{separation}" at {peer.removeprefix("engine").strip() or "2.5"} px'
        yield _share(label, pool.pairs(peer, "latent", separation)["resolved"], low=least)


def _share(label: str, values: np.ndarray, **limits: float) -> Check:
    """Check the share of what is true."""
    n = len(values)
    share = float(np.mean(values)) if n else np.nan
    error = (share * (1 - share) / n) ** 0.5 if n else np.nan
    return Check(label=label, value=share, error=error, **limits)


def _completeness(pool: Pool) -> Iterator[Check]:
    gains = []
    for scene in pool.scenes("field", "grid"):
        mine, coadd = (
            pool.completeness(peer, plane, scene) for peer, plane in ((ENGINE, "latent"), (COADD, "coadd"))
        )
        if mine is None or coadd is None:
            continue
        gain = mine.completeness - coadd.completeness
        error = np.hypot(mine.error, coadd.error)
        gains.append(gain)
        yield Check(
            label=f"{scene}: {mine.completeness:.3f} minus the coadd's", value=gain, error=error, low=0
        )
    yield _share("scenes above the coadd", np.array(gains) > 0, low=0.5)


def _pulls(pool: Pool) -> Iterator[Check]:
    for kind in ("star", "galaxy"):
        for snr in ((6, 20), (20, 100)):
            sources = pool.sources(ENGINE, "coadd", kind=kind, snr=snr, group=("grid",))
            summary = metrics.summarize(sources["psf_pull"])
            told = metrics.summarize(sources["psf_noise"])
            label, error = f"coadd, {kind} {_bin(snr)}", summary.scatter_error
            yield Check(label=label, value=summary.scatter, error=error, low=0.9, high=1.1)
            ratio = summary.scatter / told.scatter
            error = ratio * np.hypot(error / summary.scatter, told.scatter_error / told.scatter)
            yield Check(label=f"{label}, by the noise plane", value=ratio, error=error, low=0.9, high=1.1)


def _blank(pool: Pool) -> Iterator[Check]:
    peaks = pool.figures(ENGINE, "latent", "blank_n_peaks", group=("blank",))
    means = pool.figures(ENGINE, "latent", "blank_mean", group=("blank",))
    found = float(peaks.sum()) if len(peaks) else np.nan
    yield Check(label=f"sources in {len(peaks)} fields of 2.06 arcmin^2", value=found, high=0)
    error = np.std(means) / max(len(means), 1) ** 0.5 if len(means) else np.nan
    value = np.mean(means) if len(means) else np.nan
    yield Check(label="mean", value=value, error=error, low=-0.05, high=0.05)


def _faults(pool: Pool) -> Iterator[Check]:
    for scene in pool.scenes("fault"):
        if scene in ("no fault", "artifacts"):
            continue
        for kind, snr, limit in (("star", (20, np.inf), 0.01), ("any", (6, 20), 0.05)):
            sources = pool.sources(ENGINE, "latent", kind=kind, snr=snr, scene=(scene,))
            yield _within(f"{scene}, {kind} {_bin(snr)} %", sources["aperture_error"], limit)
        sources = pool.sources(ENGINE, "latent", kind="star", snr=(100, np.inf), scene=(scene,))
        rings = np.concatenate([sources["ring_height"], sources["ring_depth"]])
        highest = np.nanmax(rings, initial=-np.inf) if len(rings) else np.nan
        yield Check(label=f"{scene}, highest ring", value=highest, high=3.0)


def _shapes(pool: Pool) -> Iterator[Check]:
    stamps = pool.stamps(ENGINE, "latent")
    other = pool.stamps("self", "latent")
    if not len(stamps):
        return
    for number, snr in enumerate(SHAPE_SNR):
        mine, theirs = (table[table["rank"] == number] if len(table) else table for table in (stamps, other))
        rms = np.median(mine["relative_rms"]) - (np.median(theirs["relative_rms"]) if len(theirs) else np.nan)
        yield Check(label=f"rms minus self's, S/N {snr:g}", value=rms, high=0.0)
        yield _within(f"flux, S/N {snr:g} %", np.array(mine["flux_error"]), 0.01)
    for shape in np.unique(stamps["shape"]):
        yield _share(f"{shape}: false structure", stamps["has_false"][stamps["shape"] == shape], high=0.05)


def _coverage(pool: Pool) -> Iterator[Check]:
    factor = 1.5
    where = {"group": ("coverage",)}
    yield from _widths(pool, factor, **where)
    for kinds, snr, limit in (
        (("star",), (100, np.inf), 0.003),
        (("star", "galaxy"), (20, 100), 0.01),
        (("star", "small", "large"), (6, 20), 0.02),
    ):
        yield from _bias(pool, "latent", kinds=kinds, snr=snr, limit=limit * factor, **where)
    yield from _lumps(pool, factor, **where)
    yield from _leak(pool, factor, groups=("coverage",))
    for plane, limit in (("latent", 0.05), ("coadd", 0.3)):
        for scene in pool.scenes("coverage"):
            steps = pool.figures(ENGINE, plane, "seam", scene=(scene,))
            if len(steps):
                yield Check(label=f"seam of the {plane}, {scene}", value=np.mean(steps), high=limit)


def _seeds(pool: Pool) -> Iterator[Check]:
    for plane in ("latent", "coadd"):
        mine, other = (
            pool.sources(peer, plane, snr=(6, np.inf), group=("grid",)) for peer in (ENGINE, SECOND_WEIGHTS)
        )
        difference = np.full(1, np.nan)
        if len(other) and len(mine) == len(other):
            difference = np.array(mine["aperture_sigmas"] - other["aperture_sigmas"])
        summary = metrics.summarize(difference)
        label = f"scatter between seeds, {plane}, in sigma"
        yield Check(label=label, value=summary.scatter, error=summary.scatter_error, high=0.3)
    orders = pool.figures("engine permuted", "latent", "order_difference")
    highest = float(orders.max()) if len(orders) else np.nan
    yield Check(label="largest change with the order, in sigma", value=highest, high=0.01)


type _Function = Callable[[Pool], Iterator[Check]]

_TARGETS: tuple[tuple[str, str, _Function], ...] = (
    ("star FWHM", "within 2 % of the declared PSF above S/N 20; <= 0.6 x the coadd's", _star_fwhm),
    ("stars of S/N > 100, latent", "median flux bias within 0.3 %", _bright_stars),
    ("S/N 20-100, latent", "median flux bias within 1 %, stars and galaxies apart", _medium),
    ("S/N 6-20, latent", "median flux bias within 2 %, stars, small and large galaxies apart", _faint),
    (
        "S/N >= 6, coadd",
        "median within 1 %; scatter of the 1 arcsec aperture <= 1.1 x the mean coadd's",
        _coadd_fluxes,
    ),
    ("galaxy profile rms", "<= 0.10 at n >= 16, <= 0.14 at n = 8", _lumps),
    ("PSNR against MM", ">= +13 dB", _psnr),
    ("unmasked streak left", "<= 1 % of its flux in the latent, <= 3 % in the coadd", _leak),
    (
        "pairs resolved",
        '0.6": all; 0.5": 95 % at 2.0 px, 60 % at 2.5 px; 0.4": 50 % at 1.5 px',
        _pairs,
    ),
    (
        "completeness at zero false detections",
        ">= the coadd's on every scene, above it on half",
        _completeness,
    ),
    ("pulls of injected fluxes", "standard deviation 0.9-1.1 at S/N 6-100", _pulls),
    (
        "blank field",
        "no source above 5 sigma per 10 arcmin^2; mean within 0.05 sky sigma / sqrt(n)",
        _blank,
    ),
    (
        "misspecified stacks",
        "star flux within 1 %, S/N 6-20 within 5 %, no ring above 3 sigma",
        _faults,
    ),
    (
        "shapes outside the training family",
        "relative rms <= that of recipe self at every S/N; flux within 1 %; false structure <= 5 %",
        _shapes,
    ),
    (
        "gaps, half a patch, two or three exposures",
        "as above within a factor 1.5; no seam",
        _coverage,
    ),
    ("training seeds and input order", "scatter of fluxes <= 0.3 of the noise", _seeds),
)
