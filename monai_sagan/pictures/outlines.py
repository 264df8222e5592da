"""The outlines of known lesions, as segments to draw over a picture."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from monai_sagan.data.datasets.items import Item
from monai_sagan.errors import SaganError
from monai_sagan.metrics.regions import read_regions

Array = NDArray[Any]


def lesion_outlines(item: Item, height: int, width: int) -> Array:
    """The borders of an item's lesions, each by itself, as segments x0, y0, x1, y1 (S, 4) between a map's pixels.

    An item without ``size``, ``boxes`` or ``mask``, or with broken ones, has no segments.
    """
    found = [np.zeros((0, 4), dtype=int)]
    if "size" in item and (item.get("boxes") or item.get("mask")):
        try:
            regions = read_regions([item], [item["size"]], height, width)[1]
        except SaganError:  # the evaluation reports it, and a picture is shown without
            return found[0]
        for lesion in range(len(regions.image)):
            mask = np.zeros((height, width), dtype=bool)
            mask.flat[regions.pixels[regions.lesion == lesion]] = True
            found.append(_border(mask))
    return np.concatenate(found)


def svg_path(segments: Array) -> str:
    """Segments x0, y0, x1, y1 (S, 4) as the data of an SVG path."""
    return "".join(f"M{x0} {y0}L{x1} {y1}" for x0, y0, x1, y1 in segments.tolist())


def _border(mask: Array) -> Array:
    """The sides between pixels in and outside a mask (H, W), joined where they are in line."""
    padded = np.pad(mask, 1)
    upright = _runs((padded[1:-1, 1:] != padded[1:-1, :-1]).T)
    level = _runs(padded[1:, 1:-1] != padded[:-1, 1:-1])
    return np.concatenate([upright[:, [0, 1, 0, 2]], level[:, [1, 0, 2, 0]]])


def _runs(lines: Array) -> Array:
    """The runs of true values in each line of bool (L, n): line, start, end (R, 3)."""
    steps = np.diff(np.pad(lines, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    return np.column_stack([np.argwhere(steps == 1), np.argwhere(steps == -1)[:, 1]])
