"""Flag images outside the training range, such as images of another modality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from monai_sagan.data.training_range import range_deviations


def range_warnings(images: Any, training_range: Mapping[str, Any] | None) -> list[str]:
    """Name the measures of each image that are outside the training range; "" for the others.

    Args:
        images: uint8 (N, C, H, W), as the network sees them: a tensor, an array or stored images.
        training_range: of the model, see `monai_sagan.data.training_range`; None gives no warnings.
    """
    if training_range is None:
        return [""] * len(images)
    return ["; ".join(range_deviations(images[i], training_range)) for i in range(len(images))]


def summarize_range_warnings(
    names: Sequence[str], warnings: Sequence[str], above: Sequence[bool] | None = None
) -> list[str]:
    """One line about all images outside the training range, or none.

    Args:
        names: of N images.
        warnings: of `range_warnings`.
        above: whether each has a score above the threshold; None without a threshold.
    """
    found = [(name, warning) for name, warning in zip(names, warnings, strict=True) if warning]
    if not found:
        return []
    counted = f"{len(found)} of {len(names)} images are outside the training range"
    if above is not None:
        high = sum(bool(warning) and is_above for is_above, warning in zip(above, warnings, strict=True))
        counted += f", {high} of them above the threshold"
    return [f"{counted}, the first: {found[0][0]}: {found[0][1]}"]
