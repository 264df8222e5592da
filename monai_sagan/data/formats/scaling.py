"""Pixels of any type to the 8 bits that everything behind the readers works on."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Pixels", "check_numbers", "stretch"]

Pixels = NDArray[Any]


def stretch(values: Pixels, low: float | None = None, high: float | None = None) -> Pixels:
    """``low`` to 0 and ``high`` to 255, linearly, rounded, what lies outside clipped; uint8 of the same shape.

    Args:
        values: of any shape and type; finite.
        low: None takes the least value.
        high: None takes the greatest value; where it is not above ``low``, all is 0.
    """
    low = float(values.min()) if low is None else low
    high = float(values.max()) if high is None else high
    if not high > low:
        return np.zeros(values.shape, np.uint8)
    scaled = (values.astype(np.float64) - low) / (high - low)
    return np.rint(np.clip(scaled, 0, 1, out=scaled) * 255).astype(np.uint8)


def check_numbers(values: Pixels) -> None:
    """Check that values of any shape have neither NaN nor infinity among them.

    Args:
        values: pixels of any number type; whole ones always pass.

    Raises:
        ValueError: counting the NaN and infinite values.
    """
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        count = int((~np.isfinite(values)).sum())
        raise ValueError(f"{count} NaN or infinite pixels: set them to the background's value")
