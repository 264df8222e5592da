"""The options that choose slices of volumes, checked in one place."""

from __future__ import annotations

import math

from monai_sagan.errors import SaganError

__all__ = ["check_slices"]


def check_slices(slice_axis: object, slice_range: object) -> tuple[int, tuple[float, float]]:
    """Check which slices of volumes are asked for; returns the axis and the range as numbers.

    Args:
        slice_axis: 0, 1 or 2.
        slice_range: two rising shares from 0 to 1.

    Raises:
        SaganError: naming the value that is something else.
    """
    if isinstance(slice_axis, bool) or not isinstance(slice_axis, int) or slice_axis not in (0, 1, 2):
        raise SaganError(f"slice_axis is {slice_axis!r}; it is 0, 1 or 2")
    try:
        first, last = (float(share) for share in slice_range)  # type: ignore[attr-defined]  # what is not a pair raises
    except (TypeError, ValueError):
        first = last = math.nan
    if isinstance(slice_range, str) or not 0 <= first < last <= 1:
        raise SaganError(f"slice_range is {slice_range!r}; it is two shares from 0 to 1, for example [0.2, 0.8]")
    return slice_axis, (first, last)
