# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Stand-ins with the methods of lsst.afw that the adapter calls.

They let the adapter's own decisions be tested where afw is not installed. What
they imitate was read in lsst/afw 714e0ed6d; the same tests run with afw itself
where it can be imported.
"""

from __future__ import annotations

import sys
import types

import galsim
import numpy as np

PLANES = {"BAD": 0, "SAT": 1, "INTRP": 2, "CR": 3, "EDGE": 4, "DETECTED": 5, "NO_DATA": 8, "CLIPPED": 9}
"""Mask planes with bits that are not in the order of the library's own."""

INFO = ("ApCorrMap", "SummaryStats", "CoaddInputs", "ValidPolygon")
"""What an ExposureInfo may hold; None by default."""


class Afw(types.SimpleNamespace):
    """Stand-in for an afw object: a getter for each field."""

    def __getattr__(self, name):
        field = name.removeprefix("get")
        if name.startswith("get") and field in self.__dict__:
            return lambda: self.__dict__[field]
        raise AttributeError(name)


class Interval:
    """IntervalI: ends are included in ``max``, not in ``end``."""

    def __init__(self, min, max):
        self.begin, self.end = min, max + 1


class Box:
    """Box2I."""

    def __init__(self, x, y):
        self.x, self.y = x, y

    @classmethod
    def of(cls, shape, *, x0, y0):
        return cls(x=Interval(x0, x0 + shape[1] - 1), y=Interval(y0, y0 + shape[0] - 1))


class FlatWcs:
    """A SkyWcs made of an astropy WCS; arrays must come in flat."""

    def __init__(self, wcs):
        self.wcs = wcs

    def pixelToSkyArray(self, x, y, degrees=False):
        assert degrees and x.ndim == y.ndim == 1
        return self.wcs.all_pix2world(x, y, 0)

    def skyToPixelArray(self, ra, dec, degrees=False):
        assert degrees and ra.ndim == dec.ndim == 1
        return self.wcs.all_world2pix(ra, dec, 0)


class PhotoCalib:
    """nJy per count: a number, or an array over the image."""

    def __init__(self, scale):
        self.scale = scale

    def getInstFluxAtZeroMagnitude(self):
        mean = np.mean(self.scale)
        return 3.63e12 / mean if mean else np.inf

    def calibrateImage(self, masked_image):
        image, variance = masked_image.image.array, masked_image.variance.array
        return Afw(image=Afw(array=image * self.scale), variance=Afw(array=variance * self.scale**2))


class GaussianPsf:
    """A Gaussian on a box that is not centred on the star."""

    def __init__(self, fwhm=3.5, error=None, covers=lambda x, y: True):
        self.fwhm, self.error, self.covers = fwhm, error, covers

    def computeKernelImage(self, position):
        if self.error is not None:
            raise self.error
        if not self.covers(*position):
            import lsst.pex.exceptions

            raise lsst.pex.exceptions.Exception("no input images at that point")
        stamp = galsim.Gaussian(fwhm=self.fwhm).drawImage(nx=31, ny=31, scale=1, dtype=float).array
        return Afw(array=stamp[1:, :-3] / stamp[1:, :-3].sum(), X0=-15, Y0=-14)


class Record(Afw):
    """A row of an ExposureCatalog with columns; `get` as records have it."""

    def __init__(self, columns=None, **fields):
        super().__init__(schema=set(columns or {}), columns=columns or {}, **fields)

    def __getitem__(self, name):
        return self.columns[name]

    def get(self, name):
        return self.columns[name]


class Catalog(list):
    """An ExposureCatalog; `find` looks for the id."""

    def find(self, detector):
        return next((row for row in self if row["id"] == detector), None)


class Mask(Afw):
    """A Mask with planes at given bits."""

    def __init__(self, planes, shape, *, x0=0, y0=0, bits=PLANES):
        array = np.zeros(shape, np.int32)
        for name, marked in planes.items():
            array |= np.where(marked, 1 << bits[name], 0).astype(np.int32)
        super().__init__(array=array, MaskPlaneDict=bits, X0=x0, Y0=y0)


class Exposure(Afw):
    """An ExposureF; it can be cloned and cut by a box."""

    def __init__(self, *, image, variance, mask, x0=0, y0=0, metadata=None, info=None, **fields):
        planes = {"image": Afw(array=image), "variance": Afw(array=variance), "mask": mask}
        super().__init__(
            **planes,
            maskedImage=Afw(**planes),
            X0=x0,
            Y0=y0,
            BBox=Box.of(image.shape, x0=x0, y0=y0),
            metadata=metadata or {},
            Info=Afw(**(dict.fromkeys(INFO) | (info or {}))),
            **fields,
        )

    def _parts(self, cut):
        mask = Afw(array=self.mask.array[cut].copy(), MaskPlaneDict=self.mask.getMaskPlaneDict())
        fields = {name: self.__dict__[name] for name in ("Psf", "Wcs", "PhotoCalib", "Filter")}
        return {
            "image": self.image.array[cut].copy(),
            "variance": self.variance.array[cut].copy(),
            "mask": mask,
            "metadata": self.metadata,
            "info": vars(self.getInfo()),
            **fields,
        }

    def clone(self):
        return Exposure(**self._parts(np.s_[:, :]), x0=self.getX0(), y0=self.getY0())

    def __getitem__(self, box):
        rows = slice(box.y.begin - self.getY0(), box.y.end - self.getY0())
        columns = slice(box.x.begin - self.getX0(), box.x.end - self.getX0())
        return Exposure(**self._parts((rows, columns)), x0=box.x.begin, y0=box.y.begin)


def install(monkeypatch):
    """Give what the adapter imports where the real modules are missing."""
    try:
        import lsst.geom
        import lsst.pex.exceptions  # noqa: F401
    except ModuleNotFoundError:
        import lsst.pex

        geom, exceptions = types.ModuleType("lsst.geom"), types.ModuleType("lsst.pex.exceptions")
        geom.Point2D, geom.Box2I, geom.IntervalI = lambda x, y: (x, y), Box, Interval
        exceptions.Exception = type("Exception", (Exception,), {})
        for parent, module in ((lsst, geom), (lsst.pex, exceptions)):
            monkeypatch.setattr(parent, module.__name__.rpartition(".")[2], module, raising=False)
            monkeypatch.setitem(sys.modules, module.__name__, module)
