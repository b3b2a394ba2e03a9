# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tables and pictures of a run, without fitting anything."""

from __future__ import annotations

__all__ = ("format_targets", "write_report")

from collections.abc import Callable, Sequence
from pathlib import Path

import astropy.table
import numpy as np

from .metrics import SNR_BINS
from .peers import PEERS
from .pictures import draw_pictures
from .skies import PAIR_SEPARATIONS, SHAPE_SNR, SHAPES
from .summary import ALL, FLUX_SCENES, summarize_run
from .targets import Target, evaluate_targets

_FLUX_GROUP = "+".join(FLUX_SCENES)


def write_report(tables, folder: Path) -> str:
    """Write everything that can be said of a run.

    Parameters
    ----------
    tables
        Gives a table for a name of `~benchmarks.engine.measure.TABLES`.
    folder
        Gets ``report.md``, ``summary.csv``, ``targets.csv`` and pictures.
        Images of the run are taken from its subfolder ``images``.

    Returns
    -------
    `str`
        The table of targets in short, for a terminal.
    """
    folder.mkdir(parents=True, exist_ok=True)
    summary = summarize_run(tables)
    targets = evaluate_targets(tables)
    summary.write(folder / "summary.csv", overwrite=True)
    _tabulate_targets(targets).write(folder / "targets.csv", overwrite=True)
    pictures = draw_pictures(tables, summary, folder)
    (folder / "report.md").write_text(_make_markdown(tables, summary, targets, pictures))
    return format_targets(targets)


def format_targets(targets: Sequence[Target]) -> str:
    """Return the targets as lines, each with its checks below it."""
    lines = []
    for target in targets:
        lines.append(f"{target.number:2d} {_reached(target):8s} {target.quantity}: {target.wanted}")
        lines += [f"      {check}" for check in target.checks]
    return "\n".join(lines)


def _reached(target: Target) -> str:
    if not any(np.isfinite(check.value) for check in target.checks):
        return "not run"
    return "yes" if target.reached else "NO"


def _tabulate_targets(targets: Sequence[Target]) -> astropy.table.Table:
    rows = [
        {
            "number": target.number,
            "quantity": target.quantity,
            "check": check.label,
            "value": check.value,
            "error": check.error,
            "low": check.low,
            "high": check.high,
            "passed": check.passed,
        }
        for target in targets
        for check in target.checks
    ]
    return astropy.table.Table(rows)


def _make_markdown(tables, summary: astropy.table.Table, targets: Sequence[Target], pictures) -> str:
    parts = [
        "# Benchmark of the engine\n",
        _describe_scenes(tables["rows"]),
        "## Targets\n",
        "Errors are standard errors; a check that fails has an exclamation mark.\n",
        _format_table(
            ("#", "quantity", "wanted", "measured", "reached"),
            [
                (t.number, t.quantity, t.wanted, "; ".join(str(c) for c in t.checks) or "-", _reached(t))
                for t in targets
            ],
        ),
        "## Peers\n",
        "Costly peers run on few scenes only; elsewhere they have a dash.\n",
        _format_table(
            ("peer", "what it is", "where it runs"), [(peer.name, peer.title, peer.limits) for peer in PEERS]
        ),
    ]
    if len(summary):
        figures = _Figures(summary)
        for title, note, build in _SECTIONS:
            header, rows = build(figures)
            if rows:
                parts += [f"## {title}\n", f"{note}\n", _format_table(header, rows)]
    if pictures:
        parts.append("## Pictures\n")
        parts += [f"![{file.stem}]({file.name})\n" for file in pictures]
    return "\n".join(parts)


def _describe_scenes(rows: astropy.table.Table) -> str:
    """Say what was run, and how often."""
    if not len(rows):
        return "Nothing was run.\n"
    lines = []
    for group in dict.fromkeys(rows["group"]):
        mine = rows[rows["group"] == group]
        scenes = ", ".join(
            f"{scene} (n = {mine['n'][mine['scene'] == scene][0]}, "
            f"{len(set(mine['realisation'][mine['scene'] == scene]))} x)"
            for scene in dict.fromkeys(mine["scene"])
        )
        lines.append(f"- {group}: {scenes}")
    return "Scenes, their exposures and how often each was observed:\n\n" + "\n".join(lines) + "\n"


def _format_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines) + "\n"


class _Figures:
    """Looks up figures of a summary."""

    def __init__(self, summary: astropy.table.Table):
        columns = (summary[name] for name in ("peer", "plane", "group", "scene", "quantity"))
        keys = zip(*columns, strict=True)
        values = zip(summary["value"], summary["error"], strict=True)
        self._known = {tuple(map(str, key)): value for key, value in zip(keys, values, strict=True)}
        self.planes = [key for key in dict.fromkeys((k[0], k[1]) for k in self._known) if key[1]]
        self._scenes: dict[str, list[str]] = {}
        for key in self._known:
            scenes = self._scenes.setdefault(key[2], [])
            if key[3] not in (ALL, *scenes):
                scenes.append(key[3])

    def scenes(self, group: str) -> list[str]:
        """Return the scenes of a group, in order."""
        return self._scenes.get(group, [])

    def show(
        self,
        peer: str,
        plane: str,
        group: str,
        scene: str,
        quantity: str,
        *,
        scale: float = 1.0,
        digits: int = 2,
    ) -> str:
        """Format one figure with its error; a dash if it is not known."""
        value, error = self._known.get((peer, plane, group, scene, quantity), (np.nan, np.nan))
        if not np.isfinite(value):
            return "-"
        text = f"{scale * value:.{digits}f}"
        return f"{text} +- {scale * error:.{digits}f}" if np.isfinite(error) else text

    def tabulate(self, row: Callable[[str, str], list[str]]) -> list[list[str]]:
        """Make a row a plane, without those that have nothing to say."""
        rows = [[f"{peer} ({plane})", *row(peer, plane)] for peer, plane in self.planes]
        return [line for line in rows if any(cell != "-" for cell in line[1:])]


type _Section = tuple[Sequence[str], list[list[str]]]


def _images(figures: _Figures) -> _Section:
    names = {
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

    def row(peer: str, plane: str) -> list[str]:
        return [
            figures.show(peer, plane, "field", ALL, name, scale=scale, digits=digits)
            for name, (_, scale, digits) in names.items()
        ]

    return ["plane", *(title for title, _, _ in names.values())], figures.tabulate(row)


def _psnr(figures: _Figures) -> _Section:
    scenes = figures.scenes("field")
    return ["plane", *scenes], figures.tabulate(
        lambda peer, plane: [figures.show(peer, plane, "field", scene, "psnr", digits=1) for scene in scenes]
    )


def _fluxes(figures: _Figures, name: str, *, kinds: Sequence[str], scale: float = 100) -> _Section:
    columns = [(kind, low, high) for kind in kinds for low, high in SNR_BINS]
    return ["plane", *(f"{kind} {low:g}-{high:g}" for kind, low, high in columns)], figures.tabulate(
        lambda peer, plane: [
            figures.show(
                peer, plane, _FLUX_GROUP, ALL, f"{name} {kind} {low:g}-{high:g}", scale=scale, digits=1
            )
            for kind, low, high in columns
        ]
    )


def _shapes(figures: _Figures) -> _Section:
    names = {
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
    return ["plane", *(title for title, _, _ in names.values())], figures.tabulate(
        lambda peer, plane: [
            figures.show(peer, plane, _FLUX_GROUP, ALL, name, scale=scale, digits=digits)
            for name, (_, scale, digits) in names.items()
        ]
    )


def _completeness(figures: _Figures) -> _Section:
    scenes = [(group, scene) for group in FLUX_SCENES for scene in figures.scenes(group)]
    return ["plane", *(scene for _, scene in scenes)], figures.tabulate(
        lambda peer, plane: [
            figures.show(peer, plane, group, scene, "completeness") for group, scene in scenes
        ]
    )


def _pairs(figures: _Figures) -> _Section:
    return ["plane", *(f'{separation:g}"' for separation in PAIR_SEPARATIONS)], figures.tabulate(
        lambda peer, plane: [
            figures.show(peer, plane, "pairs", "pairs", f"resolved {separation:g}")
            for separation in PAIR_SEPARATIONS
        ]
    )


def _faults(figures: _Figures, group: str) -> _Section:
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


def _odd(figures: _Figures) -> _Section:
    names = [(f"relative_rms {snr:g}", f"rms, {snr:g}", 1, 3) for snr in SHAPE_SNR]
    names += [(f"flux_error {snr:g}", f"flux %, {snr:g}", 100, 1) for snr in SHAPE_SNR]
    names += [(f"false {shape}", f"{shape} false", 1, 2) for shape in SHAPES]
    return ["plane", *(title for _, title, _, _ in names)], figures.tabulate(
        lambda peer, plane: [
            figures.show(peer, plane, "shapes", "shapes", name, scale=scale, digits=digits)
            for name, _, scale, digits in names
        ]
    )


def _blank(figures: _Figures) -> _Section:
    names = ("blank_n_peaks", "blank_highest", "blank_mean", "blank_rms")
    titles = ("sources a field", "highest, sigma", "mean", "rms")
    return ["plane", *titles], figures.tabulate(
        lambda peer, plane: [figures.show(peer, plane, "blank", ALL, name, digits=3) for name in names]
    )


def _costs(figures: _Figures) -> _Section:
    rows = []
    scenes = [(group, scene) for group in FLUX_SCENES for scene in figures.scenes(group)]
    for peer in PEERS:
        cells = [figures.show(peer.name, "", *place, "seconds", digits=1) for place in scenes]
        memory = [figures.show(peer.name, "", *place, "memory", digits=0).split(" ")[0] for place in scenes]
        if any(cell != "-" for cell in cells):
            rows.append([peer.name, *(f"{s}; {m}" for s, m in zip(cells, memory, strict=True))])
    return ["peer", *(scene for _, scene in scenes)], rows


_UNITS = "in units of the noise of an ideal mean coadd"

_SECTIONS: tuple[tuple[str, str, Callable[[_Figures], _Section]], ...] = (
    ("Images", f"Means over the fields. Sky {_UNITS}. Each plane against the truth at its own PSF.", _images),
    ("PSNR by scene", "asinh scale, dB.", _psnr),
    (
        "Flux bias, aperture of 1 arcsec",
        "Median in per cent, by kind and S/N; fields and grids.",
        lambda figures: _fluxes(figures, "aperture bias", kinds=("star", "galaxy")),
    ),
    (
        "Small and large galaxies",
        "The same; small: half-light radius below 0.35 arcsec.",
        lambda figures: _fluxes(figures, "aperture bias", kinds=("small", "large")),
    ),
    (
        "Flux scatter, aperture of 1 arcsec",
        "Half of the central 68 %, in per cent.",
        lambda figures: _fluxes(figures, "aperture scatter", kinds=("star", "galaxy")),
    ),
    (
        "Flux bias, PSF flux",
        "Median in per cent.",
        lambda figures: _fluxes(figures, "psf bias", kinds=("star", "galaxy")),
    ),
    (
        "Aperture noise",
        f"Scatter of the error of the aperture flux {_UNITS} with the photons of the source.",
        lambda figures: _fluxes(figures, "aperture noise", kinds=("any",), scale=1),
    ),
    (
        "Pulls",
        "Standard deviation of the error of the PSF flux over the written one.",
        lambda figures: _fluxes(figures, "pull", kinds=("star", "galaxy"), scale=1),
    ),
    ("Shapes", "Medians over stars, or over galaxies above S/N 20.", _shapes),
    ("Completeness without a false detection", "After the same filter for all; S/N > 3.", _completeness),
    ("Pairs resolved", "Share of pairs of equal stars of 22nd to 24th magnitude.", _pairs),
    ("Odd shapes", "Medians by S/N; share with false structure by shape.", _odd),
    ("Noise only", f"Fields of noise; {_UNITS}.", _blank),
    ("Misspecified stacks", "By scene.", lambda figures: _faults(figures, "fault")),
    ("Partial coverage", "By scene.", lambda figures: _faults(figures, "coverage")),
    ("Cost", "CPU seconds of one thread; peak MiB above the inputs.", _costs),
)
