# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the report has a table of, and how its cells are filled."""

from __future__ import annotations

__all__ = ("ALONE", "ERRORS", "SECTIONS", "tabulate_shared")

import functools
from collections.abc import Callable, Mapping, Sequence

from .figures import Figures
from .metrics import SNR_BINS
from .peers import PEERS
from .skies import PAIR_SEPARATIONS, SHAPE_SNR, SHAPES
from .summary import ALL, FALSE_RATES, FLUX_SCENES, SHARED

_FLUX_GROUP = "+".join(FLUX_SCENES)


type _Section = tuple[Sequence[str], list[list[str]]]


type _Columns = Mapping[str, tuple[str, float, int]]
"""Title, scale and digits of each quantity."""


def _tabulate(
    figures: Figures, columns: _Columns, *, group: str, scene: str = ALL, count: bool = False
) -> _Section:
    """Make a row a plane of some quantities of a group of scenes; say in the
    second column how many there are if they are to be counted.
    """

    def row(peer: str, plane: str) -> list[str]:
        return [
            figures.show(peer, plane, group, scene, name, scale=scale, digits=digits)
            for name, (_, scale, digits) in columns.items()
        ]

    header = ["plane", *(["scenes"] if count else []), *(title for title, _, _ in columns.values())]
    return header, figures.tabulate(row, scenes_of=group if count else "")


def _images(figures: Figures) -> _Section:
    columns = {
        "psnr": ("PSNR dB", 1, 1),
        "ssim": ("SSIM", 1, 3),
        "sky_rms": ("sky rms", 1, 3),
        "sky_mean": ("sky mean", 1, 3),
        "leak": ("streak left %", 100, 1),
        "chi2": ("chi2", 1, 3),
        "chi2_sources": ("chi2 on sources", 1, 3),
        "held_out_chi2": ("held-out chi2", 1, 3),
        "held_out_chi2_sources": ("on sources", 1, 3),
    }
    return _tabulate(figures, columns, group="field", count=True)


def tabulate_shared(figures: Figures) -> _Section:
    """Make the table of all peers on the observations that they share."""
    names = {
        "psnr": ("PSNR dB", 1, 1),
        "ssim": ("SSIM", 1, 3),
        "sky_rms": ("sky rms", 1, 3),
        "sky_mean": ("sky mean", 1, 3),
        "star fwhm px": ("star FWHM px", 1, 2),
        "aperture bias any 20-100": ("flux bias %, S/N 20-100", 100, 1),
        "aperture bias any 100-inf": ("> 100", 100, 1),
        "lumps": ("galaxy profile rms", 1, 3),
        "sources": ("sources", 1, 0),
        "chi2": ("chi2", 1, 3),
        "chi2_sources": ("on sources", 1, 3),
    }
    costs = {"seconds": ("CPU s", 1, 1), "memory": ("MiB", 1, 0)}

    def row(peer: str, plane: str) -> list[str]:
        return [
            figures.show(peer, place, SHARED, ALL, name, scale=scale, digits=digits)
            for place, columns in ((plane, names), ("", costs))
            for name, (_, scale, digits) in columns.items()
        ]

    return ["plane", *(title for title, _, _ in (names | costs).values())], figures.tabulate(row)


def _psnr(figures: Figures) -> _Section:
    scenes = figures.scenes("field")
    return ["plane", *scenes], figures.tabulate(
        lambda peer, plane: [figures.show(peer, plane, "field", scene, "psnr", digits=1) for scene in scenes]
    )


def _fluxes(figures: Figures, name: str, *, kinds: Sequence[str], scale: float = 100) -> _Section:
    bins = [f"{kind} {low:g}-{high:g}" for kind in kinds for low, high in SNR_BINS]
    columns = {f"{name} {one}": (one, scale, 1) for one in bins}
    return _tabulate(figures, columns, group=_FLUX_GROUP, count=True)


def _shapes(figures: Figures) -> _Section:
    columns = {
        "star fwhm px": ("star FWHM px", 1, 2),
        "star fwhm ratio star 20-50": ("over PSF, S/N 20-50", 1, 3),
        "star fwhm ratio star 50-200": ("50-200", 1, 3),
        "star fwhm ratio star 200-inf": ("> 200", 1, 3),
        "centroid dx": ("star dx mpx", 1e3, 1),
        "centroid dy": ("dy mpx", 1e3, 1),
        "centroid distance": ("distance mpx", 1e3, 1),
        "lumps": ("galaxy profile rms", 1, 3),
        "ellipticity_error": ("ellipticity error", 1, 3),
        "rounding": ("rounding", 1, 3),
    }
    return _tabulate(figures, columns, group=_FLUX_GROUP, count=True)


def _completeness(figures: Figures, rate: float) -> _Section:
    scenes = [(group, scene) for group in FLUX_SCENES for scene in figures.scenes(group)]
    label = f"completeness {rate:g}" if rate else "completeness"
    rows = figures.tabulate(
        lambda peer, plane: [figures.show(peer, plane, group, scene, label) for group, scene in scenes]
    )
    areas = [f"{figures.largest(group, scene, 'searched'):.2f}" for group, scene in scenes]
    return ["plane", *(scene for _, scene in scenes)], [
        ["*arcmin^2 searched*", *areas],
        *rows,
    ] if rows else []


def _pairs(figures: Figures) -> _Section:
    columns = {f"resolved {separation:g}": (f'{separation:g}"', 1, 2) for separation in PAIR_SEPARATIONS}
    return _tabulate(figures, columns, group="pairs", scene="pairs")


def _faults(figures: Figures, group: str) -> _Section:
    columns = (
        ("aperture bias star 20-inf", "stars > 20 %", 100, 1),
        ("aperture bias galaxy 20-inf", "galaxies > 20 %", 100, 1),
        ("aperture bias any 6-20", "6-20 %", 100, 1),
        ("highest ring", "highest ring", 1, 1),
        ("psnr", "PSNR dB", 1, 1),
        ("leak", "streak left %", 100, 1),
        ("seam", "seam", 1, 3),
    )
    rows = []
    for scene in figures.scenes(group):
        for peer, plane in figures.planes:
            cells = [
                figures.show(peer, plane, group, scene, name, scale=scale, digits=digits)
                for name, _, scale, digits in columns
            ]
            if any(cell != "-" for cell in cells):
                rows.append([scene, f"{peer} ({plane})", *cells])
    return ["scene", "plane", *(title for _, title, _, _ in columns)], rows


def _odd(figures: Figures) -> _Section:
    columns = {f"relative_rms {snr:g}": (f"rms, {snr:g}", 1, 3) for snr in SHAPE_SNR}
    columns |= {f"flux_error {snr:g}": (f"flux %, {snr:g}", 100, 1) for snr in SHAPE_SNR}
    columns |= {f"false {shape}": (f"{shape} false", 1, 2) for shape in SHAPES}
    return _tabulate(figures, columns, group="shapes", scene="shapes")


def _blank(figures: Figures) -> _Section:
    columns = {
        "blank_n_peaks": ("sources a field", 1, 3),
        "blank_highest": ("highest, sigma", 1, 3),
        "blank_mean": ("mean", 1, 3),
        "blank_rms": ("rms", 1, 3),
    }
    return _tabulate(figures, columns, group="blank")


def _costs(figures: Figures) -> _Section:
    rows = []
    scenes = [(group, scene) for group in FLUX_SCENES for scene in figures.scenes(group)]
    for peer in PEERS:
        cells = [figures.show(peer.name, "", *place, "seconds", digits=1) for place in scenes]
        memory = [figures.show(peer.name, "", *place, "memory", digits=0).split(" ")[0] for place in scenes]
        if any(cell != "-" for cell in cells):
            rows.append([peer.name, *(f"{s}; {m}" for s, m in zip(cells, memory, strict=True))])
    return ["peer", *(scene for _, scene in scenes)], rows


_UNITS = "in units of the noise of an ideal mean coadd"
_RINGS = "highest ring around a star, and step at the border of coverage, in sigma of a pixel"
ALONE = (
    "sources that are not saturated and without close neighbours (within 14 pixels none of more than 2 % of "
    "their flux)"
)
_SCENES = (
    "Each row is taken over the scenes that the peer ran on; their number is in the second column, and rows "
    "with different numbers cannot be compared."
)
_POOLED = f"Over {ALONE} of fields and grids. {_SCENES}"
_COLUMN = "Each column is of one scene, in which peers can be compared."

ERRORS = (
    "Errors are standard errors, those of shares half of the interval of Wilson (1927). A source that is "
    "observed several times counts as one where its errors are alike."
)
_SHARES = "Errors of shares are half of the interval of Wilson (1927), for the number of different sources."


def _describe_completeness(rate: float) -> str:
    accepted = " The rate times the area is rounded down: in a small area none is accepted." if rate else ""
    return (
        "After the same filter for all; all sources of S/N > 3 but pairs, with neighbours or without. "
        f"{_COLUMN} The area is that of all observations of a scene, which share a threshold; of peers that "
        f"ran on fewer observations it is less.{accepted} Errors hold what one false peak more or less would "
        "change (of several accepted: their root)."
    )


SECTIONS: tuple[tuple[str, str, Callable[[Figures], _Section]], ...] = (
    (
        "Images",
        f"Means over the fields. {_SCENES} Of these, chi2 is that of the scenes which are fitted in one "
        "piece, the streak that of those fitted with it masked, too, and held-out chi2 that of the costly "
        f"scenes. Sky {_UNITS}. Each plane against the truth at its own PSF. Of a streak, less than 0 is "
        "left where too much is taken away. Held-out: chi2 of exposures that the plane was made without.",
        _images,
    ),
    ("PSNR by scene", f"asinh scale, dB. {_COLUMN}", _psnr),
    (
        "Flux bias, aperture of 1 arcsec",
        f"Median in per cent, by kind and S/N. {_POOLED}",
        lambda figures: _fluxes(figures, "aperture bias", kinds=("star", "galaxy")),
    ),
    (
        "Small and large galaxies",
        "The same; small: half-light radius below 0.35 arcsec.",
        lambda figures: _fluxes(figures, "aperture bias", kinds=("small", "large")),
    ),
    (
        "Flux scatter, aperture of 1 arcsec",
        f"Half of the central 68 %, in per cent. {_POOLED}",
        lambda figures: _fluxes(figures, "aperture scatter", kinds=("star", "galaxy")),
    ),
    (
        "Flux bias, PSF flux",
        f"Median in per cent. {_POOLED}",
        lambda figures: _fluxes(figures, "psf bias", kinds=("star", "galaxy")),
    ),
    (
        "Aperture noise",
        f"Scatter of the error of the aperture flux {_UNITS} with the photons of the source. {_POOLED}",
        lambda figures: _fluxes(figures, "aperture noise", kinds=("any",), scale=1),
    ),
    (
        "Pulls",
        f"Half of the central 68 % of the error of the PSF flux over the written one. {_POOLED}",
        lambda figures: _fluxes(figures, "pull", kinds=("star", "galaxy"), scale=1),
    ),
    (
        "Pulls by the variance plane",
        f"The same over what the variance plane gives if pixels err independently. {_POOLED}",
        lambda figures: _fluxes(figures, "pixel pull", kinds=("star", "galaxy"), scale=1),
    ),
    (
        "Pulls of aperture fluxes",
        "Half of the central 68 % of the error of the flux in 1 arcsec over that of the variance plane, with "
        f"the noise of the sky correlated as the metadata say. {_POOLED}",
        lambda figures: _fluxes(figures, "aperture pull", kinds=("star", "galaxy"), scale=1),
    ),
    (
        "Pulls of aperture fluxes by the variance plane",
        f"The same if pixels err independently. {_POOLED}",
        lambda figures: _fluxes(figures, "aperture pixel pull", kinds=("star", "galaxy"), scale=1),
    ),
    (
        "Shapes",
        "Medians over stars, or over galaxies above S/N 20; rounding: by how much these are rounder than in "
        f"truth. {_POOLED}",
        _shapes,
    ),
    *(
        (
            f"Completeness at {rate:g} false detections per arcmin^2",
            _describe_completeness(rate),
            functools.partial(_completeness, rate=rate),
        )
        for rate in FALSE_RATES
    ),
    (
        "Pairs resolved",
        "Share of pairs of equal stars of 22nd to 24th magnitude; all peers on the one scene of pairs. "
        f"{_SHARES}",
        _pairs,
    ),
    (
        "Odd shapes",
        "Medians by S/N; share with false structure by shape; all peers on the one scene of shapes. "
        f"{_SHARES}",
        _odd,
    ),
    ("Noise only", f"The one scene of noise, by field; {_UNITS}.", _blank),
    ("Misspecified stacks", f"By scene, {ALONE}; {_RINGS}.", lambda figures: _faults(figures, "fault")),
    ("Partial coverage", f"By scene, {ALONE}; {_RINGS}.", lambda figures: _faults(figures, "coverage")),
    ("Cost", f"CPU seconds of one thread; peak MiB above the inputs. {_COLUMN}", _costs),
)
