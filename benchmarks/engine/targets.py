# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the engine is asked to reach, and whether it does."""

from __future__ import annotations

__all__ = ("evaluate_targets",)

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from . import metrics
from .checks import Check, Target, check_mean, check_share, check_within, number_checks
from .peers import ENGINE
from .pool import SECOND_WEIGHTS, Pool
from .skies import SHAPE_SNR
from .summary import FLUX_SCENES

COADD = "clipped mean"
"""The peer that stands for the coadd of today."""

_SEAMS = {"latent": 0.05, "coadd": 0.3}
"""Largest step at an edge of the coverage, in units of the noise of a pixel of
an ideal mean coadd. The target says "no seam"; these numbers are ours. A
twentieth of the noise is not seen; strips of a coadd are noisy themselves, of
the clipped mean's too, whose steps are about 0.1."""


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


def _bin(snr: tuple[float, float]) -> str:
    return f"S/N {snr[0]:g}-{snr[1]:g}" if np.isfinite(snr[1]) else f"S/N >{snr[0]:g}"


def _bias(pool: Pool, plane: str, kinds: Sequence[str], snr, limit: float, groups) -> Iterator[Check]:
    for kind in kinds:
        sources = pool.sources(ENGINE, plane, kind=kind, snr=snr, group=groups)
        yield check_within(f"{kind} {_bin(snr)} %", sources["aperture_error"], limit, sources["object"])


def _star_fwhm(pool: Pool, factor: float = 1.0, groups=FLUX_SCENES) -> Iterator[Check]:
    for snr in metrics.WIDTH_BINS:
        sources = pool.sources(ENGINE, "latent", kind="star", snr=snr, group=groups)
        yield check_within(f"{_bin(snr)} %", sources["fwhm_ratio"] - 1.0, 0.02 * factor, sources["object"])
    ratios = []
    for scene in pool.scenes(*groups):
        mine, coadd = (
            metrics.summarize(
                pool.sources(peer, plane, kind="star", snr=(20, np.inf), scene=(scene,))["fwhm"]
            )
            for peer, plane in ((ENGINE, "latent"), (COADD, "coadd"))
        )
        if mine.n and coadd.n:
            ratios.append(mine.median / coadd.median)
    highest = np.max(ratios) if ratios else np.nan
    yield Check(label="largest ratio to the coadd's", value=highest, high=0.6 * factor)


def _bright_stars(pool: Pool, factor: float = 1.0, groups=FLUX_SCENES) -> Iterator[Check]:
    yield from _bias(pool, "latent", ("star",), (100, np.inf), 0.003 * factor, groups)


def _medium(pool: Pool, factor: float = 1.0, groups=FLUX_SCENES) -> Iterator[Check]:
    yield from _bias(pool, "latent", ("star", "galaxy"), (20, 100), 0.01 * factor, groups)


def _faint(pool: Pool, factor: float = 1.0, groups=FLUX_SCENES) -> Iterator[Check]:
    yield from _bias(pool, "latent", ("star", "small", "large"), (6, 20), 0.02 * factor, groups)


def _coadd_fluxes(pool: Pool, factor: float = 1.0, groups=FLUX_SCENES) -> Iterator[Check]:
    for snr in metrics.SNR_BINS[1:]:
        yield from _bias(pool, "coadd", ("star", "galaxy"), snr, 0.01 * factor, groups)
    for snr in metrics.SNR_BINS[1:]:
        mine, coadd = (pool.sources(peer, "coadd", snr=snr, group=groups) for peer in (ENGINE, COADD))
        ratio = error = np.nan
        if len(mine) == len(coadd):
            # Relative: of a sharper image more light is in the aperture.
            relative = (np.array(one["aperture_error"] * one["snr"]) for one in (mine, coadd))
            ratio, error = metrics.scatter_ratio(*relative, mine["object"])
        label = f"relative scatter over the coadd's, {_bin(snr)}"
        yield Check(label=label, value=ratio, error=error, high=1.0 + 0.1 * factor)


def _lumps(pool: Pool, factor: float = 1.0, groups=FLUX_SCENES) -> Iterator[Check]:
    for label, exposures, limit in (("n >= 16", (16, 1000), 0.10), ("n < 16", (0, 15), 0.14)):
        sources = pool.sources(ENGINE, "latent", kind="galaxy", n=exposures, group=groups)
        if len(sources):
            summary = metrics.summarize(sources["lumps"], sources["object"])
            yield Check(label=label, value=summary.median, error=summary.median_error, high=limit * factor)


def _psnr(pool: Pool, factor: float = 1.0, groups=("field",)) -> Iterator[Check]:
    gains = []
    for scene in pool.scenes(*groups):
        mine, other = (pool.figures(peer, "latent", "psnr", scene=(scene,)) for peer in (ENGINE, "mm"))
        if len(mine) and len(mine) == len(other):
            gains.append(np.mean(mine - other))
    yield check_mean("mean over scenes, dB", gains, low=13.0 / factor)
    yield Check(label="least, dB", value=np.min(gains) if gains else np.nan, low=13.0 / factor)


def _leak(pool: Pool, factor: float = 1.0, groups=("field", "fault")) -> Iterator[Check]:
    for plane, limit in (("latent", 0.01 * factor), ("coadd", 0.03 * factor)):
        for scene in pool.scenes(*groups):
            leaks = pool.figures(ENGINE, plane, "leak", scene=(scene,))
            if len(leaks):
                yield check_mean(f"{plane}, {scene} %", leaks, low=-limit, high=limit, scale=100)


def _pairs(pool: Pool) -> Iterator[Check]:
    for peer, separation, least in (
        (ENGINE, 0.6, 1.0),
        ("engine 2.0", 0.5, 0.95),
        (ENGINE, 0.5, 0.6),
        ("engine 1.5", 0.4, 0.5),
    ):
        label = f'{separation}" at {peer.removeprefix("engine").strip() or "2.5"} px'
        pairs = pool.pairs(peer, "latent", separation)
        yield check_share(label, pairs["resolved"], pairs["pair"], low=least)


def _completeness(pool: Pool, factor: float = 1.0, groups=FLUX_SCENES) -> Iterator[Check]:
    gains = []
    for scene in pool.scenes(*groups):
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
    if gains:
        yield check_share("scenes above the coadd", np.array(gains) > 0, low=0.5 / factor)


def _pulls(pool: Pool, factor: float = 1.0, groups=("grid",)) -> Iterator[Check]:
    limits = {"low": 1.0 - 0.1 * factor, "high": 1.0 + 0.1 * factor}
    for kind in ("star", "galaxy"):
        for snr in ((6, 20), (20, 100)):
            sources = pool.sources(ENGINE, "coadd", kind=kind, snr=snr, group=groups)
            summary = metrics.summarize(sources["psf_pull"], sources["object"])
            label, error = f"coadd, {kind} {_bin(snr)}", summary.scatter_error
            yield Check(label=label, value=summary.scatter, error=error, **limits)
            deviation, error = metrics.standard_deviation(sources["psf_pull"], sources["object"])
            yield Check(label=f"{label}, standard deviation", value=deviation, error=error, **limits)
            ratio, error = metrics.scatter_ratio(sources["psf_pull"], sources["psf_noise"], sources["object"])
            yield Check(label=f"{label}, by the noise plane", value=ratio, error=error, **limits)
            deviation, error = metrics.standard_deviation(sources["aperture_pull"], sources["object"])
            yield Check(label=f"{label}, apertures", value=deviation, error=error, **limits)


def _blank(pool: Pool) -> Iterator[Check]:
    peaks = pool.figures(ENGINE, "latent", "blank_n_peaks", group=("blank",))
    means = pool.figures(ENGINE, "latent", "blank_mean", group=("blank",))
    found = float(peaks.sum()) if len(peaks) else np.nan
    areas = [
        metrics.blank_area(2 * (pool.size(scene),))
        for scene in pool.scenes("blank")
        for _ in pool.figures(ENGINE, "latent", "blank_n_peaks", scene=(scene,))
    ]
    searched = f"{len(areas)} fields of {np.mean(areas or [0]):.2f}, together {np.sum(areas):.2f} arcmin^2"
    yield Check(label=f"sources in {searched}", value=found, high=0)
    yield check_mean("mean", means, low=-0.05, high=0.05)


def _faults(pool: Pool) -> Iterator[Check]:
    for scene in pool.scenes("fault"):
        if scene in ("no fault", "artifacts"):
            continue
        for kind, snr, limit in (("star", (20, np.inf), 0.01), ("any", (6, 20), 0.05)):
            sources = pool.sources(ENGINE, "latent", kind=kind, snr=snr, scene=(scene,))
            errors, same = sources["aperture_error"], sources["object"]
            yield check_within(f"{scene}, {kind} {_bin(snr)} %", errors, limit, same)
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
        yield check_within(f"flux, S/N {snr:g} %", np.array(mine["flux_error"]), 0.01, mine["shape"])
    for shape in np.unique(stamps["shape"]):
        mine = stamps[stamps["shape"] == shape]
        yield check_share(f"{shape}: false structure", mine["has_false"], mine["rank"], high=0.05)


def _coverage(pool: Pool) -> Iterator[Check]:
    """Check the other targets that these scenes can tell of, widened.

    What is to be within some distance of 1 may be 1.5 times as far from it,
    the scatter of the coadd too; other limits are 1.5 times as high, or as
    low. No limit other than these is widened.
    """
    for number, function in (
        (1, _star_fwhm),
        (2, _bright_stars),
        (3, _medium),
        (4, _faint),
        (5, _coadd_fluxes),
        (6, _lumps),
        (7, _psnr),
        (8, _leak),
        (10, _completeness),
        (11, _pulls),
    ):
        yield from number_checks(number, function(pool, 1.5, ("coverage",)))
    for plane, limit in _SEAMS.items():
        for scene in pool.scenes("coverage"):
            steps = pool.figures(ENGINE, plane, "seam", scene=(scene,))
            if len(steps):
                yield check_mean(f"seam of the {plane}, {scene}", steps, high=limit)


def _seeds(pool: Pool) -> Iterator[Check]:
    for plane in ("latent", "coadd"):
        mine, other = (
            pool.sources(peer, plane, snr=(6, np.inf), group=("grid",)) for peer in (ENGINE, SECOND_WEIGHTS)
        )
        difference = np.full(len(mine), np.nan)
        if len(other) and len(mine) == len(other):
            difference = np.array(mine["aperture_sigmas"] - other["aperture_sigmas"])
        summary = metrics.summarize(difference, mine["object"])
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
    (
        "pulls of injected fluxes",
        "0.9-1.1 at S/N 6-100 by the written error (half of the central 68 %; standard deviation)",
        _pulls,
    ),
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
        "as above within a factor 1.5 (in brackets, which target); no seam",
        _coverage,
    ),
    ("training seeds and input order", "scatter of fluxes <= 0.3 of the noise", _seeds),
)
