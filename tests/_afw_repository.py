# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""A small repository of the full stack: ExposureF, visit summaries, sky map.

Two detectors side by side in each of a few rotated and dithered visits. The
exposures are in counts and hold a PSF, WCS and calibration that are wrong; the
visit summaries have the right ones, as a final calibration has them. Sky is
left in the images, as if ``skyCorr`` were still to be subtracted.
"""

from __future__ import annotations

import dataclasses
import math

import astropy.time
import numpy as np

from lsst.coadd.astroclearnet.repository import (
    InstrumentInfo,
    create_repository,
    define_chain,
    put_dataset,
    register_instrument,
)
from lsst.daf.butler import Timespan
from lsst.sphgeom import ConvexPolygon

SKYMAP, TRACT, BAND = "acn_test", 0, "i"
CENTRE = (30.0, -5.0)
SCALE = 0.2
HEIGHT, WIDTH, GAP = 330, 170, 8
SKY_NOISE = 20.0
"""Standard deviation of a pixel of a detector, in nJy."""
SKY = 3.0
"""Counts that skyCorr removes."""
APERTURE_CORRECTION = 1.04


@dataclasses.dataclass(frozen=True, kw_only=True)
class Visit:
    """How a visit was taken."""

    id: int
    sigma: float
    """Of its Gaussian PSF, in pixels."""
    scale: float
    """nJy per count in the middle of a detector."""
    turn: float
    """Rotation of the camera, in degrees."""
    dither: tuple[float, float]
    """Of the middle of the camera from that of the patch, in pixels."""


VISITS = (
    Visit(id=101, sigma=1.5, scale=8.0, turn=0.0, dither=(3.3, -4.7)),
    Visit(id=102, sigma=1.8, scale=12.0, turn=90.0, dither=(-8.4, 5.1)),
    Visit(id=103, sigma=2.0, scale=10.0, turn=187.0, dither=(6.6, 9.2)),
    Visit(id=104, sigma=1.7, scale=9.0, turn=3.0, dither=(-5.8, -9.9)),
)
CAMERA = InstrumentInfo(name="HSC", class_name="_afw_pipelines.Camera", detector_max=20, visit_max=1000)
DETECTORS = {10: "0_10", 11: "0_11"}
SATURATED_VISIT, RAY_VISIT, SUSPECT_VISIT = 101, 102, 103


@dataclasses.dataclass(frozen=True)
class Sky:
    """Sky map and the patch that is observed, with its stars."""

    sky_map: object
    patch: int
    stars: np.ndarray
    """Pixel x and y of the tract, and flux in nJy, ``(n, 3)``."""

    @property
    def tract_wcs(self):
        return self.sky_map[TRACT].getWcs()

    @property
    def box(self):
        """Pixels of the coadds (`lsst.geom.Box2I`)."""
        return self.sky_map[TRACT][self.patch].getOuterBBox()

    @property
    def data_id(self):
        return {"skymap": SKYMAP, "tract": TRACT, "patch": self.patch, "band": BAND}


def make_sky():
    """Make a sky map whose patches have 240 x 240 pixels."""
    import lsst.geom
    from lsst.skymap import DiscreteSkyMap

    config = DiscreteSkyMap.ConfigClass()
    config.raList, config.decList, config.radiusList = [CENTRE[0]], [CENTRE[1]], [0.03]
    config.projection, config.pixelScale, config.tractOverlap = "TAN", SCALE, 0.0
    config.tractBuilder["legacy"].patchInnerDimensions = (200, 200)
    config.tractBuilder["legacy"].patchBorder = 20
    sky_map = DiscreteSkyMap(config)
    middle = lsst.geom.SpherePoint(*CENTRE, lsst.geom.degrees)
    info = sky_map[TRACT].findPatch(middle)
    box = info.getOuterBBox()
    x, y = np.meshgrid(np.arange(45.0, 230.0, 50.0), np.arange(45.0, 230.0, 50.0))
    flux = 4e3 + 3e3 * np.arange(x.size)
    shift = np.random.default_rng(5).uniform(-0.5, 0.5, (2, x.size))
    stars = np.stack([box.getMinX() + x.ravel() + shift[0], box.getMinY() + y.ravel() + shift[1], flux], 1)
    return Sky(sky_map, info.getSequentialIndex(), stars)


def _geometry():
    """Import what makes afw's boxes and points."""
    import lsst.geom

    return lsst.geom


def frame_box():
    """Return the pixels of a detector; its corner is not (0, 0)."""
    geom = _geometry()
    return geom.Box2I(geom.Point2I(4, 2), geom.Extent2I(WIDTH, HEIGHT))


def make_frame_wcs(sky, visit, detector):
    """Return the WCS of a detector: left or right of the camera's middle."""
    from lsst.afw.geom import makeCdMatrix, makeSkyWcs

    geom = _geometry()
    middle = geom.Point2D(geom.Box2D(sky.box).getCenter()) + geom.Extent2D(*visit.dither)
    to_middle = (WIDTH + GAP / 2, HEIGHT / 2) if detector == 10 else (-GAP / 2, HEIGHT / 2)
    return makeSkyWcs(
        crpix=geom.Point2D(*to_middle) + geom.Extent2D(4, 2),
        crval=sky.tract_wcs.pixelToSky(middle),
        cdMatrix=makeCdMatrix(SCALE * geom.arcseconds, visit.turn * geom.degrees, True),
    )


def make_calibration(visit):
    """Return a calibration that changes by 10 % from side to side."""
    from lsst.afw.image import PhotoCalib
    from lsst.afw.math import ChebyshevBoundedField

    coefficients = np.array([[visit.scale, 0.05 * visit.scale], [0.0, 0.0]])
    return PhotoCalib(ChebyshevBoundedField(frame_box(), coefficients))


def make_psf(sigma):
    """Return a PSF that, like one that was fitted, knows where it was."""
    from lsst.afw.detection import GaussianPsf
    from lsst.afw.math import FixedKernel
    from lsst.meas.algorithms import KernelPsf

    middle = _geometry().Box2D(frame_box()).getCenter()
    return KernelPsf(FixedKernel(GaussianPsf(31, 31, sigma).computeKernelImage(middle)), middle)


def _draw_stars(sky, wcs, sigma):
    """Return the stars on a detector, in nJy ``(y, x)``."""
    geom, box = _geometry(), frame_box()
    image = np.zeros((HEIGHT, WIDTH))
    y, x = np.mgrid[box.getMinY() : box.getMaxY() + 1, box.getMinX() : box.getMaxX() + 1]
    for star_x, star_y, flux in sky.stars:
        place = wcs.skyToPixel(sky.tract_wcs.pixelToSky(geom.Point2D(star_x, star_y)))
        squared = (x - place.getX()) ** 2 + (y - place.getY()) ** 2
        image += flux * np.exp(-squared / (2 * sigma**2)) / (2 * math.pi * sigma**2)
    return image


def _mark(exposure, name, rows, columns):
    exposure.mask.array[rows, columns] |= exposure.mask.getPlaneBitMask(name)


def _set_planes(exposure, visit, detector):
    """Damage some pixels, as instrument signature removal finds them."""
    _mark(exposure, "EDGE", np.s_[:4], np.s_[:])
    exposure.image.array[100:104, 60] = 9e4
    _mark(exposure, "BAD", np.s_[100:104], 60)
    exposure.image.array[50:53, 100:103] = np.nan
    _mark(exposure, "NO_DATA", np.s_[50:53], np.s_[100:103])
    if visit.id == SATURATED_VISIT:
        exposure.image.array[150:160, 80:90] = 6e4
        _mark(exposure, "SAT", np.s_[150:160], np.s_[80:90])
    if visit.id == RAY_VISIT:
        for plane in ("CR", "INTRP"):
            _mark(exposure, plane, np.s_[200:203], np.s_[40:90])
    if visit.id == SUSPECT_VISIT:
        _mark(exposure, "SUSPECT", np.s_[120:130], np.s_[90:100])


def make_detector_image(sky, visit, detector):
    """Make an ExposureF in counts, with wrong calibrations."""
    import lsst.afw.image as image
    from lsst.afw.cameraGeom.testUtils import DetectorWrapper

    geom = _geometry()
    wcs = make_frame_wcs(sky, visit, detector)
    exposure = image.ExposureF(frame_box())
    rng = np.random.default_rng(1000 * visit.id + detector)
    truth = _draw_stars(sky, wcs, visit.sigma) + rng.normal(0, SKY_NOISE, (HEIGHT, WIDTH))
    calibration = image.ImageD(frame_box())
    make_calibration(visit).computeScaledCalibration().fillImage(calibration)
    calibration.array[:, :] *= make_calibration(visit).getCalibrationMean()
    exposure.image.array[:, :] = truth / calibration.array + SKY
    exposure.variance.array[:, :] = (SKY_NOISE / calibration.array) ** 2
    _set_planes(exposure, visit, detector)
    exposure.setPsf(make_psf(3.5))
    shifted = make_frame_wcs(sky, dataclasses.replace(visit, dither=(60.0, 0.0)), detector)
    exposure.setWcs(shifted)
    exposure.setPhotoCalib(image.PhotoCalib(1.0))
    exposure.setFilter(image.FilterLabel(band=BAND, physical="HSC-I"))
    exposure.info.setVisitInfo(_make_visit_info(visit, sky))
    wrapper = DetectorWrapper(name=DETECTORS[detector], id=detector, bbox=geom.Box2I(frame_box()))
    exposure.setDetector(wrapper.detector)
    exposure.info.setApCorrMap(make_aperture_corrections(2.0))
    return exposure


def _make_visit_info(visit, sky):
    from lsst.afw.image import RotType, VisitInfo
    from lsst.daf.base import DateTime

    geom = _geometry()
    return VisitInfo(
        exposureTime=30.0,
        date=DateTime("2025-01-31T03:00:00.000", DateTime.TAI),
        boresightRaDec=geom.SpherePoint(*CENTRE, geom.degrees),
        boresightRotAngle=visit.turn * geom.degrees,
        rotType=RotType.SKY,
        instrumentLabel="HSC",
        id=visit.id,
    )


def make_aperture_corrections(value):
    """Return corrections that are the same everywhere."""
    from lsst.afw.image import ApCorrMap
    from lsst.afw.math import ChebyshevBoundedField

    corrections = ApCorrMap()
    for name, number in (("instFlux", value), ("instFluxErr", 0.001)):
        field = ChebyshevBoundedField(frame_box(), np.array([[number]]))
        corrections[f"base_PsfFlux_{name}"] = field
    return corrections


def make_visit_summary(sky, visit):
    """Make an ExposureCatalog with the final calibration of a visit."""
    from lsst.afw.image import ExposureSummaryStats
    from lsst.afw.table import ExposureCatalog, ExposureTable

    schema = ExposureTable.makeMinimalSchema()
    schema.addField("visit", type="L", doc="Number of the visit.")
    schema.addField("physical_filter", type="String", size=32, doc="Filter.")
    schema.addField("band", type="String", size=32, doc="Band.")
    ExposureSummaryStats.update_schema(schema)
    catalog = ExposureCatalog(schema)
    for detector in DETECTORS:
        row = catalog.addNew()
        row.setId(detector)
        row["visit"], row["band"], row["physical_filter"] = visit.id, BAND, "HSC-I"
        row["psfSigma"], row["pixelScale"] = visit.sigma, SCALE
        row.setBBox(frame_box())
        row.setPsf(make_psf(visit.sigma))
        row.setWcs(make_frame_wcs(sky, visit, detector))
        row.setPhotoCalib(make_calibration(visit))
        row.setApCorrMap(make_aperture_corrections(APERTURE_CORRECTION))
        row.setVisitInfo(_make_visit_info(visit, sky))
    catalog.sort()
    return catalog


def make_background(level):
    """Return a BackgroundList of one constant background."""
    from lsst.afw.image import ImageF
    from lsst.afw.math import (
        REDUCE_INTERP_ORDER,
        ApproximateControl,
        BackgroundControl,
        BackgroundList,
        Interpolate,
        makeBackground,
    )

    image = ImageF(frame_box())
    image.array[:, :] = level
    background = makeBackground(image, BackgroundControl(4, 4))
    styles = (Interpolate.AKIMA_SPLINE, REDUCE_INTERP_ORDER)
    return BackgroundList((background, *styles, ApproximateControl.UNKNOWN, 0, 0, False))


def _find_region(sky, visit, detector):
    geom = _geometry()
    wcs = make_frame_wcs(sky, visit, detector)
    return ConvexPolygon(
        [wcs.pixelToSky(corner).getVector() for corner in geom.Box2D(frame_box()).getCorners()]
    )


def _register_visit(butler, sky, visit):
    """Insert a visit with the regions of its detectors."""
    begin = astropy.time.Time("2025-01-31T03:00:00", scale="tai") + visit.id * astropy.time.TimeDelta(
        60, format="sec"
    )
    regions = {detector: _find_region(sky, visit, detector) for detector in DETECTORS}
    corners = [vertex for region in regions.values() for vertex in region.getVertices()]
    registry = butler.registry
    registry.syncDimensionData("day_obs", {"instrument": "HSC", "id": 20250131})
    record = {"instrument": "HSC", "id": visit.id, "name": f"v{visit.id}", "physical_filter": "HSC-I"}
    record |= {"day_obs": 20250131, "exposure_time": 30.0, "region": ConvexPolygon.convexHull(corners)}
    record["timespan"] = Timespan(begin, begin + astropy.time.TimeDelta(30, format="sec"))
    registry.insertDimensionData("visit", record)
    for detector, region in regions.items():
        place = {"instrument": "HSC", "visit": visit.id, "detector": detector}
        registry.insertDimensionData("visit_detector_region", place | {"region": region})


def make_repository(root):
    """Make the repository; return its sky."""
    sky = make_sky()
    with create_repository(root) as butler:
        register_instrument(butler, CAMERA, detectors=DETECTORS, physical_filters={"HSC-I": BAND})
        sky.sky_map.register(SKYMAP, butler)
        for visit in VISITS:
            _register_visit(butler, sky, visit)
            place, run = {"instrument": "HSC", "visit": visit.id}, "HSC/runs"
            frames = {"dimensions": ("instrument", "visit", "detector"), "run": run}
            put_dataset(
                butler,
                make_visit_summary(sky, visit),
                "finalVisitSummary",
                storage_class="ExposureCatalog",
                dimensions=("instrument", "visit"),
                data_id=place,
                run=run,
            )
            for detector in DETECTORS:
                data_id = place | {"detector": detector}
                image = make_detector_image(sky, visit, detector)
                put_dataset(butler, image, "calexp", storage_class="ExposureF", data_id=data_id, **frames)
                background = make_background(SKY)
                put_dataset(
                    butler, background, "skyCorr", storage_class="Background", data_id=data_id, **frames
                )
        define_chain(butler, "HSC/defaults", ["HSC/runs", "skymaps"])
    return sky
