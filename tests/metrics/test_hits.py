"""The pointing game and hit rates."""

from __future__ import annotations

import numpy as np
import pytest
from lesion_images import square

from monai_sagan.metrics.hits import hit_rates, pointing_game
from monai_sagan.metrics.regions import regions_of_boxes, regions_of_masks


def test_pointing_game_by_hand():
    masks = square(3, 16, [(0, 2, 3, 5, 4), (1, 2, 3, 5, 4)])
    maps = np.zeros((3, 16, 16))
    maps[0, 4, 4] = maps[1, 3, 8] = maps[2, 0, 0] = 1  # inside; two columns beside; no lesion there
    regions = regions_of_masks(masks)
    assert pointing_game(maps, regions) == 0.5
    assert [pointing_game(maps, regions, tolerance=t) for t in (1, 1.9, 2, 3)] == [0.5, 0.5, 1, 1]
    assert pointing_game(np.ones((3, 16, 16)), regions) == pytest.approx(20 / 256)


def test_tolerance_stays_within_the_image():
    masks = square(2, 8, [(0, 0, 0, 8, 8)]) | square(2, 8, [(1, 7, 7, 1, 1)])
    maps = np.zeros((2, 8, 8))
    maps[:, 0, 0] = 1
    assert pointing_game(maps, regions_of_masks(masks), tolerance=4) == 0.5


def test_hit_rates_by_hand():
    masks = square(4, 16, [(0, 2, 2, 4, 4), (0, 10, 10, 3, 3), (1, 5, 5, 4, 4)])
    maps = np.zeros((4, 16, 16))
    maps[0, 3, 3], maps[0, 5, 3] = 0.9, 0.8  # two candidates in one lesion: one hit, no false positive
    maps[0, 11, 11] = 0.5
    maps[2, 1, 1], maps[2, 9, 9], maps[3, 0, 15] = 0.7, 0.6, 0.4
    regions = regions_of_masks(masks)
    # In falling order: hit .9, false .7, false .6, hit .5, false .4; the third lesion has no candidate.
    assert hit_rates(maps, regions, 0.1, (0, 0.25, 0.5, 0.75, 2)) == pytest.approx([1 / 3, 1 / 3, 2 / 3, 2 / 3, 2 / 3])
    assert hit_rates(maps, regions, 0.65, (0, 2)) == pytest.approx([1 / 3, 1 / 3])
    assert hit_rates(maps, regions, 2, (0, 2)) == [0, 0]


def test_equal_candidates_are_kept_or_dropped_together():
    masks = square(1, 16, [(0, 2, 2, 4, 4)])
    maps = np.zeros((1, 16, 16))
    maps[0, 3, 3] = maps[0, 10, 10] = 0.5
    assert hit_rates(maps, regions_of_masks(masks), 0.1, (0.5, 1)) == [0, 1]


def test_a_candidate_is_one_connected_part_of_one_image():
    masks = square(2, 16, [(0, 4, 4, 2, 2), (1, 4, 4, 2, 2)])
    maps = np.zeros((2, 16, 16))
    maps[0, range(4, 9), range(4, 9)] = [0.9, 0.5, 0.5, 0.5, 0.5]  # a diagonal that leaves the lesion
    maps[1, 4, 4] = 0.8  # above its end in the stack of images
    assert hit_rates(maps, regions_of_masks(masks), 0.1, (0,)) == [1]


def test_overlapping_boxes_are_hit_by_one_peak():
    regions = regions_of_boxes([[[2, 2, 6, 6], [4, 4, 6, 6]], []], 16, 16)
    maps = np.zeros((2, 16, 16))
    maps[0, 5, 5] = 1
    assert hit_rates(maps, regions, 0.5, (0,)) == [1]
    assert regions.masks.sum() == 36 + 36 - 16
    assert len(regions.image) == 2
