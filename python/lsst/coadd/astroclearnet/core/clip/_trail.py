# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Straight trails in the residual of one exposure."""

from __future__ import annotations

__all__ = ("SHORTEST_TRAIL", "find_trails")

import math

import torch

_FAINT = 3.0
"""S/N from which on a pixel of the smoothed residual may belong to a trail."""

_BLOCK = 5
"""Side in pixels of the squares that have one vote each, so that a compact
artifact has few."""

_STRIP = 6.0
"""Width in pixels of the strips that are voted for; they overlap by half."""

_DIRECTIONS = 180
"""Directions of the strips."""

_MOST = 4
"""Most trails of an exposure."""

_REFINEMENTS = 5
"""Times that a line is moved to the middle of the light beside it."""

_GAP = 30.0
"""Pixels without a vote beyond which a trail does not go on."""

SHORTEST_TRAIL = 50.0
"""Length in pixels of the shortest trail; cosmic rays are shorter."""

_OUTER = 0.1
"""Share of the votes at each end that do not tell how long a trail is."""

_MARGIN = 12.0
"""Pixels by which a trail goes on beyond its outermost votes."""

_EDGE, _RELATIVE_EDGE = 0.1, 0.01
"""Mean light at which a trail ends sideways: in sigma of a pixel, and as a
share of that on its ridge."""

_BROADER = 1.0
"""Pixels by which a trail must reach farther than the PSF tells before its own
profile is believed: noise makes it seem so by chance."""

_OUTLIER = 3.0
"""Sigma by which a pixel may differ from others at its distance."""

_WIDEST = 20
"""Half of the width of the widest trail, in pixels."""

_FADE = 4.0
"""Pixels beyond the last light over which a mark ends, so that little depends
on where exactly that was."""


def find_trails(light: torch.Tensor, smooth: torch.Tensor, psf: torch.Tensor) -> torch.Tensor:
    """Find straight trails, however faint their single pixels are.

    Small squares that hold light vote for the strips that they lie in (Duda &
    Hart 1972, Comm. ACM 15, 11). A strip with more votes than chance can give
    it is a trail. It is as wide as the PSF makes one of its brightness, which
    is known better than where noise hides a profile, and hardly depends on
    how much of it a cell shows. It is wider if its own profile says so.

    Parameters
    ----------
    light
        Residual in sigma, 0 where not good, ``(h, w)``.
    smooth
        The same, smoothed, in its own sigma, ``(h, w)``.
    psf
        PSF kernel of the exposure, ``(p, p)``, sum 1.

    Returns
    -------
    `torch.Tensor`
        1 on a trail, less at its edges, else 0, ``(h, w)``.
    """
    marked = torch.zeros_like(light)
    lit = (smooth > _FAINT).nonzero()
    # No cosmic ray may turn the trail that it lies on.
    votes, weight = _thin(lit.cpu(), light[lit[:, 0], lit[:, 1]].cpu().clamp(0.1, 5.0), light.shape)
    for _ in range(_MOST):
        line = _find_line(votes, weight, light.shape)
        if line is None:
            break
        marked = torch.maximum(marked, _mark(light, psf, *line))
        # Nothing of its wings may vote for another one beside it.
        row, column = (votes + torch.tensor(light.shape) / 2).long().T
        free = marked.cpu()[row, column] == 0
        votes, weight = votes[free], weight[free]
    return marked


def _thin(lit: torch.Tensor, light: torch.Tensor, shape: torch.Size) -> tuple[torch.Tensor, torch.Tensor]:
    """Reduce pixels to their means in small squares.

    Returns
    -------
    votes
        y and x from the middle of the image, ``(k, 2)``.
    weight
        The light there, ``(k,)``.
    """
    square = (lit // _BLOCK) @ torch.tensor([shape[1], 1])
    number = torch.bincount(square)
    kept = number > 0
    sums = [torch.bincount(square, weights=values.double())[kept] for values in (*lit.T, light)]
    votes = torch.stack(sums[:2], dim=1) / number[kept, None]
    return votes - torch.tensor(shape) / 2, sums[2]


def _find_line(
    votes: torch.Tensor, weight: torch.Tensor, shape: torch.Size
) -> tuple[list[float], float, tuple[float, float]] | None:
    """Return the normal of the best line, its distance from the middle and
    where it ends; `None` where it can be due to chance.
    """
    diagonal = math.hypot(*shape)
    chance = len(votes) * _STRIP * diagonal / (shape[0] * shape[1])
    least = chance + 5.0 * math.sqrt(chance) + 5.0
    if len(votes) < least:
        return None
    directions = torch.arange(_DIRECTIONS)
    angles = directions.double() * (math.pi / _DIRECTIONS)
    normals = torch.stack([angles.sin(), angles.cos()])
    # Each strip is two neighbouring halves.
    halves = ((votes @ normals + diagonal / 2) / (_STRIP / 2)).long()
    per_direction = math.ceil(diagonal / (_STRIP / 2)) + 2
    counts = torch.bincount((halves + directions * per_direction).flatten())
    counts = counts[:-1] + counts[1:]
    best = int(counts.argmax())
    if counts[best] < least:
        return None
    normal = normals[:, best // per_direction]
    offset = (best % per_direction + 1) * (_STRIP / 2) - diagonal / 2
    for _ in range(_REFINEMENTS):
        near = (votes @ normal - offset).abs() < _STRIP
        share = (weight[near] / weight[near].sum())[:, None]
        centre = (share * votes[near]).sum(0)
        apart = votes[near] - centre
        normal = torch.linalg.eigh((share * apart).T @ apart).eigenvectors[:, 0]
        offset = float(centre @ normal)
    near = (votes @ normal - offset).abs() < _STRIP / 2
    along = (votes[near] @ torch.stack([-normal[1], normal[0]])).sort().values
    runs = along.tensor_split((along.diff() > _GAP).nonzero()[:, 0] + 1)
    longest = max(runs, key=len)
    # Chance may add a vote far from a cosmic ray, not make it evenly lit.
    low, high = longest.quantile(longest.new_tensor([_OUTER, 1.0 - _OUTER]))
    if len(longest) < least or high - low < (1.0 - 2.0 * _OUTER) * SHORTEST_TRAIL:
        return None
    return normal.tolist(), offset, (float(longest[0]) - _MARGIN, float(longest[-1]) + _MARGIN)


def _mark(
    light: torch.Tensor, psf: torch.Tensor, normal: list[float], offset: float, ends: tuple[float, float]
) -> torch.Tensor:
    """Mark a trail as wide as its light reaches."""
    height, width = light.shape
    y = torch.arange(height, device=light.device)[:, None] - height / 2
    x = torch.arange(width, device=light.device) - width / 2
    distance = (y * normal[0] + x * normal[1] - offset).abs()
    along = x * normal[0] - y * normal[1]
    inside = (along > ends[0]) & (along < ends[1])
    seen = inside & (distance < _WIDEST) & (light != 0)
    profile, number = _measure_profile(light[seen].cpu(), distance[seen].round().long().cpu())
    expected = _fit_profile(profile, number, _spread(psf.cpu(), normal))
    edge = max(_EDGE, _RELATIVE_EDGE * float(profile[:3].amax()))
    # Its own light is believed above what noise can do.
    measured = _reach(profile - (2.0 / number.sqrt()).clamp_min(edge))
    reach = max(_reach(expected - edge), measured - _BROADER)
    return torch.where(inside, ((reach + _FADE - distance) / _FADE).clamp_(0.0, 1.0), 0.0)


def _measure_profile(light: torch.Tensor, ring: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean light of pixels ``(k,)`` in rings of one pixel around the ridge,
    without cosmic rays, and how many there are, both ``(rings,)``.
    """
    number = torch.bincount(ring, minlength=_WIDEST + 1)
    order = torch.argsort(ring)
    limited = [
        one.clamp(one.median() - _OUTLIER, one.median() + _OUTLIER).mean() if len(one) else one.new_zeros(())
        for one in light[order].split(number.tolist())
    ]
    return torch.stack(limited), number.clamp_min(1).to(light.dtype)


def _fit_profile(profile: torch.Tensor, number: torch.Tensor, spread: torch.Tensor) -> torch.Tensor:
    """Profile of a trail, ``(rings,)``, as the PSF makes it.

    Parameters
    ----------
    profile, number
        As measured.
    spread
        Profile that the PSF gives to a thin line.

    Returns
    -------
    `torch.Tensor`
        `spread` times the brightness of the trail.
    """
    weight = spread * number
    return spread * ((weight @ profile) / (weight @ spread))


def _spread(psf: torch.Tensor, normal: list[float]) -> torch.Tensor:
    """Profile ``(rings,)`` that a PSF gives to a thin line of brightness 1 a
    pixel of its length.
    """
    axis = torch.arange(len(psf)) - len(psf) // 2
    ring = (axis[:, None] * normal[0] + axis * normal[1]).abs().round().long().clamp_max(_WIDEST + 1)
    sums = torch.bincount(ring.flatten(), weights=psf.flatten(), minlength=_WIDEST + 2)[: _WIDEST + 1]
    return torch.cat([sums[:1], sums[1:] / 2]).to(psf.dtype)


def _reach(excess: torch.Tensor) -> float:
    """Distance from the ridge at which light ``(rings,)`` ends."""
    dark = (excess < 0).nonzero()
    if not len(dark):
        return float(_WIDEST)
    reach = int(dark[0])
    if reach == 0:
        return 0.0
    last, first = excess[reach - 1 : reach + 1].tolist()
    return reach - first / (first - last)
