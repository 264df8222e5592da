"""Pixels of any type to 8 bits."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__: list[str] = []

Pixels = NDArray[Any]


def stretch(values: Pixels, low: float | None = None, high: float | None = None) -> Pixels:
    """Scale ``low`` to 0 and ``high`` to 255, linearly, rounded and clipped: uint8 of the same shape.

    None takes the least and the greatest value; where ``high`` is not above ``low``, all is 0.
    """
    low = float(values.min()) if low is None else low
    high = float(values.max()) if high is None else high
    if not high > low:
        return np.zeros(values.shape, np.uint8)
    scaled = (values.astype(np.float64) - low) / (high - low)
    return np.rint(np.clip(scaled, 0, 1, out=scaled) * 255).astype(np.uint8)


def check_numbers(values: Pixels) -> None:
    """Check that values have neither NaN nor infinity among them.

    Raises:
        ValueError: with their number.
    """
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        count = int((~np.isfinite(values)).sum())
        raise ValueError(f"{count} NaN or infinite pixels: set them to the background's value")
