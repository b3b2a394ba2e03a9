# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run peers on scenes, and keep what was measured."""

from __future__ import annotations

__all__ = ("CONDITIONS", "Results", "Settings", "run_scenes")

import concurrent.futures
import contextlib
import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import multiprocessing
import os
import platform
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import astropy.table
import numpy as np
import torch

from lsst.coadd.astroclearnet.core.encoder._encoder import weights_file

from . import metrics
from .alone import run_alone
from .measure import TABLES, Judge
from .peers import ENGINE, Delivery, FitInputs, Peer
from .pool import SECOND_WEIGHTS
from .scenes import HALO, Scene, keep_signals

type Report = Callable[[str], None]

CONDITIONS = "conditions.json"
"""File that says what was run, and with what."""

_HELD_OUT = 4
"""Every so manyth exposure is held out of the fit that held-out chi2 is
measured on."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """How to run."""

    out: Path
    """Folder of the results."""
    weights: Path | None = None
    """Weights of the engine, instead of the shipped ones."""
    second_weights: Path | None = None
    """Weights of another training seed, to compare with."""
    pictures: bool = True
    """Whether to keep the images of the first realisation."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Results:
    """Tables of a run; their names are those of `TABLES`."""

    tables: dict[str, astropy.table.Table]

    def __getitem__(self, name: str) -> astropy.table.Table:
        return self.tables[name]

    def write(self, folder: Path) -> None:
        """Write all tables, each as FITS, and ``rows`` as CSV too."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, table in self.tables.items():
            table.write(folder / f"{name}.fits", overwrite=True)
        self["rows"].write(folder / "rows.csv", overwrite=True)

    @classmethod
    def read(cls, folder: Path) -> Results:
        """Read what `write` has written.

        Raises
        ------
        FileNotFoundError
            If there is no run in the folder.
        """
        tables = {}
        for name in TABLES:
            table = astropy.table.Table.read(folder / f"{name}.fits", mask_invalid=False)
            table.convert_bytestring_to_unicode()
            tables[name] = table
        return cls(tables=tables)

    @classmethod
    def collect(cls, parts: Sequence[dict[str, list[dict]]]) -> Results:
        """Put the rows of several scenes together."""
        tables = {}
        for name in TABLES:
            rows = [row for part in parts for row in part[name]]
            tables[name] = astropy.table.Table(rows) if rows else astropy.table.Table()
        return cls(tables=tables)


def run_scenes(
    scenes: Sequence[Scene], peers: Sequence[Peer], settings: Settings, *, jobs: int, report: Report = print
) -> Results:
    """Run every peer on every realisation of every scene.

    Parameters
    ----------
    scenes, peers
        What to run; a peer says on which scenes it does.
    settings
        Where to put results, and options.
    jobs
        Worker processes; each takes a scene at a time.
    report
        Takes a line of progress.

    Returns
    -------
    `Results`
        Also written below ``settings.out``.
    """
    settings.out.mkdir(parents=True, exist_ok=True)
    (settings.out / CONDITIONS).write_text(json.dumps(_describe(scenes, settings), indent=1))
    # The longest first, so that no worker is left with it at the end.
    order = sorted(scenes, key=lambda scene: -scene.n_exposures * scene.size**2 * scene.realisations)
    work = functools.partial(_run_scene, peers=tuple(peers), settings=settings)
    parts: dict[Scene, dict] = {}

    def keep(scene: Scene, part: dict) -> Results:
        # All that there is, so that an interrupted run can be reported too.
        parts[scene] = part
        results = Results.collect([parts[known] for known in scenes if known in parts])
        results.write(settings.out)
        report(f"{len(parts)}/{len(order)} {scene.name}")
        return results

    if jobs == 1:
        return [keep(scene, work(scene)) for scene in order][-1]
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(jobs, mp_context=context) as pool:
        futures = {pool.submit(work, scene): scene for scene in order}
        done = concurrent.futures.as_completed(futures)
        return [keep(futures[future], future.result()) for future in done][-1]


def _describe(scenes: Sequence[Scene], settings: Settings) -> dict[str, str]:
    """Say under what conditions a run was made."""
    weights = {"weights": settings.weights or weights_file(), "second weights": settings.second_weights}
    described = {"set": ", ".join(dict.fromkeys(scene.set for scene in scenes))}
    for name, path in weights.items():
        if path is not None:
            described[f"SHA-256 of {name}"] = hashlib.sha256(path.read_bytes()).hexdigest()
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        command = ("git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty")
        described["commit"] = subprocess.check_output(command, text=True, stderr=subprocess.DEVNULL).strip()
    for name in ("coadd_astroclearnet", "torch", "numpy", "galsim", "starred-astro"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            described[name] = importlib.metadata.version(name)
    return described | {"machine": f"{platform.machine()}, {os.cpu_count()} cores, one thread a fit"}


def _run_scene(scene: Scene, *, peers: Sequence[Peer], settings: Settings) -> dict[str, list[dict]]:
    """Run the peers on all realisations of one scene."""
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    keep_signals(settings.out.parent / "signals")
    tables: dict[str, list[dict]] = {name: [] for name in TABLES}
    for realisation in range(scene.realisations):
        stack, truth = scene.make(realisation)
        judge = Judge(scene, realisation, stack, truth)
        inputs = FitInputs(scene=scene, stack=stack, truth=truth, weights=settings.weights)
        images: dict[str, Delivery] = {}
        for peer in peers:
            if peer.runs_on(scene, realisation):
                _run_peer(peer.name, functools.partial(peer.fit, inputs), judge, tables, images)
                if scene.twin and not peer.heavy:
                    _measure_leak(peer, inputs, judge, tables, images)
        if settings.second_weights and scene.kind == "grid":
            other = dataclasses.replace(inputs, weights=settings.second_weights)
            engine = next(peer for peer in peers if peer.name == ENGINE)
            _run_peer(SECOND_WEIGHTS, functools.partial(engine.fit, other), judge, tables, images)
        if scene.heavy:
            latent = [peer for peer in peers if f"{peer.name}/latent" in images and not peer.heavy]
            _hold_out(latent, inputs, judge, tables)
        _compare_orders(images, judge, tables)
        if settings.pictures and realisation == 0:
            _keep_images(settings.out, judge, images)
    return tables


def _run_peer(name: str, fit, judge: Judge, tables: dict, images: dict) -> None:
    """Fit in a process of its own, measure, and add to tables and images."""
    outcome = run_alone(fit)
    if outcome.error:
        print(f"{judge.scene.name} {judge.realisation}, {name}: {outcome.error}", flush=True)
        tables["rows"].append(judge.row(name, "", "failed", 1.0))
        return
    print(f"{judge.scene.name} {judge.realisation}, {name}: {outcome.seconds:.1f} CPU-s", flush=True)
    tables["rows"].append(judge.row(name, "", "seconds", outcome.seconds))
    tables["rows"].append(judge.row(name, "", "memory", outcome.memory))
    for delivery in outcome.value:
        for table, rows in judge.measure(name, delivery).items():
            tables[table].extend(rows)
        images[f"{name}/{delivery.plane}"] = delivery


def _measure_leak(peer: Peer, inputs: FitInputs, judge: Judge, tables: dict, images: dict) -> None:
    """Fit the exposures with the trail masked, and compare."""
    stack = inputs.stack
    good = stack.good & ~judge.find_trail()
    masked = dataclasses.replace(stack, good=good, image=np.where(good, stack.image, 0))
    clean = dataclasses.replace(inputs, stack=masked)
    outcome = run_alone(functools.partial(peer.fit, clean))
    for delivery in outcome.value or ():
        found = images.get(f"{peer.name}/{delivery.plane}")
        if found:
            tables["rows"].append(judge.measure_leak(peer.name, found, delivery))


def _hold_out(peers: Sequence[Peer], inputs: FitInputs, judge: Judge, tables: dict) -> None:
    """Fit some exposures, and predict the others from the latent."""
    n = inputs.scene.n_exposures
    held = np.arange(n) % _HELD_OUT == 0
    stack, truth = inputs.stack, inputs.truth
    rest, unseen = (stack.take(np.flatnonzero(mask)) for mask in (~held, held))
    psfs = tuple(truth.psfs[k] for k in np.flatnonzero(~held))
    part = dataclasses.replace(
        inputs,
        scene=dataclasses.replace(inputs.scene, n_exposures=int((~held).sum())),
        stack=rest,
        truth=dataclasses.replace(truth, psfs=psfs, sky_sigma=truth.sky_sigma[~held]),
    )
    for peer in peers:
        outcome = run_alone(functools.partial(peer.fit, part))
        for delivery in outcome.value or ():
            if delivery.plane == "latent" and delivery.target_fwhm:
                fit = metrics.exposure_chi2(
                    delivery.image,
                    unseen,
                    latent_fwhm=delivery.target_fwhm,
                    halo=HALO,
                    rejected=truth.artifacts[held],
                )
                bright = float(np.nanmean(fit.chi2_sources))
                tables["rows"].append(judge.row(peer.name, "latent", "held_out_chi2", fit.mean))
                tables["rows"].append(judge.row(peer.name, "latent", "held_out_chi2_sources", bright))


def _compare_orders(images: dict[str, Delivery], judge: Judge, tables: dict) -> None:
    """Say how much the order of the exposures matters, in units of noise."""
    for plane in ("latent", "coadd"):
        first, second = (images.get(f"{name}/{plane}") for name in (ENGINE, f"{ENGINE} permuted"))
        if first and second:
            difference = float(np.abs(first.image - second.image).max()) / judge.unit
            tables["rows"].append(judge.row(f"{ENGINE} permuted", plane, "order_difference", difference))


def _keep_images(out: Path, judge: Judge, images: dict[str, Delivery]) -> None:
    """Write the images of a scene, for the pictures."""
    inner = np.s_[HALO:-HALO, HALO:-HALO]
    sharpest = int(np.argmin(judge.truth.psf_fwhm))
    planes = {name: delivery.image.astype(np.float32) for name, delivery in images.items()}
    skies = {
        f"truth of {name}": judge.true_sky(delivery).astype(np.float32) for name, delivery in images.items()
    }
    (out / "images").mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        out / "images" / f"{judge.scene.name}.npz",
        truth=judge.truth.image[inner],
        exposure=judge.stack.image[sharpest][inner],
        unit=judge.unit,
        **planes,
        **skies,
    )
