# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""The figures of a comparison, on coadds made with known answers."""

import dataclasses

import galsim
import numpy as np
import pytest
import scipy.ndimage

from lsst.coadd.astroclearnet._coadds import CoaddView, sample_gaussian
from lsst.coadd.astroclearnet.cli._summary import format_metrics
from lsst.coadd.astroclearnet.comparison._detect import detect_sources, is_restored, point_source_error
from lsst.coadd.astroclearnet.comparison._metrics import compare_views
from lsst.coadd.astroclearnet.comparison._photometry import adaptive_fwhm, homogenize
from lsst.coadd.astroclearnet.comparison._truth import Truth
from lsst.coadd.astroclearnet.core.patch._correlation import measure_noise_correlation

SIZE, SCALE, SKY_RMS = 360, 0.168, 1.0
X0, Y0 = 1000, 2000


def draw_view(name, psf, *, seed=None, flux_scale=1.0, rms=SKY_RMS):
    """Draw 64 isolated sources, every second one a star, with a PSF.

    Fluxes rise from row to row (S/N of about 10 to 1000); the pixel centres
    are those of a patch with its origin away from 0.
    """
    image = galsim.ImageF(SIZE, SIZE, scale=1.0)
    x, y, is_star = [], [], []
    rng = np.random.default_rng(5)
    for row in range(8):
        for column in range(8):
            flux = 40.0 * 2.0**row * flux_scale
            dx, dy = rng.uniform(-0.5, 0.5, 2)
            px, py = 24 + 44 * column + dx, 24 + 44 * row + dy
            star = (row + column) % 2 == 0
            profile = psf if star else galsim.Convolve(psf, galsim.Exponential(half_light_radius=2.0))
            profile.withFlux(flux).drawImage(
                image, center=galsim.PositionD(px + 1, py + 1), add_to_image=True, method="no_pixel"
            )
            x.append(px + X0)
            y.append(py + Y0)
            is_star.append(star)
    array = image.array.copy()
    if seed is not None:
        array += np.random.default_rng(seed).normal(0, rms, array.shape).astype(np.float32)
    kernel = psf.drawImage(nx=41, ny=41, scale=1.0, method="no_pixel", dtype=float).array
    kernel = kernel / kernel.sum()
    nothing = np.zeros(array.shape, dtype=bool)
    view = CoaddView(
        name=name,
        image=array,
        variance=np.full(array.shape, rms**2, dtype=np.float32),
        bad=nothing,
        saturated=nothing,
        x0=X0,
        y0=Y0,
        pixel_scale=SCALE,
        psf=lambda *, x, y: kernel,
    )
    return view, (np.array(x), np.array(y), np.array(is_star))


def gaussian(fwhm):
    return galsim.Gaussian(fwhm=fwhm)


@pytest.fixture(scope="module")
def scene():
    reference, (x, y, is_star) = draw_view("deepCoadd", galsim.Moffat(beta=3.0, fwhm=4.2), seed=1)
    coadd, _ = draw_view("acn_coadd", gaussian(2.5), seed=2, rms=1.2)
    noiseless, _ = draw_view("truth", gaussian(2.5))
    return reference, coadd, Truth(x=x, y=y, is_star=is_star, view=noiseless)


def pick(comparison, name, plane):
    rows = comparison.metrics[(comparison.metrics["name"] == name) & (comparison.metrics["plane"] == plane)]
    assert len(rows) == 1, f"{name} of {plane}: {len(rows)} rows"
    return rows[0]


def test_star_widths_are_those_drawn(scene):
    reference, coadd, _ = scene
    result = compare_views([reference, coadd])
    assert np.sum(result.stars) >= 15
    row = pick(result, "star_fwhm", "acn_coadd")
    assert row["value"] == pytest.approx(2.5 * SCALE, rel=0.01)
    assert row["unit"] == "arcsec"
    for plane in ("deepCoadd", "acn_coadd"):
        assert pick(result, "star_over_psf_fwhm", plane)["value"] == pytest.approx(1.0, abs=0.01)


def test_wrong_psf_is_seen(scene):
    reference, coadd, _ = scene
    broad = sample_gaussian(2.75, 41)
    wrong = dataclasses.replace(coadd, psf=lambda *, x, y: broad)
    row = pick(compare_views([reference, wrong]), "star_over_psf_fwhm", "acn_coadd")
    assert row["value"] == pytest.approx(2.5 / 2.75, abs=0.01)


def test_flux_ratio_is_one_whatever_the_psf(scene):
    reference, coadd, _ = scene
    result = compare_views([reference, coadd])
    row = pick(result, "flux_ratio_snr_100", "acn_coadd")
    assert row["value"] == pytest.approx(1.0, abs=0.005)
    assert 0 < row["error"] < 0.005


def test_lost_flux_is_seen(scene):
    reference, _, truth = scene
    faint, _ = draw_view("acn_coadd", gaussian(2.5), seed=2, flux_scale=0.9)
    result = compare_views([reference, faint], truth=truth)
    for name in ("star_flux_bias_snr_100", "galaxy_flux_bias_snr_100"):
        assert pick(result, name, "acn_coadd")["value"] == pytest.approx(-0.1, abs=0.01)
        assert pick(result, name, "deepCoadd")["value"] == pytest.approx(0.0, abs=0.01)
    assert pick(result, "flux_ratio_snr_20_100", "acn_coadd")["value"] == pytest.approx(0.9, abs=0.05)


def test_sky(scene):
    reference, coadd, _ = scene
    shifted = dataclasses.replace(coadd, image=coadd.image + 0.1, variance=coadd.variance * 4)
    result = compare_views([reference, shifted])
    assert pick(result, "sky_rms", "deepCoadd")["value"] == pytest.approx(SKY_RMS, rel=0.03)
    assert pick(result, "sky_rms", "acn_coadd")["value"] == pytest.approx(1.2, rel=0.03)
    assert pick(result, "sky_mean", "acn_coadd")["value"] == pytest.approx(0.1, abs=0.05)
    assert pick(result, "sky_pull", "acn_coadd")["value"] == pytest.approx(0.5, rel=0.03)


def test_errors_of_apertures_on_the_sky(scene):
    """With the correlation of the noise, where it is told, they are true."""
    reference, coadd, _ = scene
    row = pick(compare_views([reference, coadd]), "sky_aperture_pull", "deepCoadd")
    assert row["value"] == pytest.approx(1, abs=0.25)
    rng = np.random.default_rng(3)
    noise = scipy.ndimage.gaussian_filter(rng.standard_normal((2, SIZE, SIZE)), (0, 1.2, 1.2))
    noise *= 1.2 / noise.std()
    sky = draw_view("acn_coadd", gaussian(2.5))[0].image
    found = measure_noise_correlation(noise[1], coadd.variance, ~coadd.bad)
    smooth = dataclasses.replace(coadd, image=(sky + noise[0]).astype(np.float32))
    told = dataclasses.replace(
        smooth, noise_area={f"noise_area_{side}": found.area(side) for side in (5, 10, 20)}
    )
    for view, expected in ((smooth, 3.5), (told, 1.0)):
        row = pick(compare_views([reference, view]), "sky_aperture_pull", "acn_coadd")
        assert row["value"] == pytest.approx(expected, rel=0.25)
        assert row["n"] > 50 and row["error"] == pytest.approx(row["value"] / np.sqrt(2 * row["n"]))
    restored = dataclasses.replace(coadd, image=np.maximum(coadd.image, 0))
    row = pick(compare_views([reference, restored]), "sky_aperture_pull", "acn_coadd")
    assert np.isnan(row["value"])


def test_saturated_and_missing_pixels_are_not_measured(scene):
    reference, coadd, truth = scene
    saturated = coadd.saturated.copy()
    saturated[300:, :] = True
    bad = coadd.bad.copy()
    bad[:, 300:] = True
    image = np.where(saturated, 1e4, coadd.image)
    result = compare_views(
        [reference, dataclasses.replace(coadd, image=image, saturated=saturated, bad=bad)], truth=truth
    )
    assert pick(result, "star_flux_bias_snr_100", "acn_coadd")["value"] == pytest.approx(0.0, abs=0.01)
    hidden = (truth.y - Y0 > 295) | (truth.x - X0 > 295)
    assert np.all(np.isnan(result.fluxes["acn_coadd"][hidden]))
    clear = (truth.y - Y0 < 270) & (truth.x - X0 < 270)
    assert np.all(np.isfinite(result.fluxes["acn_coadd"][clear]))


def test_cell_without_psf_is_not_measured(scene):
    reference, coadd, truth = scene

    def holed(*, x, y):
        return None if x < X0 + 180 and y < Y0 + 180 else coadd.psf(x=x, y=y)

    result = compare_views([reference, dataclasses.replace(coadd, psf=holed)], truth=truth)
    in_hole = (truth.x < X0 + 180) & (truth.y < Y0 + 180)
    assert np.all(np.isnan(result.fluxes["acn_coadd"][in_hole]))
    assert pick(result, "flux_ratio_snr_100", "acn_coadd")["n"] > 10


def test_blank_sky_gives_no_figures_but_a_table(scene):
    reference, coadd, _ = scene
    rng = np.random.default_rng(3)
    blank = [
        dataclasses.replace(view, image=rng.normal(0, 1, view.image.shape).astype(np.float32))
        for view in (reference, coadd)
    ]
    result = compare_views(blank)
    row = pick(result, "star_fwhm", "acn_coadd")
    assert row["n"] == 0 and np.isnan(row["value"])
    assert pick(result, "sky_rms", "deepCoadd")["value"] == pytest.approx(1.0, rel=0.03)


def test_planes_of_different_size_are_refused(scene):
    reference, coadd, _ = scene
    part = coadd.cutout((X0, Y0, 200, 100))
    with pytest.raises(ValueError, match="acn_coadd covers .*200, 100.*deepCoadd covers"):
        compare_views([reference, part])


def test_homogenized_stars_have_the_common_width(scene):
    reference, _, _ = scene
    smooth = homogenize(reference, fwhm=5.0, step=120)
    y, x = 24 + 44 * 7, 24 + 44
    stamp = smooth[y - 12 : y + 13, x - 12 : x + 13]
    assert adaptive_fwhm(stamp) == pytest.approx(5.0, rel=0.02)


def test_detection_finds_the_bright_sources(scene):
    reference, _, truth = scene
    found = detect_sources(reference, threshold=5.0)
    bright = truth.y > Y0 + 24 + 44 * 2.5
    distance = np.hypot(
        found.x[:, None] - truth.x[None, bright], found.y[:, None] - truth.y[None, bright]
    ).min(axis=0)
    assert np.all(distance < 1.0)
    assert len(found.x) < 80


def test_detection_does_not_depend_on_how_much_is_there():
    """Sources of S/N 8 alone, and between 112 bright ones."""
    view, _ = draw_view("a", gaussian(3.0), seed=1)
    kernel = sample_gaussian(3.0, 31)
    noise = np.random.default_rng(8).normal(0, 1, view.image.shape)
    faint, bright, places = np.zeros(noise.shape), np.zeros(noise.shape), []
    for y in range(20, 350, 30):
        for x in range(20, 350, 30):
            is_faint = (x - 20) % 120 == (y - 20) % 120 == 60
            image, flux = (faint, 8 / np.sqrt(np.sum(kernel**2))) if is_faint else (bright, 3000)
            image[y - 15 : y + 16, x - 15 : x + 16] += flux * kernel
            places += [(x + X0, y + Y0)] if is_faint else []
    for image in (noise + faint, noise + faint + bright):
        view = dataclasses.replace(view, image=image.astype(np.float32))
        sources = detect_sources(view, threshold=5.0)
        distance = [np.min(np.hypot(sources.x - x, sources.y - y)) for x, y in places]
        assert len(places) == 9 and np.sum(np.array(distance) < 2.5) >= 8


def test_detection_asks_for_the_noise_where_no_source_is():
    """The variance of a sharp coadd is higher on a faint source: it is found
    all the same, and what coverage does to the noise stays.
    """
    view, _ = draw_view("a", gaussian(2.5), seed=1)
    kernel = sample_gaussian(2.5, 31)
    noise = np.random.default_rng(8).normal(0, 1, view.image.shape)
    variance, light = np.ones(noise.shape), np.zeros(noise.shape)
    noise[:, 175:], variance[:, 175:] = 4 * noise[:, 175:], 16.0
    for y in range(20, 350, 30):
        for x in range(20, 350, 30):
            stamp = np.s_[y - 15 : y + 16, x - 15 : x + 16]
            light[stamp] += 8 / np.sqrt(np.sum(kernel**2)) * kernel
            variance[stamp] += 6 * kernel / kernel.max()
    view = dataclasses.replace(view, image=(noise + light).astype(np.float32), variance=variance)
    sources = detect_sources(view, threshold=5.0)
    assert 48 <= np.sum(sources.x - X0 < 160) <= 55
    assert np.sum(sources.x - X0 > 190) <= 2


@pytest.mark.parametrize("angle", [0.0, 0.2, 0.6, 1.4])
def test_narrow_strip_of_few_exposures_is_as_noisy_as_it_is(angle):
    """Such as a masked column of the others."""
    view, _ = draw_view("a", gaussian(2.5), seed=1)
    rng = np.random.default_rng(3)
    y, x = np.indices(view.image.shape)
    strip = np.abs((x - 170) * np.cos(angle) + (y - 170) * np.sin(angle)) < 2.5
    sigma = np.where(strip, 4.0, 1.0)
    noisy = dataclasses.replace(view, image=rng.normal(0, sigma).astype(np.float32), variance=sigma**2)
    assert len(detect_sources(noisy, threshold=5.0).x) <= 1


def test_restored_plane_is_searched_to_the_depth_of_the_planes_beside_it():
    """Bumps far below the noise of the coadd are no sources of the latent."""
    view, _ = draw_view("a", gaussian(3.0), seed=1)
    kernel = sample_gaussian(3.0, 31)
    noise = np.random.default_rng(9).normal(0, 1, view.image.shape)
    bumps = np.zeros(noise.shape)
    for y in range(20, 350, 30):
        for x in range(20, 350, 30):
            flux = (30 if x == y else 0.5) / np.sqrt(np.sum(kernel**2))
            half = kernel.shape[0] // 2
            bumps[y - half : y + half + 1, x - half : x + half + 1] += flux * kernel
    coadd = dataclasses.replace(
        view, image=(noise + bumps).astype(np.float32), variance=np.ones_like(view.image)
    )
    latent = dataclasses.replace(
        view, image=bumps.astype(np.float32), variance=np.full_like(view.image, 1e-4)
    )
    assert is_restored(latent) and not is_restored(coadd)
    assert point_source_error([latent]) == 0.0
    error = point_source_error([coadd, latent])
    assert error == pytest.approx(1 / np.sqrt(np.sum(kernel**2)), rel=0.05)
    assert len(detect_sources(latent, threshold=5.0).x) == 121
    assert len(detect_sources(latent, threshold=5.0, least_error=error).x) == 11


def test_restored_sky_has_no_depth(scene):
    """How little an empty sky scatters says nothing about faint sources."""
    reference, coadd, _ = scene
    latent = dataclasses.replace(coadd, name="acn_latent", image=(coadd.image - 4).clip(0))
    assert is_restored(latent)
    result = compare_views([reference, latent])
    for name in ("point_source_depth", "sky_aperture_rms"):
        row = pick(result, name, "acn_latent")
        assert np.isnan(row["value"]) and np.isnan(row["error"])
        assert np.isfinite(pick(result, name, "deepCoadd")["value"])
    assert np.isfinite(pick(result, "sky_rms", "acn_latent")["value"])
    line = next(line for line in format_metrics(result.metrics).splitlines() if line.startswith("point_so"))
    assert line.split()[-2:] == ["-", "mag"]


def test_dust_of_a_restored_sky_is_no_source():
    """Its sky spans many powers of ten below its errors: no clipping ends."""
    view, (x, y, _) = draw_view("a", gaussian(3.0), seed=None)
    image = np.tile(view.image.clip(0), (2, 2))
    image += (10.0 ** np.random.default_rng(3).uniform(-12, -3, image.shape)).astype(np.float32)
    latent = dataclasses.replace(
        view,
        image=image,
        variance=np.full_like(image, 1e-2),
        bad=np.zeros(image.shape, dtype=bool),
        saturated=np.zeros(image.shape, dtype=bool),
    )
    sources = detect_sources(latent, threshold=5.0)
    assert len(sources.x) == 4 * len(x)
    assert sources.sky.mean() > 0.5
