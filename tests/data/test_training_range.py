"""Images that are unlike the training images are told, those that are like them are not."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from monai_sagan.data.datasets.phantom import phantom_image
from monai_sagan.data.training_range import compare_typical, measure_typical, typical_as_json, typical_from_json


@pytest.fixture(scope="module")
def chests():
    return np.stack([phantom_image(0, index, index % 3 == 0)[0][None] for index in range(120)])


def test_values_by_hand():
    images = np.array([[[[0, 100]]], [[[100, 200]]], [[[250, 50]]]], np.uint8)
    typical = measure_typical(images)
    assert typical["mean_image"].tolist() == [[[117, 117]]]
    assert typical["mean_brightness"] == [50, 150]
    assert typical["standard_deviation"] == [50, 100]
    assert typical["likeness"] == [0, 0]  # of an even image none is like or unlike
    typical = measure_typical(images[:2])
    assert typical["mean_image"].tolist() == [[[50, 150]]]
    assert typical["likeness"] == pytest.approx([1, 1])


def test_no_training_image_is_unusual(chests):
    typical = measure_typical(chests)
    assert not any(compare_typical(image, typical) for image in chests)


def test_likeness_is_the_correlation(chests):
    typical = measure_typical(chests)
    mean = typical["mean_image"].ravel()
    expected = [np.corrcoef(image.ravel(), mean)[0, 1] for image in chests]
    assert typical["likeness"] == pytest.approx([min(expected), max(expected)])


def test_images_of_other_kinds(chests):
    typical = measure_typical(chests[:100])
    assert sum(bool(compare_typical(image, typical)) for image in chests[100:]) <= 3
    noise = np.random.default_rng(0).integers(0, 256, (1, 64, 64), np.uint8)
    for other in (noise, 255 - chests[0], chests[0][:, ::-1], np.zeros((1, 64, 64), np.uint8), chests[0] // 4):
        assert compare_typical(other, typical)
    (line,) = compare_typical(chests[0][:, ::-1], typical)
    low, high = typical["likeness"]
    assert line.startswith("likeness to the mean training image ")
    assert line.endswith(f"is outside {low:.2f} to {high:.2f} of the training images")


def test_more_likeness_is_not_unusual(chests):
    typical = measure_typical(chests) | {"mean_brightness": [0, 255], "standard_deviation": [0, 255]}
    assert compare_typical(typical["mean_image"], typical) == []


def test_chunks_tensors_and_color(chests):
    typical = measure_typical(np.tile(chests, (5, 3, 1, 1)))
    assert typical["mean_image"].shape == (3, 64, 64)
    assert measure_typical(torch.from_numpy(chests))["likeness"] == pytest.approx(typical["likeness"])


def test_json_round_trip(chests):
    typical = measure_typical(chests)
    again = typical_from_json(json.loads(json.dumps(typical_as_json(typical))))
    assert again.pop("mean_image").tolist() == typical["mean_image"].tolist()
    assert again == {name: value for name, value in typical.items() if name != "mean_image"}
    assert typical_as_json(None) is typical_from_json(None) is None
    assert compare_typical(chests[0], None) == []


def test_no_images():
    with pytest.raises(ValueError, match="no images"):
        measure_typical(np.zeros((0, 1, 8, 8), np.uint8))
