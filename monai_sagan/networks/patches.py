"""Cut images into a grid of patches, merge them again, and number the patches."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def check_grid(grid: tuple[int, int], height: int, width: int, stride: int = 1) -> None:
    """Check that ``grid`` cuts a ``height`` x ``width`` image into patches whose sides are multiples of ``stride``.

    Raises:
        ValueError: naming the side and the nearest sides that fit.
    """
    for name, side, count in (("height", height, grid[0]), ("width", width, grid[1])):
        unit = count * stride
        if side < unit or side % unit:
            below, above = max(side // unit, 1) * unit, (side // unit + 1) * unit
            fits = f"{above}" if below in (side, above) else f"{below} or {above}"
            raise ValueError(
                f"an image {name} of {side} does not fit grid {tuple(grid)}: "
                f"it must be a multiple of {unit} ({count} patches x stride {stride}); use {fits}"
            )


def split_patches(image: Tensor, rows: int, cols: int) -> Tensor:
    """Cut images (B, C, H, W) into patches (B * rows * cols, C, H / rows, W / cols), row by row, image by image."""
    b, c, h, w = image.shape
    image = image.reshape(b, c, rows, h // rows, cols, w // cols)
    return image.permute(0, 2, 4, 1, 3, 5).reshape(b * rows * cols, c, h // rows, w // cols)


def merge_patches(patches: Tensor, rows: int, cols: int) -> Tensor:
    """Merge patches (B * rows * cols, C, h, w) into images (B, C, rows * h, cols * w), see `split_patches`."""
    n, c, h, w = patches.shape
    patches = patches.reshape(n // (rows * cols), rows, cols, c, h, w)
    return patches.permute(0, 3, 1, 4, 2, 5).reshape(n // (rows * cols), c, rows * h, cols * w)


def position_code(grid: tuple[int, int], rounding: str = "floor") -> Tensor:
    """Number the N patches from 0 row by row, in binary, most significant bit first: a tensor (N, bits) of 0 and 1.

    Args:
        grid: rows and columns; N = rows * cols.
        rounding: ``"ceil"`` gives ceil(log2(N) + 1) bits, as the paper says (Sec. 2.2); ``"floor"`` gives
            floor(log2(N) + 1), as its published code does. They are equal if N is a power of two. The first bit is then
            always 0; it is kept so that published weights load.

    Raises:
        ValueError: for another ``rounding`` or an empty grid.
    """
    if rounding not in ("floor", "ceil"):
        raise ValueError(f"rounding is {rounding!r}; use 'floor' or 'ceil'")
    count = grid[0] * grid[1]
    if min(grid) < 1:
        raise ValueError(f"grid {tuple(grid)} has no patches; rows and columns are at least 1")
    bits = int(getattr(math, rounding)(math.log2(count) + 1))
    shifts = torch.arange(bits - 1, -1, -1)
    return ((torch.arange(count)[:, None] >> shifts) & 1).float()
