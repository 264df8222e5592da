"""Medians of whole batches by counting: of binary images in squares, of grey levels in discs; borders are repeated.

Everything stays in narrow integers, and comparisons are made in place: so a CPU handles 32 pixels at once.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["disc_median", "majority"]


def majority(mask: Tensor, radius: int) -> Tensor:
    """The median of binary images: whether most of the (2 radius + 1)² pixels around each one are 1.

    Args:
        mask: uint8 (B, H, W), 0 and 1.
        radius: half side of the square, in pixels; 0 changes nothing.

    Returns:
        uint8 (B, H, W), 0 and 1.

    Example:
        >>> majority(torch.tensor([[[1, 0, 1, 1]]], dtype=torch.uint8), 1)
        tensor([[[1, 1, 1, 1]]], dtype=torch.uint8)
    """
    if radius == 0:
        return mask
    side = 2 * radius + 1
    counts = _repeat_border(mask.to(_counting(side * side)), radius)
    return _run_sums(_run_sums(counts, side, -2), side, -1).gt_(side * side // 2).to(torch.uint8)


def disc_median(levels: Tensor, radius: int, highest: int) -> Tensor:
    """The median of grey levels in the disc around each pixel, where it is below ``highest``, which stands for more.

    A pixel's median is above a level when most of its disc is: so one count for each level finds it.

    Args:
        levels: uint8 (B, H, W), 0 to 255.
        radius: of the disc, in pixels.
        highest: greatest result.

    Returns:
        uint8 (B, H, W).
    """
    halves = [math.isqrt(radius * radius - row * row) for row in range(-radius, radius + 1)]
    pixels = sum(2 * half + 1 for half in halves)
    padded = _repeat_border(levels, radius).clamp_(max=highest).to(_counting(pixels))
    found = torch.zeros_like(levels)
    for level in range(highest):
        found += _disc_sums(padded.clone().gt_(level), halves).gt_(pixels // 2)
    return found


def _counting(most: int) -> torch.dtype:
    """The narrowest type that counts so far."""
    return torch.uint8 if most <= 255 else torch.int16


def _repeat_border(x: Tensor, width: int) -> Tensor:
    if width == 0:
        return x.clone()
    x = torch.cat([x[:, :1].expand(-1, width, -1), x, x[:, -1:].expand(-1, width, -1)], dim=1)
    return torch.cat([x[:, :, :1].expand(-1, -1, width), x, x[:, :, -1:].expand(-1, -1, width)], dim=2)


def _run_sums(x: Tensor, length: int, dim: int) -> Tensor:
    """Sums of ``length`` neighbors along an axis, put together from sums of 1, 2, 4, ... of them."""
    size = x.shape[dim] - length + 1
    total, taken, part, width = None, 0, x, 1
    while taken < length:
        if length & width:
            piece = part.narrow(dim, taken, size)
            total = piece if total is None else total + piece
            taken += width
        if taken < length:
            rest = part.shape[dim] - width
            part = part.narrow(dim, 0, rest) + part.narrow(dim, width, rest)
            width *= 2
    assert total is not None
    return total


def _disc_sums(x: Tensor, halves: list[int]) -> Tensor:
    """Sums over a disc that has ``2 half + 1`` pixels in each of its rows."""
    radius = len(halves) // 2
    height, width = x.shape[1] - 2 * radius, x.shape[2] - 2 * radius
    runs = {half: _run_sums(x, 2 * half + 1, -1).narrow(-1, radius - half, width) for half in {*halves}}
    total = runs[halves[0]].narrow(1, 0, height).clone()
    for row, half in enumerate(halves[1:], start=1):
        total += runs[half].narrow(1, row, height)
    return total
