# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

set -eu
repo=demo-tutorial/repo
patch="skymap='hsc_rings_demo' AND tract=9813 AND patch=40 AND band='i'"

acn demo $repo --size 400 --visits 8
pipetask run -b $repo -i HSC/defaults -o HSC/runs/mean -p pipelines/mean.yaml --register-dataset-types -d "$patch"
pipetask run -b $repo -i HSC/runs/mean,HSC/defaults -o u/demo/acn -p pipelines/acn.yaml \
    --register-dataset-types -c compareAcnCoadd:use_truth=True -d "$patch"
acn summary $repo --collections u/demo/acn -o demo-tutorial
acn report $repo --collections u/demo/acn -o demo-tutorial/report.html

python - $repo <<'PYTHON'
import sys

import numpy as np
import sep
from matplotlib.figure import Figure
from scipy.ndimage import grey_opening

from lsst.daf.butler import Butler

patch = {"skymap": "hsc_rings_demo", "tract": 9813, "patch": 40, "band": "i"}
with Butler.from_config(sys.argv[1], collections="u/demo/acn") as butler:
    deep = butler.get("deepCoadd", patch)
    latent = butler.get("acn_latent", patch)
    coadd = butler.get("acn_coadd", patch)
    errors = butler.get("acn_coadd_psf_flux_error", patch)
    inputs = butler.get("acn_coadd_inputs", patch)
print(inputs["visit", "detector", "psf_fwhm_arcsec", "chi2", "kept"])
print("method", coadd.metadata["method"], "on", coadd.metadata["device"])

# -- photometry
# Its PSF is narrow and its noise smooth already: no filter is needed. What a
# faint source adds to the variance says how well it is known, not whether it
# is there: the noise that it must exceed is that between sources.
no_data = coadd.mask.get("NO_DATA")
between = grey_opening(coadd.variance.array, size=9)
options = {"err": np.sqrt(between), "mask": no_data, "filter_kernel": None}
sources = sep.extract(coadd.image.array, 5.0, minarea=3, **options)
radius = 6.0  # pixels, 1"
flux, _, _ = sep.sum_circle(coadd.image.array, sources["x"], sources["y"], radius, mask=no_data)

# The error of the sky in such apertures, with the correlation of the noise.
noise = coadd.noise_realizations[0].array
x, y = np.random.default_rng(1).uniform(2 * radius, np.array(noise.shape[::-1]) - 2 * radius, (500, 2)).T
empty, _, _ = sep.sum_circle(noise, x, y, radius, mask=no_data)
error = 1.4826 * np.median(np.abs(empty - np.median(empty)))

box = coadd.bbox
corner = box.x.start, box.y.start
print(f"{len(flux)} sources; error of a flux by the sky: {error:.0f} nJy")
for i in np.argsort(-flux)[:5]:
    x, y = sources["x"][i], sources["y"][i]
    magnitude = f"{31.4 - 2.5 * np.log10(flux[i]):.2f} mag"
    # Of a flux measured with the PSF: the pixel nearest to the source has it.
    psf_error = f"error of its PSF flux {errors.array[round(y), round(x)]:.0f} nJy"
    print(f"x={x + corner[0]:.1f} y={y + corner[1]:.1f}  {flux[i]:.0f} nJy  {magnitude}  {psf_error}")

# -- picture
figure = Figure(figsize=(12, 4.5), layout="constrained")
top = 30 * np.sqrt(np.median(deep.variance.array))
extent = np.array([box.x.start, box.x.stop, box.y.start, box.y.stop]) - 0.5
planes = {"deepCoadd": deep, "acn_coadd": coadd, "acn_latent": latent}
for axes, (name, plane) in zip(figure.subplots(1, 3), planes.items(), strict=True):
    scaled = np.where(no_data, np.nan, np.arcsinh(plane.image.array / top * 10))
    axes.imshow(scaled, origin="lower", vmin=0, vmax=np.arcsinh(10), extent=extent)
    axes.set(title=name, xlabel="x (pixel)", ylabel="y (pixel)")
figure.suptitle(f"asinh stretch, 0 to {top:.0f} nJy per pixel; white: no data", fontsize=10)
figure.savefig("tutorial.png")
PYTHON
