"""Windows of a batch of images, and patches resampled into them: by places in the flattened batch, without loops."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["interpolate", "patch_corners", "patch_pixels", "pixels_at", "window_places"]


def window_places(shape: Sequence[int], member: Tensor, rows: Tensor, cols: Tensor) -> Tensor:
    """Places of windows in a flattened batch, (N, C, h, w).

    Args:
        shape: of the batch: B, C, H, W.
        member: image of each window, (N,).
        rows: of the image, for each row of a window, (N, h).
        cols: likewise, (N, w).

    Example:
        >>> batch = torch.arange(32).reshape(2, 1, 4, 4)
        >>> places = window_places(batch.shape, torch.tensor([1]), torch.tensor([[0, 1]]), torch.tensor([[2, 3]]))
        >>> pixels_at(batch, places)
        tensor([[[[18, 19],
                  [22, 23]]]])
    """
    channel = member[:, None] * shape[1] + torch.arange(shape[1], device=member.device)
    return (channel[:, :, None] * shape[2] + rows[:, None]).mul(shape[3])[:, :, :, None] + cols[:, None, None]


def pixels_at(images: Tensor, places: Tensor) -> Tensor:
    """The pixels at places of any shape in flattened images of any range."""
    return images.view(-1).gather(0, places.reshape(-1)).view(places.shape)


def patch_pixels(images: Tensor, member: Tensor, place: Sequence[Tensor], rows: Tensor, cols: Tensor) -> Tensor:
    """Pixels (N, C, h, w) of patches in their own size; beyond itself a patch repeats its border.

    Args:
        images: (B, C, H, W), of any range.
        member: image of each patch, (N,).
        place: top, left, height, width in it, each int64 (N,).
        rows: wanted rows of the patch, int64 (N, h), from 0.
        cols: likewise, (N, w).
    """
    top, left, height, width = (side[:, None] for side in place[:4])
    rows, cols = top + rows.clamp(min=0).minimum(height - 1), left + cols.clamp(min=0).minimum(width - 1)
    return pixels_at(images, window_places(images.shape, member, rows, cols))


def patch_corners(
    images: Tensor, member: Tensor, place: Sequence[Tensor], rows: Tensor, cols: Tensor
) -> tuple[list[Tensor], tuple[Tensor, Tensor]]:
    """What `interpolate` needs for patches that are resized: four pixels (N, C, h, w) for each, and their shares.

    Args:
        images: (B, C, H, W), of any range.
        member: image of each patch, (N,).
        place: top, left, height, width in it, and the new height and width, each int64 (N,).
        rows: wanted rows of the resized patch, int64 (N, h), from 0; beyond itself it repeats its border.
        cols: likewise, (N, w).
    """
    top, left, height, width, new_height, new_width = (side[:, None] for side in place)
    *two_rows, down = _neighbors(rows, top, height, new_height)
    *two_cols, across = _neighbors(cols, left, width, new_width)
    corners = [pixels_at(images, window_places(images.shape, member, y, x)) for y in two_rows for x in two_cols]
    return corners, (down[:, None, :, None], across[:, None, None, :])


def interpolate(corners: Sequence[Tensor], shares: tuple[Tensor, Tensor]) -> Tensor:
    """Bilinear values between four pixels, float32.

    Args:
        corners: upper left, upper right, lower left, lower right, each (N, C, h, w).
        shares: of the lower two, and of the right two.
    """
    down, across = shares
    one, two, three, four = (corner.float() for corner in corners)
    return torch.lerp(torch.lerp(one, two, across), torch.lerp(three, four, across), down)


def _neighbors(wanted: Tensor, start: Tensor, size: Tensor, new_size: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The two pixels between which each wanted one lies, and the share of the second; pixels are squares."""
    place = ((wanted + 0.5) * (size / new_size) - 0.5).clamp(min=0).minimum(size - 1)
    first = place.long()
    return start + first, start + (first + 1).minimum(size - 1), place - first
