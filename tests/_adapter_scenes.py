# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""One scene, made as an image of every library that has an adapter."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import _afw_stand_ins as fake
import astropy.units as u
import astropy.wcs
import numpy as np
import pytest
from astropy.stats import gaussian_sigma_to_fwhm

from lsst.coadd.astroclearnet.adapters import InputExtras, make_adapter
from lsst.coadd.astroclearnet.repository._visit_images import DetectorInfo, make_visit_image
from lsst.images import Box, Mask, MaskPlane, MaskSchema, ObservationSummaryStats, TractFrame
from lsst.images.fields import ChebyshevField
from lsst.images.psfs import GaussianPointSpreadFunction

SHAPE = (90, 120)
X0, Y0 = 30, 700
DATA_ID = {"instrument": "HSC", "visit": 1228, "detector": 50, "physical_filter": "HSC-R2", "band": "r"}
LABEL = "visit=1228 detector=50"
"""What messages call it."""
NEEDS_AFW = "lsst.afw is part of the full LSST stack and is not on PyPI"
SCALE = 0.168
DIALECTS = {
    "BAD": "BAD",
    "SATURATED": "SAT",
    "COSMIC_RAY": "CR",
    "INTERPOLATED": "INTRP",
    "DETECTION_EDGE": "EDGE",
    "DETECTED": "DETECTED",
    "NO_DATA": "NO_DATA",
}
"""Names of mask planes in lsst.images and lsst.afw."""


def make_wcs():
    """A detector whose pixel (1000, 1000) is at (150, 2) deg."""
    wcs = astropy.wcs.WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [150.0, 2.0]
    wcs.wcs.crpix = [1001, 1001]
    wcs.wcs.cdelt = [-SCALE / 3600, SCALE / 3600]
    return wcs


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scene:
    """What is on a detector, whatever the library."""

    counts: np.ndarray = dataclasses.field(default_factory=lambda: np.full(SHAPE, 2.0))
    variance: np.ndarray = dataclasses.field(default_factory=lambda: np.full(SHAPE, 4.0))
    planes: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    unknown_plane: str = ""
    calibration: tuple[float, float] | None = (30.0, 0.0)
    """nJy per count in the middle, and what is added at the right edge."""
    sigma: float | None = 1.6
    """Sigma of the PSF in pixels; `None` for no PSF."""
    statistics: Mapping[str, float] = dataclasses.field(default_factory=dict)
    background: float = 0.0
    """Counts that were subtracted as background."""
    sky_correction: float = 0.0
    """Counts that are still to be subtracted."""
    aperture_correction: float | None = None

    @property
    def scaling(self):
        """nJy per count of every pixel."""
        middle, slope = self.calibration
        x = (np.arange(SHAPE[1]) - (SHAPE[1] - 1) / 2) / (SHAPE[1] / 2)
        return np.broadcast_to(middle + slope * x, SHAPE)


class Images:
    """VisitImage of lsst.images."""

    name = "images"

    def make(self, scene):
        bbox = Box.factory[Y0 : Y0 + SHAPE[0], X0 : X0 + SHAPE[1]]
        psf = scene.sigma and GaussianPointSpreadFunction(
            scene.sigma, bounds=Box.factory[0:2000, 0:2000], stamp_size=31
        )
        image = make_visit_image(
            scene.counts,
            scene.variance,
            scene.planes,
            x0=X0,
            y0=Y0,
            unit=u.adu,
            calibration=None if scene.calibration is None else np.array([scene.calibration, (0.0, 0.0)]),
            wcs=make_wcs(),
            psf=psf,
            detector=DetectorInfo(id=50, name="1_50", width=2000, height=2000),
            **{name: DATA_ID[name] for name in ("instrument", "visit", "physical_filter", "band")},
        )
        if scene.unknown_plane:
            image._mask = image.mask.add_planes([MaskPlane(scene.unknown_plane, "Not in the table.")])
            image.mask.set(scene.unknown_plane, np.ones(SHAPE, bool))
        image._summary_stats = ObservationSummaryStats(**scene.statistics)

        def constant(value, unit=None):
            return ChebyshevField(bbox, np.array([[value]]), unit=unit)

        image.backgrounds.add("sky", constant(scene.background, u.adu), is_subtracted=True)
        image.backgrounds.add("skyCorr", constant(scene.sky_correction, u.adu))
        if scene.aperture_correction is not None:
            image.aperture_corrections["base_PsfFlux_instFlux"] = constant(scene.aperture_correction)
        return image

    def adapter(self, *, revert=False, apply=False):
        return make_adapter("images", revert_background=revert, apply_background="skyCorr" if apply else "")

    def extras(self, scene, *, revert=False, apply=False):
        return InputExtras()

    def pixels(self, image):
        return image.image.array

    def artifact_mask(self, clipped, *, x0, y0):
        bbox = Box.from_shape(clipped.shape, start=(y0, x0))
        frame = TractFrame(skymap="demo", tract=1, bbox=bbox)
        assert frame.bbox == bbox
        mask = Mask(0, schema=MaskSchema([MaskPlane("CLIPPED", "Artifact.")]), bbox=bbox)
        mask.set("CLIPPED", clipped)
        return mask


class StandIns:
    """Stand-ins for ExposureF: the adapter's own decisions, without afw."""

    name = "stand-ins"

    def make(self, scene):
        bits = fake.PLANES | ({scene.unknown_plane: 11} if scene.unknown_plane else {})
        planes = {DIALECTS[name]: marked for name, marked in scene.planes.items()}
        if scene.unknown_plane:
            planes[scene.unknown_plane] = np.ones(SHAPE, bool)
        correction = scene.aperture_correction
        info = {
            "SummaryStats": fake.Afw(**scene.statistics) if scene.statistics else None,
            "ApCorrMap": None
            if correction is None
            else {"base_PsfFlux_instFlux": fake.Afw(evaluate=lambda x, y: correction)},
        }
        return fake.Exposure(
            image=np.asarray(scene.counts, np.float32),
            variance=np.asarray(scene.variance, np.float32),
            mask=fake.Mask(planes, SHAPE, bits=bits),
            x0=X0,
            y0=Y0,
            info=info,
            Psf=scene.sigma and fake.GaussianPsf(fwhm=scene.sigma * gaussian_sigma_to_fwhm),
            Wcs=fake.FlatWcs(make_wcs()),
            PhotoCalib=None if scene.calibration is None else fake.PhotoCalib(scene.scaling),
            Filter=fake.Afw(
                bandLabel="r",
                physicalLabel="HSC-R2",
                hasBandLabel=lambda: True,
                hasPhysicalLabel=lambda: True,
            ),
        )

    def adapter(self, *, revert=False, apply=False):
        return make_adapter("afw")

    def extras(self, scene, *, revert=False, apply=False):
        return InputExtras(
            background_revert=self._background(scene.background) if revert else None,
            background_apply=self._background(scene.sky_correction) if apply else None,
        )

    def _background(self, level):
        # A BackgroundList is a list, empty for no background.
        class BackgroundList(list):
            def getImage(self):
                return fake.Afw(array=np.full(SHAPE, level, np.float32))

        return BackgroundList([None])

    def pixels(self, image):
        return image.image.array

    def artifact_mask(self, clipped, *, x0, y0):
        return fake.Mask({"CLIPPED": clipped}, clipped.shape, x0=x0, y0=y0)


class Afw(StandIns):
    """ExposureF of lsst.afw itself."""

    name = "afw"

    def make(self, scene):
        import lsst.afw.detection
        import lsst.afw.geom
        import lsst.afw.image as image
        import lsst.afw.math
        import lsst.geom

        box = self._box(SHAPE, x0=X0, y0=Y0)
        wcs = lsst.afw.geom.makeSkyWcs(
            crpix=lsst.geom.Point2D(1000, 1000),
            crval=lsst.geom.SpherePoint(150, 2, lsst.geom.degrees),
            cdMatrix=lsst.afw.geom.makeCdMatrix(SCALE * lsst.geom.arcseconds),
        )
        exposure = image.ExposureF(box, wcs)
        exposure.image.array[:, :], exposure.variance.array[:, :] = scene.counts, scene.variance
        planes = {DIALECTS[name]: marked for name, marked in scene.planes.items()}
        if scene.unknown_plane:
            planes[scene.unknown_plane] = np.ones(SHAPE, bool)
        for name, marked in planes.items():
            exposure.mask.addMaskPlane(name)
            exposure.mask.array[marked] |= exposure.mask.getPlaneBitMask(name)
        if scene.sigma is not None:
            exposure.setPsf(lsst.afw.detection.GaussianPsf(31, 31, scene.sigma))
        if scene.calibration is not None:
            field = lsst.afw.math.ChebyshevBoundedField(box, np.array([scene.calibration, (0.0, 0.0)]))
            exposure.setPhotoCalib(image.PhotoCalib(field))
        exposure.setFilter(image.FilterLabel(band="r", physical="HSC-R2"))
        if scene.statistics:
            exposure.info.setSummaryStats(image.ExposureSummaryStats(**scene.statistics))
        if scene.aperture_correction is not None:
            corrections = image.ApCorrMap()
            corrections["base_PsfFlux_instFlux"] = lsst.afw.math.ChebyshevBoundedField(
                box, np.array([[scene.aperture_correction]])
            )
            exposure.info.setApCorrMap(corrections)
        return exposure

    def _box(self, shape, *, x0, y0):
        import lsst.geom

        return lsst.geom.Box2I(lsst.geom.Point2I(x0, y0), lsst.geom.Extent2I(shape[1], shape[0]))

    def artifact_mask(self, clipped, *, x0, y0):
        from lsst.afw.image import Mask

        mask = Mask(self._box(clipped.shape, x0=x0, y0=y0))
        mask.addMaskPlane("CLIPPED")
        mask.array[clipped] |= mask.getPlaneBitMask("CLIPPED")
        return mask


def make_exposure(**changes):
    """A stand-in for an ExposureF with changed parts."""
    exposure = StandIns().make(Scene())
    exposure.__dict__.update(changes)
    return exposure


def make_row(columns=None, **changes):
    """A row of a visit summary whose every part differs from those."""
    wcs = make_wcs()
    wcs.wcs.crval = [151.0, 2.0]
    correction = fake.Afw(evaluate=lambda x, y: 0.9)
    fields = {
        "Psf": fake.GaussianPsf(fwhm=7.0),
        "Wcs": fake.FlatWcs(wcs),
        "PhotoCalib": fake.PhotoCalib(2.0),
        "ApCorrMap": {"base_PsfFlux_instFlux": correction},
        "BBox": fake.Box.of(SHAPE, x0=X0, y0=Y0),
        **changes,
    }
    return fake.Record({"id": 50} | (columns or {}), **fields)


def all_libraries():
    """Return a parameter for each library; afw is skipped where it is not."""
    try:
        import lsst.afw.image  # noqa: F401

        marks = []
    except ModuleNotFoundError:
        marks = [pytest.mark.skip(reason=NEEDS_AFW)]
    return [
        pytest.param(Images(), id="images"),
        pytest.param(StandIns(), id="stand-ins"),
        pytest.param(Afw(), id="afw", marks=marks),
    ]
