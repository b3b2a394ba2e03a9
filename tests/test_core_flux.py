# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later
"""A latent gets the fluxes of the data, and reaches its target PSF."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lsst.coadd.astroclearnet.core.encoder._flux import match_flux, quieten
from lsst.coadd.astroclearnet.core.encoder._inputs import LATENT_FWHM
from lsst.coadd.astroclearnet.core.fourier._deliver import deliver
from lsst.coadd.astroclearnet.core.fourier._filters import filtered_variance, widening
from lsst.coadd.astroclearnet.core.fourier._grid import FWHM_TO_SIGMA, FourierGrid

GRID = FourierGrid(height=128, width=128, shape=(128, 128))
SEEING = 4.0


def star(*, x, y, fwhm, flux=1.0):
    """Return a Gaussian star on the grid."""
    rows, columns = np.mgrid[:128, :128]
    sigma = fwhm * FWHM_TO_SIGMA
    profile = np.exp(-0.5 * ((rows - y) ** 2 + (columns - x) ** 2) / sigma**2)
    return torch.as_tensor(flux * profile / profile.sum(), dtype=torch.float32)


def statistic(latent, *, sky=0.0):
    """Return data, den and inflation of ten exposures of a sky without
    noise, each with a noise of 1.
    """
    den = 10.0 * GRID.gaussian(SEEING) ** 2
    data = den * GRID.transform(latent) / GRID.gaussian(LATENT_FWHM)
    data[0, 0] += 10.0 * sky * GRID.size
    return {"data": data, "den": den, "inflation": torch.ones(GRID.shape), "grid": GRID}


@pytest.mark.parametrize("sky", [0.0, 0.1, -0.1])
@pytest.mark.parametrize("error", [0.9, 1.1])
def test_bright_source_gets_the_flux_of_the_data_whatever_the_sky(error, sky):
    true = star(x=60.3, y=64.6, fwhm=LATENT_FWHM, flux=2000.0)
    matched = match_flux(error * true, **statistic(true, sky=sky))
    assert float(matched.sum()) == pytest.approx(2000.0, rel=0.005)
    # The profile is as before.
    assert float((matched / matched.sum() - true / true.sum()).abs().max()) < 0.002


def test_source_like_the_noise_keeps_its_flux():
    true = star(x=60.3, y=64.6, fwhm=LATENT_FWHM, flux=4.0)
    matched = match_flux(0.9 * true, **statistic(true))
    # But for what the level of the sky adds.
    assert float(matched.sum()) == pytest.approx(3.6, rel=0.07)


def test_what_lies_beyond_the_exposures_is_no_sky():
    """Light that the encoder invents in the padding changes no flux."""
    grid = FourierGrid(height=104, width=104, shape=(128, 128))
    true = star(x=52.3, y=50.6, fwhm=LATENT_FWHM, flux=30.0)
    stack = statistic(true) | {"grid": grid}
    noise = torch.randn(grid.shape, generator=torch.Generator().manual_seed(3))
    stack["data"] = stack["data"] + grid.transform(noise) * stack["den"].sqrt()
    invented = torch.zeros(grid.shape)
    invented[112:120, :], invented[:, 112:120] = 0.2, 0.2
    plain, other = (match_flux(0.95 * true + light, **stack)[20:84, 20:84] for light in (0.0, invented))
    assert float(other.sum()) == pytest.approx(float(plain.sum()), rel=0.002)


@pytest.mark.parametrize(("flux", "kept"), [(2000.0, 1.0), (40.0, 0.98), (0.5, 0.05)])
def test_what_is_like_the_noise_is_left_out(flux, kept):
    """S/N of a thousand, of twenty and of a quarter."""
    latent = star(x=60.3, y=64.6, fwhm=LATENT_FWHM, flux=flux)
    stack = statistic(latent)
    del stack["data"]
    left, share = quieten(latent, **stack)
    torch.testing.assert_close(left, latent * share)
    assert float(left.sum()) == pytest.approx(kept * flux, abs=0.02 * flux + 0.02)


def test_batch_is_worked_like_its_members():
    latents = [star(x=60.3, y=64.6, fwhm=LATENT_FWHM, flux=flux) for flux in (2000.0, 300.0)]
    stacks = [statistic(latent, sky=0.1) for latent in latents]
    both = {name: torch.stack([stack[name] for stack in stacks]) for name in ("data", "den", "inflation")}
    matched = match_flux(0.9 * torch.stack(latents), **both, grid=GRID)
    for one, latent, stack in zip(matched, latents, stacks, strict=True):
        torch.testing.assert_close(one, match_flux(0.9 * latent, **stack), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("fwhm", "tolerance"), [(2.0, 0.03), (2.5, 0.018), (4.0, 0.005)])
def test_delivered_star_has_the_target_psf_and_no_ripples(fwhm, tolerance):
    for x, y in ((60.0, 64.0), (60.5, 64.5), (60.3, 64.1)):
        latent = star(x=x, y=y, fwhm=LATENT_FWHM)
        stack = statistic(latent)
        del stack["inflation"]
        delivered = deliver(latent, **stack, latent_fwhm=LATENT_FWHM, fwhm=fwhm)
        wanted = star(x=x, y=y, fwhm=fwhm)
        for image in (delivered.latent, delivered.coadd):
            assert float((image - wanted).abs().max() / wanted.max()) < tolerance
            # Ripples of a narrow kernel are cut off in the latent.
            most = 5e-3 if image is delivered.latent and fwhm < 2.2 else 2e-3
            assert float(image.sum()) == pytest.approx(1.0, abs=most)
        far = np.hypot(np.arange(128)[:, None] - y, np.arange(128) - x) > 3.0 * fwhm
        assert float(delivered.latent[torch.as_tensor(far)].abs().max() / wanted.max()) < 1e-4


def test_what_the_latent_lacks_is_in_the_coadd():
    true = star(x=60.3, y=64.6, fwhm=LATENT_FWHM, flux=1.0)
    stack = statistic(true)
    del stack["inflation"]
    delivered = deliver(0.7 * true, **stack, latent_fwhm=LATENT_FWHM, fwhm=2.5)
    assert float(delivered.latent.sum()) == pytest.approx(0.7, abs=1e-3)
    assert float(delivered.coadd.sum()) == pytest.approx(1.0, abs=2e-3)


def test_widening_to_the_same_psf_changes_nothing():
    transfer = widening(GRID, from_fwhm=1.5, to_fwhm=1.5)
    torch.testing.assert_close(transfer, torch.ones_like(transfer), rtol=1e-4, atol=1e-4)


def test_variance_of_filtered_noise_is_its_scatter():
    """Uneven noise through a filter, drawn many times."""
    generator = torch.Generator().manual_seed(4)
    power = torch.ones(GRID.shape)
    power[:, 64:] = 9.0
    transfer = GRID.gaussian(3.0)
    drawn = torch.randn(400, *GRID.shape, generator=generator) * power.sqrt()
    scatter = GRID.inverse(GRID.transform(drawn) * transfer).var(0)
    ratio = scatter / filtered_variance(power, transfer, GRID)
    assert float(ratio.mean()) == pytest.approx(1.0, abs=0.01)
    for columns in (np.s_[10:54], np.s_[60:68], np.s_[74:118]):
        assert float(ratio[:, columns].mean()) == pytest.approx(1.0, abs=0.02)
