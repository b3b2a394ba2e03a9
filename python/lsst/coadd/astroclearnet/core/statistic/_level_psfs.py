# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Exposures as they would be if their PSFs did not change over a cell."""

from __future__ import annotations

__all__ = ("PsfLeveller",)

import torch

from .._batches import parts
from .._stack import PsfGradient
from ..fourier._grid import FourierGrid

_STRENGTH = 1e-4
"""Noise of the Wiener filter that the sky passes, relative to the largest
power: what PSFs hardly pass, their changes do not show either, and where they
change by a tenth and more it would grow from one time to the next."""


class PsfLeveller:
    """Takes off exposures what their PSFs make of a sky elsewhere in the cell
    beyond what they would make of it at one place.

    To first order the PSF at a pixel of the sky is
    ``p + (x - x_p) dp/dx + (y - y_p) dp/dy``. An exposure of the sky s is then
    ``p * s`` and, in excess,
    ``dp/dx * ((x - x_p) s) + dp/dy * ((y - y_p) s)``: two transforms of the
    sky for all exposures and one for each.

    Parameters
    ----------
    image
        The exposures, ``(n, h, w)``.
    good
        1 where a pixel can be used, else 0.
    gradient
        How their PSFs change.
    grid
        The grid of the transforms.
    """

    def __init__(self, image: torch.Tensor, good: torch.Tensor, gradient: PsfGradient, grid: FourierGrid):
        self._image, self._good, self._grid = image, good, grid
        per_pixel = torch.as_tensor(gradient.per_pixel, dtype=image.dtype, device=image.device)
        self._transfer = torch.stack([grid.transfer(one) for one in per_pixel])
        self._place = list(zip(gradient.x.tolist(), gradient.y.tolist(), strict=True))

    def level(
        self, image: torch.Tensor, residual: torch.Tensor, *, spectrum: torch.Tensor, den: torch.Tensor
    ) -> None:
        """Level the exposures, by a model of the sky.

        Parameters
        ----------
        image
            Becomes the exposures less the excess, ``(n, h, w)``; 0 where not
            good.
        residual
            Image minus model, same shape; is changed alike.
        spectrum
            Transform of the model, ``(rows, columns // 2 + 1)``.
        den
            Noise power of the statistic, same shape.
        """
        smooth = spectrum * (den / (den + _STRENGTH * den[0, 0]))
        sky = self._grid.inverse(smooth)
        along_x = self._grid.transform(sky * self._grid.columns)
        along_y = self._grid.transform(sky * self._grid.rows)
        # All exposures that see the middle of the cell are right there.
        about = {(x, y): (along_x - x * smooth, along_y - y * smooth) for x, y in set(self._place)}
        for part in parts(image):
            spectra = torch.stack(
                [
                    torch.addcmul(by_x * about[place][0], by_y, about[place][1])
                    for (by_x, by_y), place in zip(self._transfer[part], self._place[part], strict=True)
                ]
            )
            excess = self._grid.crop(self._grid.inverse(spectra)).mul_(self._good[part])
            levelled = torch.sub(self._image[part], excess, out=excess)
            residual[part] += levelled
            residual[part] -= image[part]
            image[part] = levelled

    def find_den_change(self, transfer: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Find how the noise of D changes over the cell.

        What is taken off the exposures has noise: that of D becomes
        ``1 - sum_t conj(K_t) (x - x_t) dK_t / s_t^2 / den`` times as large,
        and so for y.

        Parameters
        ----------
        transfer
            K_t, ``(n, rows, columns // 2 + 1)``.
        weight
            1 / s_t^2, ``(n,)``.

        Returns
        -------
        `torch.Tensor`
            The sum, real part, per pixel along x and y, and at column and row
            0, ``(3, rows, columns // 2 + 1)``.
        """
        change = torch.zeros((3, *transfer.shape[1:]), device=transfer.device)
        for one, (by_x, by_y), (x, y), factor in zip(
            transfer, self._transfer, self._place, weight.tolist(), strict=True
        ):
            along_x, along_y = (factor * (one.conj() * by).real for by in (by_x, by_y))
            change[0] += along_x
            change[1] += along_y
            change[2] -= x * along_x + y * along_y
        return change
