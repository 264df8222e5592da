"""A warning for images that are scaled otherwise than the networks expect."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

__all__ = ["warn_of_range"]

MARGIN = 0.25  # beyond [-1, 1], for what interpolation overshoots at an edge


def warn_of_range(image: Tensor) -> None:
    """Warn if images lie within [0, 1], or go far beyond [-1, 1], where [-1, 1] is expected.

    Every medical image has something dark, below 0 when scaled to [-1, 1]. Even images say nothing, nor do tensors
    without values. It reads two numbers from the device.

    Args:
        image: of any shape with at least one pixel.
    """
    if image.is_meta or (image.is_cuda and torch.cuda.is_current_stream_capturing()):
        return
    try:
        low, high = (float(value) for value in image.detach().aminmax())
    except RuntimeError:  # a fake or vectorized tensor has no values
        return
    if 0 <= low < high <= 1:
        found, example = "as if scaled to [0, 1]", "0, 1"
    elif low < -1 - MARGIN or high > 1 + MARGIN:
        found, example = "which are not scaled", "lowest, highest"
    else:
        return
    warnings.warn(
        f"the images have values from {low:.4g} to {high:.4g}, {found}; SAGAN's networks and maps expect [-1, 1]: "
        f"scale them, for example by monai.transforms.ScaleIntensityRange({example}, -1, 1)",
        stacklevel=2,
    )
