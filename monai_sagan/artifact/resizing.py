"""Pillow's antialiased bilinear resizing in tensor operations, bit for bit."""

from __future__ import annotations

import torch
from torch import Tensor

BITS = 22  # of Pillow's fixed-point weights


def resize_like_pillow(image: Tensor, height: int, width: int) -> Tensor:
    """Resize images (B, C, H, W) of whole numbers from 0 to 255 as ``Image.resize(..., BILINEAR)`` of Pillow 13.

    Pillow resizes along one axis, rounds to 8 bits, resizes along the other and rounds again. It begins with the rows,
    except for images that lose more than twice as much height as width (always before Pillow 13). The result is
    float64. All numbers are whole and below 2 ** 53, so sums of products in float64 are exact in any order.
    """
    image = image.double()
    old_height, old_width = _length(image[0, 0, :, 0]), _length(image[0, 0, 0])
    down = _line_weights(old_height, image[0, 0, :, 0], height)
    across = _line_weights(old_width, image[0, 0, 0], width).T
    is_tall = (old_height > height) & (old_height - height > 2 * (old_width - width))
    # Both ways are computed: exported graphs hold no branches.
    return torch.where(is_tall, _rounded(_rounded(down @ image) @ across), _rounded(down @ _rounded(image @ across)))


def _length(line: Tensor) -> Tensor:
    """The number of a line's pixels, (1,): a tensor, so that exported graphs take any length."""
    length: Tensor = torch.ones_like(line, dtype=torch.int64).sum(0, keepdim=True)
    return length


def _rounded(sums: Tensor) -> Tensor:
    return torch.clamp(torch.floor((sums + 2 ** (BITS - 1)) * 2.0**-BITS), 0, 255)


def _line_weights(length: Tensor, line: Tensor, count: int) -> Tensor:
    """The weights (count, n) of a line's n pixels in the ``count`` pixels it is resized to, whole numbers in float64.

    A triangle around the new pixel's center, as wide as two pixels of the coarser line, in units of
    ``1 / (2 * longer)`` old pixels, where Pillow has fractions. The sum of a row is 2 ** 22, up to rounding.
    """
    old = torch.ones_like(line, dtype=torch.int64).cumsum(0)  # 1 to n
    new = torch.arange(1, count + 1, device=line.device)[:, None]
    distance = ((2 * old - 1) * count - (2 * new - 1) * length).abs()
    weights = (2 * length.clamp(min=count) - distance).clamp(min=0)
    total = weights.sum(1, keepdim=True)
    rounded: Tensor = (weights * 2 ** (BITS + 1) + total) // (2 * total)
    return rounded.double()
