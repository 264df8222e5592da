"""Which images are unlike those that a model was trained on, such as images of another modality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from monai_sagan.data.training_range import compare_typical

__all__ = ["tell_unlike", "unlike_training"]


def unlike_training(images: Any, typical: Mapping[str, Any] | None) -> list[str]:
    """What is unusual about each of N images, with the range measured on the training images; mostly nothing, "".

    Args:
        images: uint8 (N, C, H, W), as the network sees them: a tensor, an array or stored images.
        typical: of the model, see `monai_sagan.data.training_range.measure_typical`; None finds nothing.
    """
    if typical is None:
        return [""] * len(images)
    return ["; ".join(compare_typical(images[i], typical)) for i in range(len(images))]


def tell_unlike(names: Sequence[str], warnings: Sequence[str], above: Sequence[bool] | None = None) -> list[str]:
    """One line about all images that are unlike the training images, or none.

    Args:
        names: of N images.
        warnings: what `unlike_training` found of them.
        above: whether each has a score above the threshold; None where there is no threshold.
    """
    unlike = [(name, warning) for name, warning in zip(names, warnings, strict=True) if warning]
    if not unlike:
        return []
    counted = f"{len(unlike)} of {len(names)} images are unlike the training images"
    if above is not None:
        high = sum(bool(warning) and is_above for is_above, warning in zip(above, warnings, strict=True))
        counted += f", {high} of them above the threshold"
    return [f"{counted}, the first: {unlike[0][0]}: {unlike[0][1]}"]
