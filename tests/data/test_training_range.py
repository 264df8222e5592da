"""Images outside the training range are detected, images within it are not."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from monai_sagan.data.datasets.phantom import phantom_image
from monai_sagan.data.training_range import (
    measure_training_range,
    range_deviations,
    training_range_as_json,
    training_range_from_json,
)


@pytest.fixture(scope="module")
def chests():
    return np.stack([phantom_image(0, index, index % 3 == 0)[0][None] for index in range(120)])


def test_values_by_hand():
    images = np.array([[[[0, 100]]], [[[100, 200]]], [[[250, 50]]]], np.uint8)
    training_range = measure_training_range(images)
    assert training_range["mean_image"].tolist() == [[[117, 117]]]
    assert training_range["mean_brightness"] == [50, 150]
    assert training_range["standard_deviation"] == [50, 100]
    assert training_range["likeness"] == [0, 0]  # a constant mean image correlates with no image
    training_range = measure_training_range(images[:2])
    assert training_range["mean_image"].tolist() == [[[50, 150]]]
    assert training_range["likeness"] == pytest.approx([1, 1])


def test_no_training_image_is_unusual(chests):
    training_range = measure_training_range(chests)
    assert not any(range_deviations(image, training_range) for image in chests)


def test_likeness_is_the_correlation(chests):
    training_range = measure_training_range(chests)
    mean = training_range["mean_image"].ravel()
    expected = [np.corrcoef(image.ravel(), mean)[0, 1] for image in chests]
    assert training_range["likeness"] == pytest.approx([min(expected), max(expected)])


def test_images_of_other_kinds(chests):
    training_range = measure_training_range(chests[:100])
    assert sum(bool(range_deviations(image, training_range)) for image in chests[100:]) <= 3
    noise = np.random.default_rng(0).integers(0, 256, (1, 64, 64), np.uint8)
    for other in (noise, 255 - chests[0], chests[0][:, ::-1], np.zeros((1, 64, 64), np.uint8), chests[0] // 4):
        assert range_deviations(other, training_range)
    (line,) = range_deviations(chests[0][:, ::-1], training_range)
    low, high = training_range["likeness"]
    assert line.startswith("likeness to the mean training image ")
    assert line.endswith(f"is outside {low:.2f} to {high:.2f} of the training images")


def test_more_likeness_is_not_unusual(chests):
    training_range = measure_training_range(chests) | {"mean_brightness": [0, 255], "standard_deviation": [0, 255]}
    assert range_deviations(training_range["mean_image"], training_range) == []


def test_chunks_tensors_and_color(chests):
    training_range = measure_training_range(np.tile(chests, (5, 3, 1, 1)))
    assert training_range["mean_image"].shape == (3, 64, 64)
    assert measure_training_range(torch.from_numpy(chests))["likeness"] == pytest.approx(training_range["likeness"])


def test_json_round_trip(chests):
    training_range = measure_training_range(chests)
    again = training_range_from_json(json.loads(json.dumps(training_range_as_json(training_range))))
    assert again.pop("mean_image").tolist() == training_range["mean_image"].tolist()
    assert again == {name: value for name, value in training_range.items() if name != "mean_image"}
    assert training_range_as_json(None) is training_range_from_json(None) is None
    assert range_deviations(chests[0], None) == []


def test_no_images():
    with pytest.raises(ValueError, match="no images"):
        measure_training_range(np.zeros((0, 1, 8, 8), np.uint8))
