"""A warning about images that are not scaled to [-1, 1]."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

MARGIN = 0.25  # beyond [-1, 1], for overshoot of interpolation at edges


def warn_of_range(image: Tensor) -> None:
    """Warn if images lie within [0, 1] or go far beyond [-1, 1].

    Every medical image has dark pixels, below 0 when scaled to [-1, 1]. Constant images and tensors without values are
    not checked. It reads two values from the device.
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
