"""What was done to make the anomaly maps, in words, and the bar of their colors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monai_sagan.report.html import Html, tag
from monai_sagan.report.numbers import plain
from monai_sagan.settings import Settings

__all__ = ["COLORS", "color_bar", "how_maps_are_made", "map_words"]

COLORS = "inferno"
STEPS, WIDTH = 64, 4  # of the bar


def how_maps_are_made(settings: Settings, top_of_scale: float) -> dict[str, Any]:
    """What ``metrics.json`` says of the maps: ``passes``, ``smoothing``, ``sigma`` in pixels and ``top_of_scale``.

    Args:
        settings: of the model.
        top_of_scale: the map's value at the top of the color scale.
    """
    sigma = settings.map_sigma if settings.map_smoothing == "gaussian" else None
    made = {"passes": settings.map_passes, "smoothing": settings.map_smoothing, "sigma": sigma}
    return made | {"top_of_scale": top_of_scale}


def map_words(how: Mapping[str, Any] | None) -> str:
    """How an anomaly map is made.

    Args:
        how: of `how_maps_are_made`; None or nothing where it is not known.
    """
    how = how or {}
    words = "|image - restored| / 2"
    if how.get("smoothing") is None:
        return f"{words}, averaged and smoothed as the run's settings say"
    if (how.get("passes") or 1) > 1:
        words += f", the mean of {how['passes']} shifted passes"
    by = {"gaussian": f"a Gaussian of {plain(how.get('sigma'))} pixels", "guided": "a guided filter"}
    return words + ("" if how["smoothing"] == "none" else f", smoothed by {by.get(how['smoothing'], how['smoothing'])}")


def color_bar(top: float) -> Html:
    """The colors of anomaly maps from 0 up to the value ``top``, which every higher one has, too."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    colors = [to_hex(colormaps[COLORS](i / (STEPS - 1))) for i in range(STEPS)]
    steps = [tag("rect", x=WIDTH * i, y=0, width=WIDTH + 1, height=12, fill=color) for i, color in enumerate(colors)]
    words = f"{top:.3g} and above"
    labels = [tag("text", "0", x=0, y=28), tag("text", words, x=STEPS * WIDTH, y=28, text_anchor="end")]
    box = f"0 0 {STEPS * WIDTH + 1} 32"
    told = f"Colors of anomaly maps from 0 to {words}"
    return tag("svg", *steps, *labels, viewBox=box, class_="bar", role="img", aria_label=told)
