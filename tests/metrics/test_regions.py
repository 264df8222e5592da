"""The lesions of images, from boxes and masks."""

from __future__ import annotations

import numpy as np
import pytest
from lesion_images import lesions, save_mask, square
from PIL import Image

from monai_sagan.metrics.pixels import pixel_metrics
from monai_sagan.metrics.regions import read_regions, regions_of_boxes, regions_of_masks


@pytest.mark.parametrize(
    ("box", "rows", "cols"),
    [
        ([2, 3, 4, 5], (3, 8), (2, 6)),
        ([2.4, 3.6, 4.2, 4.2], (4, 8), (2, 7)),  # centers at 2.5 .. 6.5 and 4.5 .. 7.5
        ([0, 0, 16, 16], (0, 16), (0, 16)),
        ([7.6, 7.6, 0.1, 0.1], (7, 8), (7, 8)),  # between centers
        ([15.9, 0.0, 0.1, 0.1], (0, 1), (15, 16)),
    ],
)
def test_boxes_cover_the_pixels_whose_centers_they_hold(box, rows, cols):
    expected = np.zeros((1, 16, 16), dtype=bool)
    expected[0, slice(*rows), slice(*cols)] = True
    np.testing.assert_array_equal(regions_of_boxes([[box]], 16, 16).masks, expected)


def test_masks_and_boxes_give_the_same_regions():
    inside = [(0, 2, 3, 5, 4), (2, 9, 9, 4, 4), (2, 0, 0, 3, 2)]
    masks = square(3, 16, inside)
    boxes = [[list(box) for i, *box in inside if i == image] for image in range(3)]
    maps = lesions(3, 16)[0]
    one, other = regions_of_masks(masks), regions_of_boxes(boxes, 16, 16)
    np.testing.assert_array_equal(one.masks, other.masks)
    assert pixel_metrics(maps, one) == pytest.approx(pixel_metrics(maps, other))
    assert one.has_lesion.tolist() == other.has_lesion.tolist() == [True, False, True]
    assert sorted(one.image) == sorted(other.image) == [0, 2, 2]


def test_boxes_scale_from_the_file_to_the_map():
    items = [{"image": "a", "boxes": [[100, 400, 200, 100]]}, {"image": "b"}, {"image": "c", "boxes": []}]
    annotated, regions, truth = read_regions(items, [(1600, 800)] * 3, 16, 16)
    assert (annotated, truth) == ([0, 2], "boxes")
    np.testing.assert_array_equal(regions.masks, square(2, 16, [(0, 1, 8, 2, 2)]))


def test_boxes_are_clipped_to_the_image():
    items = [{"image": "a", "boxes": [[-50, 700, 150, 300]]}]
    _, regions, _ = read_regions(items, [(800, 800)], 16, 16)
    np.testing.assert_array_equal(regions.masks, square(1, 16, [(0, 0, 14, 2, 2)]))


@pytest.mark.parametrize(
    "box",
    [[800, 0, 10, 10], [0, 900, 10, 10], [-20, 0, 20, 10], [5, 5, 0, 10], [5, 5, 10, -1], [float("nan"), 5, 1, 1]],
)
def test_box_outside_its_image_is_refused(box, refused):
    with refused("chest.png", "800 x 900"):
        read_regions([{"image": "chest.png", "boxes": [[1, 1, 5, 5], box]}], [(800, 900)], 16, 16)


@pytest.mark.parametrize("box", [[1, 2, 3], ["a", 1, 2, 3], None])
def test_what_is_no_box_is_refused(box, refused):
    with refused("chest.png", "[x, y, width, height]"):
        read_regions([{"image": "chest.png", "boxes": [box]}], [(800, 900)], 16, 16)


@pytest.mark.parametrize(("mode", "value"), [("L", 255), ("L", 1), ("RGB", 255), ("RGBA", 255), ("1", 255)])
def test_masks_count_where_they_are_not_0(tmp_path, mode, value):
    mask = square(1, 16, [(0, 2, 3, 5, 4)])[0]
    item = {"image": "a.png", "mask": save_mask(tmp_path / "m.png", mask, mode, value)}
    annotated, regions, truth = read_regions([item, {"image": "b.png", "boxes": []}], [(16, 16)] * 2, 16, 16)
    assert (annotated, truth) == ([0, 1], "masks")
    np.testing.assert_array_equal(regions.masks, np.stack([mask, np.zeros_like(mask)]))


def test_a_mask_of_16_bits_keeps_its_small_values(tmp_path):
    pixels = np.zeros((16, 16), np.uint16)
    pixels[2:4, 2:4], pixels[8:10, 8:10] = 1, 60000
    Image.fromarray(pixels).save(tmp_path / "m.png")
    _, regions, _ = read_regions([{"image": "a", "mask": str(tmp_path / "m.png")}], [(16, 16)], 16, 16)
    np.testing.assert_array_equal(regions.masks[0], pixels > 0)


def test_masks_shrink_to_the_map_and_do_not_vanish(tmp_path):
    large = square(1, 64, [(0, 8, 16, 24, 12)])[0]
    tiny = square(1, 64, [(0, 33, 33, 1, 1)])[0]
    items = [{"image": n, "mask": save_mask(tmp_path / n, m)} for n, m in (("a.png", large), ("b.png", tiny))]
    _, regions, _ = read_regions(items, [(64, 64)] * 2, 16, 16)
    np.testing.assert_array_equal(regions.masks, square(2, 16, [(0, 2, 4, 6, 3), (1, 8, 8, 1, 1)]))


def test_boxes_serve_all_where_a_lesion_has_no_mask(tmp_path):
    mask = square(1, 16, [(0, 2, 2, 4, 4)])[0]
    mask[2, 2] = False
    items = [{"image": "a", "mask": save_mask(tmp_path / "m.png", mask)}, {"image": "b", "boxes": [[9, 9, 4, 4]]}]
    _, regions, truth = read_regions(items, [(16, 16)] * 2, 16, 16)
    assert truth == "boxes"
    np.testing.assert_array_equal(regions.masks, square(2, 16, [(0, 2, 2, 4, 4), (1, 9, 9, 4, 4)]))


def test_a_mask_of_another_size_is_refused(tmp_path, refused):
    path = save_mask(tmp_path / "m.png", square(1, 16)[0])
    with refused("m.png is 16 x 16", "chest.png 32 x 16"):
        read_regions([{"image": "chest.png", "mask": path}], [(32, 16)], 16, 16)


def test_a_broken_or_missing_mask_is_refused(tmp_path, refused):
    (tmp_path / "m.png").write_text("no picture")
    for name in ("m.png", "none.png"):
        with refused(name, "mask"):
            read_regions([{"image": "a", "mask": str(tmp_path / name)}], [(16, 16)], 16, 16)
