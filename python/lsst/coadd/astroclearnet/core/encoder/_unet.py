# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Building blocks of the trained networks."""

from __future__ import annotations

__all__ = ("Block", "UNet", "asinh", "make_head")

import torch
from torch import nn


def asinh(x: torch.Tensor) -> torch.Tensor:
    """Inverse hyperbolic sine, four times as fast as `torch.asinh` on a
    CPU, which does not vectorise it.
    """
    if x.requires_grad:
        return torch.asinh(x)  # This one has a gradient at 0.
    size = x.abs()
    squared = size * size
    return torch.copysign(torch.log1p(size + squared / (1.0 + torch.sqrt(squared + 1.0))), x)


class Block(nn.Module):
    """Depth-wise, then two point-wise convolutions, added to the input."""

    def __init__(self, channels: int, kernel: int, expansion: int):
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels)
        self.widen = nn.Conv2d(channels, expansion * channels, 1)
        self.project = nn.Conv2d(expansion * channels, channels, 1)
        nn.init.zeros_(self.project.weight)
        nn.init.zeros_(self.project.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        wide = nn.functional.leaky_relu(self.widen(self.depthwise(x)), 0.1, inplace=True)
        return self.project(wide).add_(x)


class Stem(nn.Conv2d):
    """Point-wise convolution of images in several pieces.

    A convolution would want them in one tensor, each pixel with its channels
    side by side: bringing images there takes longer than multiplying them.
    """

    def __init__(self, features: int, channels: int):
        super().__init__(features, channels, 1)

    def forward(self, *images: torch.Tensor) -> torch.Tensor:
        """Mix images ``(b, channels, h, w)`` of the same sky, whose channels
        follow one another and whose memory formats may differ; the result is
        `torch.channels_last`.
        """
        batch, _, *shape = images[0].shape
        mixed = self.bias
        weights = self.weight.flatten(1).split([one.shape[1] for one in images], dim=1)
        for one, weight in zip(images, weights, strict=True):
            mixed = torch.baddbmm(mixed, one.flatten(2).transpose(1, 2), weight.T.expand(batch, -1, -1))
        return mixed.transpose(1, 2).unflatten(2, shape)


class UNet(nn.Module):
    """Small U-Net of depth-wise and point-wise convolutions."""

    def __init__(self, features: int, channels: int):
        super().__init__()
        c = channels
        self.stem = Stem(features, c)
        self.fine = nn.Sequential(Block(c, 5, 1), Block(c, 5, 1))
        self.down = nn.Conv2d(c, 2 * c, 2, stride=2)
        self.middle = nn.Sequential(Block(2 * c, 5, 2), Block(2 * c, 5, 2))
        self.down_again = nn.Conv2d(2 * c, 3 * c, 2, stride=2)
        self.coarse = nn.Sequential(Block(3 * c, 7, 2), Block(3 * c, 7, 2))
        self.up = nn.ConvTranspose2d(3 * c, 2 * c, 2, stride=2)
        self.middle_up = Block(2 * c, 5, 2)
        self.up_again = nn.ConvTranspose2d(2 * c, c, 2, stride=2)
        self.fine_up = Block(c, 5, 1)

    def forward(self, *images: torch.Tensor) -> torch.Tensor:
        """Work on images ``(b, channels, h, w)``, whose channels follow one
        another.
        """
        fine = self.fine(nn.functional.leaky_relu(self.stem(*images), 0.1))
        middle = self.middle(nn.functional.leaky_relu(self.down(fine), 0.1))
        coarse = self.coarse(self.down_again(middle))
        middle = self.middle_up(middle + self.up(coarse))
        return self.fine_up(fine + self.up_again(middle))


def make_head(channels: int, outputs: int) -> nn.Conv2d:
    """Return a point-wise convolution that begins with zeros."""
    head = nn.Conv2d(channels, outputs, 1)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return head
