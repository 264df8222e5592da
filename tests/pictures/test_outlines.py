"""Outlines of lesions run along the sides of their pixels."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from monai_sagan.pictures.outlines import lesion_outlines, svg_path

ITEM = {"image": "a.png", "size": [8, 4]}


def inside(segments, height, width):
    """Which pixels are enclosed: those with an odd number of upright sides to their left."""
    crossed = np.zeros((height, width + 1), dtype=int)
    for x0, y0, x1, y1 in segments:
        if x0 == x1:
            crossed[y0:y1, x0] += 1
    return crossed.cumsum(axis=1)[:, :width] % 2 == 1


def length(segments):
    return int(np.abs(segments[:, 2:] - segments[:, :2]).sum())


def test_a_box_has_four_sides():
    segments = lesion_outlines(ITEM | {"boxes": [[2, 1, 4, 2]]}, 4, 8)
    assert sorted(map(tuple, segments)) == [(2, 1, 2, 3), (2, 1, 6, 1), (2, 3, 6, 3), (6, 1, 6, 3)]
    assert svg_path(segments).count("M") == 4
    assert "M2 1L6 1" in svg_path(segments)


def test_boxes_are_scaled_to_the_map_and_each_has_its_own_outline():
    boxes = [[0, 0, 4, 4], [2, 2, 6, 2]]
    segments = lesion_outlines(ITEM | {"boxes": boxes}, 8, 8)  # twice as high, as wide
    assert len(segments) == 8
    assert length(segments) == 2 * (4 + 8) + 2 * (6 + 4)


@pytest.mark.parametrize("seed", range(4))
def test_a_mask_is_enclosed(tmp_path, seed):
    mask = np.random.default_rng(seed).random((9, 7)) < 0.4
    Image.fromarray(mask.astype(np.uint8) * 255).save(tmp_path / "mask.png")
    item = {"image": "a.png", "size": [7, 9], "mask": str(tmp_path / "mask.png")}
    assert (inside(lesion_outlines(item, 9, 7), 9, 7) == mask).all()


@pytest.mark.parametrize(
    "known",
    [{}, {"boxes": []}, {"boxes": [[1, 1, 2, 2]], "size": None}, {"mask": "gone.png"}, {"boxes": [[9, 9, 2, 2]]}],
)
def test_no_outline_where_nothing_is_known_or_it_is_broken(known):
    item = {name: value for name, value in (ITEM | known).items() if value is not None}
    assert lesion_outlines(item, 4, 8).shape == (0, 4)
    assert svg_path(lesion_outlines(item, 4, 8)) == ""
