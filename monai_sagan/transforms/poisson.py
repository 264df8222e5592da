"""Seamless cloning of rectangles: the exact solution of Poisson's equation, for a batch of rectangles of any sizes.

On a rectangle whose border is given, the discrete Laplacian is diagonal in sines (DST-I), which are matrix products.
Perez et al., Poisson image editing, https://doi.org/10.1145/882262.882269.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["Rectangles", "mixed_clone", "solve_poisson"]

Rectangles = tuple[Tensor, Tensor, Tensor, Tensor]  # top, left, height, width, each int64 (B,)


def mixed_clone(
    image: Tensor, source: Tensor, rectangles: Rectangles, most: tuple[int, int], margin: int = 4
) -> Tensor:
    """What cloning ``source`` seamlessly into ``image`` adds to it; OpenCV's ``MIXED_CLONE``.

    At each pixel the gradient of that image counts whose two components differ more, and near the rectangle's edge that
    of ``image``. The outer two pixels stay. OpenCV does so when its mask is the rectangle without a frame of one pixel:
    it erodes the mask by three more. With ``margin`` 4 this equals it to one grey level.

    Args:
        image: (B, C, H, W), grey levels from 0 to 255, not rounded.
        source: same shape and range; what is cloned lies where it goes to.
        rectangles: top, left, height, width in ``image``, each int64 (B,).
        most: greatest height and width that occur.
        margin: the source's gradient counts so many pixels within the rectangle's edge.

    Returns:
        (B, C, H, W), 0 outside; ``image`` plus a share f of it is the clone with a mask value of f.
    """
    top, left, height, width = rectangles
    difference = source - image
    steeper = (_down(source) - _across(source)).abs() > (_down(image) - _across(image)).abs()
    take = (_within(rectangles, image, margin) & steeper).to(image.dtype)
    down, across = _down(difference).mul_(take), _across(difference).mul_(take)
    divergence = down - F.pad(down, (0, 0, 1, -1)) + across - F.pad(across, (1, -1, 0, 0))
    inner = (top + 2, left + 2, (height - 4).clamp(min=0), (width - 4).clamp(min=0))
    return solve_poisson(divergence, inner, (max(most[0] - 4, 1), max(most[1] - 4, 1)))


def solve_poisson(divergence: Tensor, rectangles: Rectangles, most: tuple[int, int]) -> Tensor:
    """The images whose discrete Laplacian is ``divergence`` within a rectangle each, and which are 0 outside.

    Args:
        divergence: (B, C, H, W), of any range.
        rectangles: top, left, height, width, each int64 (B,); without pixels the result is 0.
        most: greatest height and width that occur: so many sines are used.

    Example:
        >>> import torch
        >>> hill = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
        >>> u = solve_poisson(hill, tuple(torch.tensor([n]) for n in (2, 1, 4, 6)), (4, 6))[0, 0]
        >>> laplacian = u[1:5, 2:6] + u[3:7, 2:6] + u[2:6, 1:5] + u[2:6, 3:7] - 4 * u[2:6, 2:6]
        >>> torch.allclose(laplacian, hill[0, 0, 2:6, 2:6], atol=1e-5)
        True
    """
    top, left, height, width = rectangles
    rows, row_values = _sines(top, height, divergence.shape[-2], most[0], divergence)
    cols, col_values = _sines(left, width, divergence.shape[-1], most[1], divergence)
    spectrum = rows.mT @ divergence @ cols
    spectrum = spectrum / -(row_values[:, None, :, None] + col_values[:, None, None, :])
    return rows @ spectrum @ cols.mT


def _sines(start: Tensor, count: Tensor, side: int, most: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Orthonormal sines (B, 1, side, most) that live on ``count`` places from ``start`` on, and their eigenvalues."""
    kind: dict[str, Any] = {"device": like.device, "dtype": like.dtype}
    period = (count + 1).to(like.dtype)[:, None]
    place = torch.arange(1, side + 1, **kind) - start[:, None]
    number = torch.arange(1, most + 1, **kind)
    inside = (place > 0) & (place < period)
    turns = place[:, :, None] * number / (2 * period[:, :, None])
    waves = torch.sin((turns - turns.floor()) * (2 * math.pi))  # reduced first, for float32 knows few digits of angles
    used = number < period
    values = 2 - 2 * torch.cos(math.pi * number.minimum(period - 1).clamp(min=1) / period)
    scale = (2 / period[:, :, None]).sqrt() * inside[:, :, None]
    return (waves * scale * used[:, None, :].to(like.dtype))[:, None], values


def _within(rectangles: Rectangles, image: Tensor, margin: int) -> Tensor:
    """Where (B, 1, H, W) is so far within the rectangles."""
    top, left, height, width = (side[:, None, None, None] for side in rectangles)
    row = torch.arange(image.shape[-2], device=image.device)[:, None] - top
    col = torch.arange(image.shape[-1], device=image.device) - left
    return ((row >= margin) & (row < height - margin)) & ((col >= margin) & (col < width - margin))


def _down(image: Tensor) -> Tensor:
    """The difference to the next row."""
    return F.pad(image[..., 1:, :] - image[..., :-1, :], (0, 0, 0, 1))


def _across(image: Tensor) -> Tensor:
    """The difference to the next column."""
    return F.pad(image[..., 1:] - image[..., :-1], (0, 1))
