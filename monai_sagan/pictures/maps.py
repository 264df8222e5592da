"""The colors of anomaly maps, and how maps are made, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monai_sagan.settings import Settings

COLORS = "inferno"


def how_maps_are_made(settings: Settings, top_of_scale: float) -> dict[str, Any]:
    """The entry of ``metrics.json``: ``shows``, ``passes``, ``smoothing``, ``sigma`` in pixels, ``top_of_scale``."""
    from monai_sagan.methods import find_method

    shows = find_method(settings.method).map_words
    sigma = settings.map_sigma if settings.map_smoothing == "gaussian" else None
    made = {"shows": shows, "passes": settings.map_passes, "smoothing": settings.map_smoothing, "sigma": sigma}
    return made | {"top_of_scale": top_of_scale}


def map_words(how: Mapping[str, Any] | None) -> str:
    """How an anomaly map is made, in words; None if unknown."""
    how = how or {}
    words = str(how.get("shows", "|image - restored| / 2"))
    if how.get("smoothing") is None:
        return f"{words}, averaged and smoothed as set in the run"
    if (how.get("passes") or 1) > 1:
        words += f", the mean of {how['passes']} shifted passes"
    sigma = how.get("sigma")
    by = {"gaussian": f"a Gaussian of {sigma and format(sigma, '.6g')} pixels", "guided": "a guided filter"}
    return words + ("" if how["smoothing"] == "none" else f", smoothed by {by.get(how['smoothing'], how['smoothing'])}")
