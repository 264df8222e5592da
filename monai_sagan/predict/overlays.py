"""The overlay of a scored image, with its numbers in words."""

from __future__ import annotations

from pathlib import Path

from monai_sagan.data.formats.scaling import Pixels
from monai_sagan.files import write_atomic
from monai_sagan.pictures.overlay import Colors, draw_overlay
from monai_sagan.predict.journal import Row


def write_overlay(
    path: Path, picture: Pixels, anomaly_map: Pixels, row: Row, colors: Colors, threshold: float | None
) -> None:
    """Write the image beside the same image under its anomaly map; the text above them includes the intended use.

    Args:
        path: of the PNG file.
        picture: uint8 (H, W) or (H, W, 3), any size.
        anomaly_map: (h, w).
        row: ``image``, ``score``, ``p_value``, ``flag`` and ``warning``.
        colors: of the model's anomaly maps.
        threshold: that the flag compares with, or None.
    """
    drawing = draw_overlay(picture, anomaly_map, colors, row["image"], _words(row, threshold))
    # Level 1: higher ones take longer than the network and save little of a picture as noisy as a radiograph.
    write_atomic(path, lambda unfinished: drawing.save(unfinished, "PNG", compress_level=1))


def _words(row: Row, threshold: float | None) -> list[tuple[str, bool]]:
    """Lines of text, and whether each is to catch the eye."""
    if threshold is None:
        verdict = "no threshold, for there were too few normal images"
    elif row["warning"]:
        verdict = "not compared with the threshold"
    else:
        above = "above" if row["flag"] else "not above"
        verdict = f"{above} {threshold:.4f}, the threshold for a specificity of 95 %"
    words = [(f"score {row['score']:.4f}, p = {row['p_value']:.3g}; {verdict}", bool(row["flag"]))]
    return words + [(f"warning: {line}", True) for line in row["warning"].split("; ") if line]
