"""Medians by counting."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from monai_sagan.transforms.medians import disc_median, majority


def noise(highest, shape=(3, 33, 47), seed=0):
    return np.random.default_rng(seed).integers(0, highest + 1, shape, np.uint8)


@pytest.mark.parametrize("radius", [0, 1, 2, 3, 9])  # 19 x 19 pixels are more than a uint8 counts
def test_majority_is_the_median_of_a_binary_image(radius):
    images = noise(1)
    expected = [ndimage.median_filter(image, 2 * radius + 1, mode="nearest") for image in images]
    found = majority(torch.from_numpy(images), radius)
    assert found.dtype == torch.uint8
    np.testing.assert_array_equal(found, np.stack(expected))


@pytest.mark.parametrize("radius", [0, 1, 2, 5, 10])
def test_disc_median(radius):
    rows, cols = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disc = rows**2 + cols**2 <= radius**2
    images = noise(30, (2, 24, 31))
    expected = [ndimage.median_filter(image, footprint=disc, mode="nearest") for image in images]
    given = torch.from_numpy(images)
    np.testing.assert_array_equal(disc_median(given, radius, 40), np.stack(expected))
    np.testing.assert_array_equal(disc_median(given, radius, 12), np.stack(expected).clip(max=12))
    np.testing.assert_array_equal(given, images)
