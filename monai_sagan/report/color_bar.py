"""The color bar of anomaly maps."""

from __future__ import annotations

from monai_sagan.pictures.maps import COLORS
from monai_sagan.report.html import Html, tag

STEPS, WIDTH = 64, 4  # of the bar


def color_bar(top: float) -> Html:
    """The colors of anomaly maps from 0 to ``top`` and above."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    colors = [to_hex(colormaps[COLORS](i / (STEPS - 1))) for i in range(STEPS)]
    steps = [tag("rect", x=WIDTH * i, y=0, width=WIDTH + 1, height=12, fill=color) for i, color in enumerate(colors)]
    words = f"{top:.3g} and above"
    labels = [tag("text", "0", x=0, y=28), tag("text", words, x=STEPS * WIDTH, y=28, text_anchor="end")]
    box = f"0 0 {STEPS * WIDTH + 1} 32"
    description = f"Colors of anomaly maps from 0 to {words}"
    return tag("svg", *steps, *labels, viewBox=box, class_="bar", role="img", aria_label=description)
