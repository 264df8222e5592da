"""Windows of a batch of images, and patches resampled into them; by places in the flattened batch, without loops."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["sample_patches", "window_places"]


def window_places(shape: Sequence[int], member: Tensor, rows: Tensor, cols: Tensor) -> Tensor:
    """Places of windows in a flattened batch, (N, C, h, w), for `torch.take` and ``put_``.

    Args:
        shape: of the batch: B, C, H, W.
        member: image of each window, (N,).
        rows: of the image, for each row of a window, (N, h).
        cols: likewise, (N, w).

    Example:
        >>> batch = torch.arange(32).reshape(2, 1, 4, 4)
        >>> one = torch.tensor([1])
        >>> batch.take(window_places(batch.shape, one, torch.tensor([[0, 1]]), torch.tensor([[2, 3]])))
        tensor([[[[18, 19],
                  [22, 23]]]])
    """
    channel = member[:, None] * shape[1] + torch.arange(shape[1], device=member.device)
    return (channel[:, :, None] * shape[2] + rows[:, None]).mul(shape[3])[:, :, :, None] + cols[:, None, None]


def sample_patches(images: Tensor, member: Tensor, place: Sequence[Tensor], rows: Tensor, cols: Tensor) -> Tensor:
    """Patches of images in their new size, bilinear, float32 (N, C, h, w); a patch repeats its border beyond itself.

    Args:
        images: (B, C, H, W), of any range.
        member: image of each patch, (N,).
        place: top, left, height, width in it, then height and width to resize to, each int64 (N,); without the latter
            two the size stays.
        rows: wanted rows of the patch in its new size, int64 (N, h), from 0.
        cols: likewise, (N, w).
    """
    top, left, height, width = (side[:, None] for side in place[:4])
    if len(place) == 4:
        rows, cols = top + rows.clamp(min=0).minimum(height - 1), left + cols.clamp(min=0).minimum(width - 1)
        return images.take(window_places(images.shape, member, rows, cols)).float()
    upper, lower, down = _neighbors(rows, top, height, place[4][:, None])
    before, behind, across = _neighbors(cols, left, width, place[5][:, None])
    found = [
        [images.take(window_places(images.shape, member, y, x)).float() for x in (before, behind)]
        for y in (upper, lower)
    ]
    along = [torch.lerp(*pair, across[:, None, None, :]) for pair in found]
    return torch.lerp(*along, down[:, None, :, None])


def _neighbors(wanted: Tensor, start: Tensor, size: Tensor, new_size: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The two pixels between which each wanted one lies, and the share of the second; pixels are squares."""
    place = ((wanted + 0.5) * (size / new_size) - 0.5).clamp(min=0).minimum(size - 1)
    first = place.long()
    return start + first, start + (first + 1).minimum(size - 1), place - first
