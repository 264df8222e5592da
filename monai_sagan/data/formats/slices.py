"""The options that choose slices of volumes, checked in one place."""

from __future__ import annotations

import math

from monai_sagan.errors import SaganError

__all__: list[str] = []


def check_slices(slice_axis: object, slice_range: object) -> tuple[int, tuple[float, float]]:
    """Check the options that choose slices of volumes, and return them as numbers.

    Raises:
        SaganError: naming the value that is out of range.
    """
    if isinstance(slice_axis, bool) or not isinstance(slice_axis, int) or slice_axis not in (0, 1, 2):
        raise SaganError(f"slice_axis is {slice_axis!r}; it is 0, 1 or 2")
    try:
        first, last = (float(share) for share in slice_range)  # type: ignore[attr-defined]  # anything but a pair raises
    except (TypeError, ValueError):
        first = last = math.nan
    if isinstance(slice_range, str) or not 0 <= first < last <= 1:
        raise SaganError(f"slice_range is {slice_range!r}; it is two shares from 0 to 1, for example [0.2, 0.8]")
    return slice_axis, (first, last)
