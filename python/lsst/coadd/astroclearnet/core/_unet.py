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


class UNet(nn.Module):
    """Small U-Net of depth-wise and point-wise convolutions."""

    def __init__(self, features: int, channels: int):
        super().__init__()
        c = channels
        self.stem = nn.Conv2d(features, c, 1)
        self.fine = nn.Sequential(Block(c, 5, 1), Block(c, 5, 1))
        self.down = nn.Conv2d(c, 2 * c, 2, stride=2)
        self.middle = nn.Sequential(Block(2 * c, 5, 2), Block(2 * c, 5, 2))
        self.down_again = nn.Conv2d(2 * c, 3 * c, 2, stride=2)
        self.coarse = nn.Sequential(Block(3 * c, 7, 2), Block(3 * c, 7, 2))
        self.up = nn.ConvTranspose2d(3 * c, 2 * c, 2, stride=2)
        self.middle_up = Block(2 * c, 5, 2)
        self.up_again = nn.ConvTranspose2d(2 * c, c, 2, stride=2)
        self.fine_up = Block(c, 5, 1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        x = features.contiguous(memory_format=torch.channels_last)
        fine = self.fine(nn.functional.leaky_relu(self.stem(x), 0.1))
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
