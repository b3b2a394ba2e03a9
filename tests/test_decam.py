# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Real exposures, from plain FITS files to the coadds of the pipelines.

The data are four DECam exposures in z of a 65" field (DECaLS; cut-outs of the
tests of legacypipe) with rotated chips, frames that end inside the field,
different seeing, and cosmic rays that no mask flags.
"""

import dataclasses
import importlib.resources
import os
from pathlib import Path

import astropy.units as u
import galsim
import numpy as np
import pytest
import scipy.ndimage
import scipy.optimize
import sep
from astropy.coordinates import SkyCoord
from astropy.stats import mad_std

from lsst.coadd.astroclearnet.flux_errors import aperture_flux_error, noise_area, variance_between_sources
from lsst.coadd.astroclearnet.ingest import ingest, load_config
from lsst.daf.butler import Butler
from lsst.pipe.base.simple_pipeline_executor import SimplePipelineExecutor

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("ACN_TEST_DATA", ROOT.parent / "shared" / "data")) / "decam_field"
RESOURCES = importlib.resources.files("lsst.coadd.astroclearnet") / "resources"
PATCH = {"skymap": "decam_field", "tract": 0, "patch": 0, "band": "z"}

# Isolated stars, S/N 70 to 700; the first one moves by 0.12" over the years.
STARS = SkyCoord([186.735451, 186.736122, 186.736056], [25.464782, 25.461180, 25.457402], unit=u.deg)
GALAXY = SkyCoord(186.74930, 25.46195, unit=u.deg)
MARGIN = 6  # pixels that resampling loses at the end of a frame, at most
BLANK = np.s_[240:300, 170:280]

pytestmark = pytest.mark.skipif(
    not DATA.is_dir(),
    reason=f"The DECam exposures are not at {DATA}; set ACN_TEST_DATA to the directory of decam_field.",
)


@dataclasses.dataclass
class Result:
    """What the pipelines wrote, and what they read."""

    mean: object
    coadd: object
    latent: object
    psf_flux_error: dict
    n_image: np.ndarray
    inputs: object
    calexps: dict

    @property
    def all(self):
        return {"mean": self.mean, "coadd": self.coadd, "latent": self.latent}


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    repo = tmp_path_factory.mktemp("decam") / "repo"
    config = load_config(Path(str(RESOURCES / "ingest" / "decam_field.yaml")), data_root=DATA)
    in_z = tuple(exposure for exposure in config.exposures if exposure.band == "z")
    ingest(config.model_copy(update={"exposures": in_z}), repo)
    inputs = ["DECam/defaults"]
    for name in ("mean", "acn"):
        butler = SimplePipelineExecutor.prep_butler(str(repo), inputs=inputs, output=f"u/test/{name}")
        pipeline = str(RESOURCES / "pipelines" / f"{name}.yaml")
        where = "skymap='decam_field' AND tract=0 AND patch=0 AND band='z'"
        executor = SimplePipelineExecutor.from_pipeline_filename(pipeline, where=where, butler=butler)
        executor.run(register_dataset_types=True)
        inputs.insert(0, f"u/test/{name}")
    butler = Butler.from_config(str(repo), collections=inputs)
    refs = butler.query_datasets("calexp", where="instrument='DECam'")
    return Result(
        mean=butler.get("deepCoadd", PATCH),
        coadd=butler.get("acn_coadd", PATCH),
        latent=butler.get("acn_latent", PATCH),
        psf_flux_error={
            name: butler.get(f"{dataset}_psf_flux_error", PATCH).array
            for name, dataset in (("mean", "deepCoadd"), ("coadd", "acn_coadd"))
        },
        n_image=butler.get("acn_coadd_n_image", PATCH).array,
        inputs=butler.get("acn_coadd_inputs", PATCH),
        calexps={ref.dataId["visit"]: butler.get(ref) for ref in refs},
    )


def locate(image, sky):
    """Return the array position of a place on the sky; xy0 is 0 here."""
    assert (image.bbox.x.start, image.bbox.y.start) == (0, 0)
    pixel = image.sky_projection.sky_to_pixel(sky)
    return float(pixel.x), float(pixel.y)


def moments(image, sky):
    """Return FWHM in px, ellipticity and position of a star."""
    x, y = (round(value) for value in locate(image, sky))
    stamp = galsim.Image(image.image.array[y - 12 : y + 13, x - 12 : x + 13].copy(), xmin=x - 12, ymin=y - 12)
    found = stamp.FindAdaptiveMom()
    center = found.moments_centroid
    return 2.3548 * found.moments_sigma, abs(found.observed_shape.e), (center.x, center.y)


def sum_aperture(image, place, radius):
    y, x = np.indices(image.shape)
    return image[np.hypot(x - place[0], y - place[1]) < radius].sum(dtype=float)


def fit_psf_flux(calexp, sky):
    """Fit PSF and sky level to a star on the pixels of one exposure.

    The position is free, because stars move. An error of 2 % of the PSF
    keeps the core of bright stars from deciding alone.
    """
    x, y = locate(calexp, sky)
    kernel = calexp.psf.compute_kernel_image(x=x, y=y).array.astype(float)
    half, r = kernel.shape[0] // 2, 12
    x0, y0 = round(x), round(y)
    box = np.s_[y0 - r : y0 + r + 1, x0 - r : x0 + r + 1]
    data, variance = calexp.image.array[box].astype(float), calexp.variance.array[box]
    good = np.isfinite(variance) & ~calexp.mask.get("COSMIC_RAY")[box] & ~calexp.mask.get("BAD")[box]
    sigma = np.sqrt(variance[good] + (0.02 * data[good]) ** 2)

    def solve(offset):
        moved = scipy.ndimage.shift(kernel, offset, order=5)[half - r : half + r + 1, half - r : half + r + 1]
        design = np.stack([moved[good], np.ones(good.sum())], axis=1) / sigma[:, np.newaxis]
        solution, *_ = np.linalg.lstsq(design, data[good] / sigma)
        return ((data[good] / sigma - design @ solution) ** 2).sum(), solution[0]

    start = (y - y0, x - x0)
    best = scipy.optimize.minimize(lambda offset: solve(offset)[0], start, method="Nelder-Mead")
    return solve(best.x)[1]


@pytest.mark.parametrize("star", range(len(STARS)))
def test_stars_are_round_and_sharp(result, star):
    mean_fwhm, mean_e, mean_center = moments(result.mean, STARS[star])
    assert 4 < mean_fwhm < 5.5 and mean_e > 0.06  # what the telescope gave
    for name in ("latent", "coadd"):
        fwhm, e, center = moments(result.all[name], STARS[star])
        assert fwhm == pytest.approx(2.5, abs=0.15), name
        assert fwhm < 0.65 * mean_fwhm, name
        assert e < 0.05 and e < 0.75 * mean_e, name
        assert np.hypot(center[0] - mean_center[0], center[1] - mean_center[1]) < 0.15, name


@pytest.mark.parametrize("star", range(len(STARS)))
def test_stars_keep_their_flux(result, star):
    """Flux as by PSF photometry on the exposures' own pixels."""
    fluxes, weights = [], []
    for visit, calexp in result.calexps.items():
        fluxes.append(fit_psf_flux(calexp, STARS[star]))
        weights.append(result.inputs["weight"][result.inputs["visit"] == visit][0])
    expected = np.average(fluxes, weights=weights)
    scatter = np.std(fluxes) / expected  # the third star varies by 6 %
    for name in ("latent", "coadd"):
        image = result.all[name]
        flux = sum_aperture(image.image.array, moments(image, STARS[star])[2], 5)
        assert flux == pytest.approx(expected, rel=0.035 + 0.5 * scatter), name


def test_galaxy_keeps_its_flux(result):
    place = locate(result.mean, GALAXY)
    expected = sum_aperture(result.mean.image.array, place, 18)
    noise = np.sqrt(sum_aperture(result.mean.variance.array, place, 18))
    for name in ("latent", "coadd"):
        flux = sum_aperture(result.all[name].image.array, place, 16)
        assert abs(flux - expected) < 4 * noise + 0.04 * expected, name


def test_the_declared_psf_is_that_of_the_stars(result):
    for image in (result.mean, result.coadd, result.latent):
        x, y = locate(image, STARS[1])
        kernel = image.psf.compute_kernel_image(x=x, y=y).array
        assert kernel.sum() == pytest.approx(1, abs=1e-3)
        declared = 2.3548 * galsim.Image(kernel.astype(np.float32)).FindAdaptiveMom().moments_sigma
        assert moments(image, STARS[1])[0] == pytest.approx(declared, rel=0.05)


def test_sky_is_quiet_and_errors_are_true(result):
    rms = {name: mad_std(image.image.array[BLANK]) for name, image in result.all.items()}
    sigma = {name: np.sqrt(np.median(image.variance.array[BLANK])) for name, image in result.all.items()}
    assert rms["latent"] < 0.1 * rms["mean"]
    for name in ("mean", "coadd"):
        assert rms[name] == pytest.approx(sigma[name], rel=0.2), name
        assert abs(np.median(result.all[name].image.array[BLANK])) < 0.2 * sigma[name], name


@pytest.fixture(scope="module")
def dark(result):
    """Places where the latent is dark: faint sources scatter fluxes, too."""
    dark = scipy.ndimage.gaussian_filter(result.latent.image.array, 6) < 1
    dark &= scipy.ndimage.binary_erosion(result.n_image >= 3, iterations=20)
    assert dark.sum() > 10000
    return dark


@pytest.mark.parametrize("name", ["mean", "coadd"])
def test_errors_of_psf_fluxes_are_true_on_the_sky(result, dark, name):
    image = result.all[name]
    middle = {
        axis: (interval.start + interval.stop) // 2
        for axis, interval in (("x", image.bbox.x), ("y", image.bbox.y))
    }
    kernel = image.psf.compute_kernel_image(**middle).array
    fluxes = scipy.ndimage.correlate(image.image.array.astype(float), kernel) / np.sum(kernel**2)
    assert mad_std((fluxes / result.psf_flux_error[name])[dark]) == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize("name", ["mean", "coadd"])
@pytest.mark.parametrize("radius", [3.0, 5.0])
def test_errors_of_aperture_fluxes_are_true_on_the_sky(result, dark, name, radius):
    """Those of independent pixels are not in the sharp coadd."""
    image, good = result.all[name], ~result.all[name].mask.get("NO_DATA")
    y, x = np.nonzero(dark)

    def add(plane):
        return sep.sum_circle(np.where(good, plane.array, 0).astype(float), x, y, radius, subpix=0)[0]

    fluxes, independent = add(image.image), np.sqrt(add(image.variance))
    error = aperture_flux_error(
        independent,
        radius=radius,
        sky_variance=variance_between_sources(image.variance.array, good)[dark],
        area=noise_area(image.metadata, np.sqrt(np.pi) * radius),
    )
    assert mad_std(fluxes / error) == pytest.approx(1, abs=0.25)
    assert name == "mean" or mad_std(fluxes / independent) > 1.8


def test_no_hole_or_step_where_a_frame_ends(result):
    frames = {visit: covered_part(result, visit) for visit in result.calexps}
    covered = np.any(list(frames.values()), axis=0)
    assert len(np.unique(np.sum(list(frames.values()), axis=0)[covered])) >= 3  # frames end inside
    assert (result.n_image[covered] > 0).all()
    end = int(np.median(np.argmax(frames[640615][85:180], axis=1))) - MARGIN
    for name, image in result.all.items():
        array = image.image.array
        assert np.isfinite(array).all()
        assert not image.mask.get("NO_DATA")[covered].any(), name
        left, right = array[85:180, end - 14 : end - 2], array[85:180, end + 2 : end + 14]
        sigma = np.sqrt(np.median(image.variance.array[85:180, end - 14 : end + 14]))
        # Pixels within a PSF of each other are correlated: 12 are as one.
        assert abs(np.median(left) - np.median(right)) < 4 * sigma * np.sqrt(2 * 12 / left.size), name


def covered_part(result, visit):
    """Return which pixels of the patch lie well inside a frame."""
    calexp = result.calexps[visit]
    y, x = np.indices(result.n_image.shape)
    sky = result.mean.sky_projection.pixel_to_sky(x=x.ravel().astype(float), y=y.ravel().astype(float))
    pixel = calexp.sky_projection.sky_to_pixel(sky)
    height, width = calexp.bbox.shape
    inside = (pixel.x > MARGIN) & (pixel.x < width - 1 - MARGIN)
    inside &= (pixel.y > MARGIN) & (pixel.y < height - 1 - MARGIN)
    return inside.reshape(y.shape)


# Pixels of the exposure that a cosmic ray hit and no mask flags, and those of
# the track of another one that is flagged in half.
UNFLAGGED = (720558, 208, 218, 26, 38)
HALF_FLAGGED = 630780


def test_unflagged_cosmic_ray_is_gone(result):
    visit, x0, x1, y0, y1 = UNFLAGGED
    calexp = result.calexps[visit]
    box = np.s_[y0:y1, x0:x1]
    significance = calexp.image.array[box] / np.sqrt(calexp.variance.array[box])
    assert significance.max() > 30 and not calexp.mask.get("COSMIC_RAY")[box].any()  # it is there
    hit = np.argwhere(significance > 10) + (y0, x0)
    assert_nothing_left(result, calexp, hit)
    row = result.inputs[result.inputs["visit"] == visit][0]
    assert len(hit) <= row["n_rejected"] < 200


def test_half_flagged_cosmic_ray_is_gone(result):
    calexp = result.calexps[HALF_FLAGGED]
    hit = np.argwhere(calexp.mask.get("COSMIC_RAY"))
    assert len(hit) > 100
    near = scipy.ndimage.binary_dilation(calexp.mask.get("COSMIC_RAY"), iterations=4)
    assert_nothing_left(result, calexp, np.argwhere(near))


def assert_nothing_left(result, calexp, pixels):
    """Assert that pixels (y, x) of an exposure show no excess in results."""
    sky = calexp.sky_projection.pixel_to_sky(x=pixels[:, 1].astype(float), y=pixels[:, 0].astype(float))
    place = result.mean.sky_projection.sky_to_pixel(sky)
    at = np.round(place.y).astype(int), np.round(place.x).astype(int)
    for name in ("mean", "coadd"):
        image = result.all[name]
        significance = image.image.array[at] / np.sqrt(image.variance.array[at])
        assert significance.max() < 4.5, name
        assert abs(significance.mean()) < 1.0, name
    sigma = np.sqrt(np.median(result.coadd.variance.array[at]))
    assert result.latent.image.array[at].max() < sigma
