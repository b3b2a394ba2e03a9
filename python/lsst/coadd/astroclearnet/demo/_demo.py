# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""A small Butler repository of simulated HSC exposures, with their truth."""

from __future__ import annotations

__all__ = ("DEMO_RUN", "MARKER", "TRUTH_RUN", "DemoConfig", "make_demo_repository")

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

import astropy.units as u
import astropy.wcs
import numpy as np
from astropy.table import Table

from lsst.daf.butler import Butler
from lsst.images import YX, Box, Image, SkyProjection, TractFrame, VisitImage
from lsst.images.psfs import PiffWrapper

from .. import simulate
from .._progress import StepCounter
from ..adapters import PatchBoxes, TractDefinition, geometry_to_dict
from ..repository import (
    HSC,
    RepositoryError,
    VisitInfo,
    create_repository,
    define_chain,
    naming_full_disk,
    put_dataset,
    register_instrument,
    write_geometry,
    write_visit,
)
from ..repository._visit_images import DetectorInfo, make_visit_image
from ._marker import MARKER, clear, locked, read_marker, write_marker

DEMO_RUN = "HSC/runs/demo"
"""Collection of the exposures."""

TRUTH_RUN = "HSC/truth/demo"
"""Collection of the truth."""

SKYMAP, TRACT, PATCH = "hsc_rings_demo", 9813, 40
BAND, PHYSICAL_FILTER = "i", "HSC-I"

N_PATCHES = 9
"""Patches along each side of the tract."""

BORDER = 50
"""Overlap of a patch with its neighbours, in pixels."""

TRACT_CENTER = (150.25, 2.23)
"""Right ascension and declination of the tract, in degrees."""

STAMP_SIZE = 51
"""Side of the images of a PSF model, in pixels."""

TRUTH_FWHM = {"acn_truth_image": 2.5, "acn_truth_image_2p0": 2.0, "acn_truth_image_3p5": 3.5}
"""FWHM of the Gaussian PSF of each truth image, in pixels."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """What a demo repository holds.

    Raises
    ------
    ValueError
        If a value is out of its range; the text names the field.
    """

    seed: int = 1
    """Seed of everything: equal configs give equal pixels."""

    n_visits: int = 12
    """How many visits."""

    size: int = 600
    """Side of the patch's outer bounding box, in pixels; a multiple of 200,
    the default cell size."""

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"seed must not be negative; got {self.seed}.")
        if not 1 <= self.n_visits <= 200:
            raise ValueError(f"n_visits must be within 1 to 200; got {self.n_visits}.")
        if self.size % 200 or not 200 <= self.size <= 4200:
            raise ValueError(f"size must be a multiple of 200 from 200 to 4200; got {self.size}.")

    @property
    def tract(self) -> TractDefinition:
        """The tract with its only patch (`TractDefinition`)."""
        inner = self.size - 2 * BORDER
        side = N_PATCHES * inner
        wcs = astropy.wcs.WCS(naxis=2)
        wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
        wcs.wcs.crval = TRACT_CENTER
        wcs.wcs.crpix = [(side + 1) / 2, (side + 1) / 2]
        wcs.wcs.cd = np.diag([-1.0, 1.0]) * simulate.PIXEL_SCALE / 3600.0
        wcs.wcs.set()
        index = YX(y=PATCH // N_PATCHES, x=PATCH % N_PATCHES)
        x, y = index.x * inner, index.y * inner
        patch = PatchBoxes(
            id=PATCH,
            index=index,
            inner=Box.factory[y : y + inner, x : x + inner],
            outer=Box.factory[y - BORDER : y + inner + BORDER, x - BORDER : x + inner + BORDER],
        )
        return TractDefinition(id=TRACT, wcs=wcs, bbox=Box.factory[0:side, 0:side], patches=(patch,))

    @property
    def survey(self) -> simulate.SurveyConfig:
        """Sky and visits (`simulate.SurveyConfig`)."""
        outer = self.tract.patches[0].outer
        scene = simulate.SceneConfig(
            seed=self.seed,
            x0=outer.x.start,
            y0=outer.y.start,
            width=outer.x.size,
            height=outer.y.size,
            margin=60,
            pixel_scale=simulate.PIXEL_SCALE,
            density=26.0,
            saturated_mag=(15.3,),
        )
        return simulate.SurveyConfig(scene=scene, n_visits=self.n_visits)


def make_demo_repository(
    root: str | Path,
    config: DemoConfig | None = None,
    *,
    overwrite: bool = False,
    report: Callable[[str], None] = lambda line: None,
) -> bool:
    """Make a repository of simulated exposures, unless it is there already.

    Parameters
    ----------
    root
        Folder of the repository.
    config
        What to put into it; `None` for the defaults.
    overwrite
        Replace a complete demo repository, whatever it was made from and
        whatever was added to it since.
    report
        Called with a line for each step.

    Returns
    -------
    `bool`
        Whether it was made: `False` if it was complete already.

    Raises
    ------
    RepositoryError
        If the folder holds anything but a demo repository, or one made with
        another config; if another process is making it; or if it cannot be
        written, as on a full disk.
    """
    root, config = Path(root), config or DemoConfig()
    old, made_from = read_marker(root), dataclasses.asdict(config)
    if old is not None and old["complete"] and not overwrite:
        if old["config"] != made_from:
            raise RepositoryError(
                f"{root} is a demo repository made with other options ({_name_options(old['config'])}); "
                "give --overwrite to replace it, or another folder."
            )
        report(f"{root} is complete already; nothing to do (--overwrite makes it anew).")
        return False
    root.mkdir(parents=True, exist_ok=True)
    with locked(root):
        if old is not None:
            report(f"Replacing {'the' if old['complete'] else 'the incomplete'} demo repository {root}.")
            clear(root)
        write_marker(root, made_from, complete=False)
        with naming_full_disk(root):
            _fill(create_repository(root, ignore=(MARKER,)), config, report)
        write_marker(root, made_from, complete=True)
    return True


def _name_options(config: Mapping[str, int]) -> str:
    """Write the options that make a config."""
    return " ".join(f"--{name.removeprefix('n_')} {value}" for name, value in config.items())


def _fill(butler: Butler, config: DemoConfig, report: Callable[[str], None]) -> None:
    """Simulate, and put everything into an empty repository."""
    survey, tract = config.survey, config.tract
    plans = simulate.plan_visits(survey, tract.wcs)
    detectors = {detector.id: detector.name for plan in plans for detector in plan.detectors}
    register_instrument(
        butler,
        HSC,
        detectors=dict(sorted(detectors.items())),
        physical_filters={PHYSICAL_FILTER: BAND},
    )
    write_geometry(butler, geometry_to_dict(skymap=SKYMAP, tracts=[tract]))
    catalog = simulate.make_catalog(survey.scene)
    report(f"Sky: {len(catalog)} sources, seed {config.seed}.")
    exposures, count = [], StepCounter(len(plans), report)
    for plan in plans:
        images = {}
        for detector in plan.detectors:
            exposure = simulate.simulate_exposure(
                plan, detector, config=survey, catalog=catalog, grid_wcs=tract.wcs
            )
            if exposure is not None:
                exposures.append(exposure)
                images[detector.id] = _to_visit_image(exposure, config)
        info = VisitInfo(
            visit=plan.visit,
            name=f"HSCA{plan.visit:08d}",
            physical_filter=PHYSICAL_FILTER,
            begin=plan.begin,
            exposure_time=simulate.EXPOSURE_TIME,
            target_name="ACN_DEMO",
        )
        write_visit(butler, images, instrument=HSC.name, info=info, run=DEMO_RUN)
        numbers = ", ".join(str(number) for number in images)
        count(f'Visit {plan.visit}: detectors {numbers}, seeing {plan.fwhm:.2f}"')
    _write_truth(butler, config, catalog, exposures)
    define_chain(butler, "HSC/defaults", [DEMO_RUN, TRUTH_RUN, "skymaps"])
    report(f"Truth: catalogue and {len(TRUTH_FWHM) + 1} noiseless images in {TRUTH_RUN}.")


def _to_visit_image(exposure: simulate.SimulatedExposure, config: DemoConfig) -> VisitImage:
    plan, detector = exposure.plan, exposure.detector
    info = DetectorInfo(
        id=detector.id,
        name=detector.name,
        width=detector.width,
        height=detector.height,
        offset_x=detector.offset_x,
        offset_y=detector.offset_y,
        yaw=detector.yaw,
    )
    duration = simulate.EXPOSURE_TIME * u.s
    return make_visit_image(
        exposure.image,
        exposure.variance,
        exposure.planes,
        x0=exposure.x0,
        y0=exposure.y0,
        unit=u.adu,
        calibration=exposure.calibration,
        wcs=exposure.wcs,
        psf=PiffWrapper(exposure.psf, info.bbox, STAMP_SIZE),
        detector=info,
        instrument=HSC.name,
        visit=plan.visit,
        physical_filter=PHYSICAL_FILTER,
        band=BAND,
        observation={
            "datetime_begin": plan.begin,
            "datetime_end": plan.begin + duration,
            "exposure_time": duration,
            "object": "ACN_DEMO",
            "observation_type": "science",
        },
        metadata={"SIMULATED": True, "SEED": config.seed, "SEEING_ARCSEC": plan.fwhm},
    )


def _write_truth(
    butler: Butler, config: DemoConfig, catalog: Table, exposures: list[simulate.SimulatedExposure]
) -> None:
    """Put the truth: a catalogue, and images without noise."""
    tract = config.tract
    outer = tract.patches[0].outer
    frame = TractFrame(skymap=SKYMAP, tract=TRACT, bbox=tract.bbox)
    projection = SkyProjection.from_fits_wcs(tract.wcs, frame)
    mean = simulate.mean_psf(exposures, x=outer.x.center, y=outer.y.center, grid_wcs=tract.wcs)
    wanted = {name: {"target_fwhm": fwhm} for name, fwhm in TRUTH_FWHM.items()}
    wanted["acn_truth_image_seeing"] = {"psf": mean}
    target = {
        "dimensions": ("skymap", "tract", "patch", "band"),
        "data_id": {"skymap": SKYMAP, "tract": TRACT, "patch": PATCH, "band": BAND},
        "run": TRUTH_RUN,
    }
    table = _annotate(simulate.sky_catalog(catalog, tract.wcs), config)
    put_dataset(butler, table, "acn_truth_catalog", storage_class="ArrowAstropy", **target)
    for name, psf in wanted.items():
        array = simulate.draw_truth(
            catalog,
            height=outer.y.size,
            width=outer.x.size,
            x0=outer.x.start,
            y0=outer.y.start,
            pixel_scale=simulate.PIXEL_SCALE,
            **psf,
        )
        image = Image(array, bbox=outer, unit=u.nJy, sky_projection=projection)
        put_dataset(butler, image, name, storage_class="ImageV2", **target)


def _annotate(catalog: Table, config: DemoConfig) -> Table:
    """Add units, and whether a source is on the patch."""
    outer = config.tract.patches[0].outer
    catalog["in_patch"] = [
        outer.x.start <= x < outer.x.stop and outer.y.start <= y < outer.y.stop
        for x, y in zip(catalog["x"], catalog["y"], strict=True)
    ]
    units = {"ra": u.deg, "dec": u.deg, "x": u.pix, "y": u.pix, "flux": u.nJy}
    for name, unit in (units | {"mag": u.ABmag, "half_light_radius": u.arcsec}).items():
        catalog[name].unit = unit
    catalog.meta.update({f"acn_demo_{k}": v for k, v in dataclasses.asdict(config).items()})
    return catalog
