# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""What this machine does at best, and what resampling takes on it."""

from __future__ import annotations

__all__ = ("measure_machine", "time_registration")

import time

import numpy as np
import torch

from lsst.coadd.astroclearnet.core import InputExposure, Plane
from lsst.coadd.astroclearnet.core.warp._register import WarpPlan


class _Map:
    """World coordinates of a small field, scaled and rotated."""

    def __init__(self, *, scale: float, angle: float, x: float, y: float):
        c, s = scale * np.cos(angle), scale * np.sin(angle)
        self._matrix, self._origin = np.array([[c, -s], [s, c]]), np.array([[x], [y]])

    def pixel_to_sky(self, *, x, y):
        shape = np.broadcast_shapes(np.shape(x), np.shape(y))
        points = np.array([np.broadcast_to(x, shape), np.broadcast_to(y, shape)]).reshape(2, -1)
        ra, dec = self._matrix @ (points - self._origin)
        return (150.0 + ra).reshape(shape), dec.reshape(shape)

    def sky_to_pixel(self, *, ra, dec):
        shape = np.broadcast_shapes(np.shape(ra), np.shape(dec))
        points = np.array([np.broadcast_to(ra, shape) - 150.0, np.broadcast_to(dec, shape)]).reshape(2, -1)
        x, y = np.linalg.inv(self._matrix) @ points + self._origin
        return x.reshape(shape), y.reshape(shape)


def time_registration() -> float:
    """CPU-seconds for resampling one megapixel of one exposure."""
    rng = np.random.default_rng(1)
    side, frame = 1000, 1100
    kernel = np.zeros((41, 41))
    kernel[18:23, 18:23] = 0.04
    exposure = InputExposure(
        visit=1,
        detector=1,
        physical_filter="i",
        image=rng.normal(size=(frame, frame)).astype(np.float32),
        variance=np.ones((frame, frame), np.float32),
        flags=np.where(rng.uniform(size=(frame, frame)) < 1e-3, Plane.BAD.value, 0).astype(np.uint32),
        psf=lambda *, x, y: kernel,
        wcs=_Map(scale=5e-5, angle=0.05, x=frame / 2, y=frame / 2),
    )
    patch = _Map(scale=4.7e-5, angle=0.0, x=side / 2, y=side / 2)
    start = time.process_time()
    plan = WarpPlan.make(exposure, wcs=patch, x0=0, y0=0, height=side, width=side, bad=Plane.BAD)
    warped = plan.warp()
    return (time.process_time() - start) / (warped.image.size / 1e6)


def measure_machine(pixels: int) -> dict[str, float]:
    """What one thread does at best, in images as large as a padded cell."""
    side = int(np.sqrt(pixels))
    image = torch.randn(side, side)
    spectrum = torch.fft.rfft2(image)
    layer = torch.nn.Conv2d(32, 64, 1).to(memory_format=torch.channels_last)

    def best(function, repeats: int = 30) -> float:
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            function()
            times.append(time.perf_counter() - start)
        return min(times)

    few = torch.randn(1, 32, 64, 64).contiguous(memory_format=torch.channels_last)
    large, copy = torch.randn(2**24), torch.empty(2**24)
    with torch.no_grad():
        fft = 0.5 * (
            best(lambda: torch.fft.rfft2(image)) + best(lambda: torch.fft.irfft2(spectrum, s=image.shape))
        )
        network = best(lambda: layer(few))
    return {
        "ns per pixel of one real FFT": fft / pixels * 1e9,
        "GFLOP/s of the FFT": 2.5 * np.log2(pixels) / (fft / pixels) / 1e9,
        "GFLOP/s of point-wise layers": 2 * 32 * 64 * 64**2 / network / 1e9,
        "GB/s of a copy": 2 * 4 * 2**24 / best(lambda: copy.copy_(large), 5) / 1e9,
    }
