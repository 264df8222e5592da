"""Scores and labels of any kind, and those that are refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from monai_sagan.data.training_range import measure_training_range, range_deviations
from monai_sagan.metrics.arrays import finite_scores, on_host, scores_and_truth, split_by_class
from monai_sagan.metrics.localization import localization_metrics

SCORES, LABELS = [3, 1, 2, 5], [0, 1, 0, 1]
KINDS = [np.uint8, np.int64, np.float16, np.float32, np.float64]


@pytest.mark.parametrize("kind", [*KINDS, torch.uint8, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("label_kind", [*KINDS, bool, torch.bool, torch.uint8, torch.float16])
def test_every_number_type_is_the_same(kind, label_kind):
    def make(values, kind):
        return torch.tensor(values).to(kind) if isinstance(kind, torch.dtype) else np.array(values).astype(kind)

    normal, abnormal = split_by_class(make(SCORES, kind), make(LABELS, label_kind))
    assert (normal.tolist(), abnormal.tolist()) == ([3, 2], [1, 5])
    assert normal.dtype == np.float64


def test_columns_and_tensors_with_gradients():
    scores = torch.tensor(SCORES, dtype=torch.float32, requires_grad=True)[:, None]
    values, abnormal = scores_and_truth(scores, torch.tensor(LABELS)[:, None])
    assert values.tolist() == SCORES
    assert abnormal.tolist() == [False, True, False, True]


@pytest.mark.parametrize("unknown", [None, math.nan])
def test_unknown_labels_are_left_out(unknown):
    values, abnormal = scores_and_truth(SCORES, [0, unknown, unknown, 1])
    assert (values.tolist(), abnormal.tolist()) == ([3, 5], [False, True])
    assert len(scores_and_truth(SCORES, [unknown] * 4)[0]) == 0
    assert len(scores_and_truth([], [])[0]) == 0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_scores_that_are_no_numbers(value, refused):
    with refused("2 scores are not finite"):
        scores_and_truth([0.1, value, value], [0, None, 1])


@pytest.mark.parametrize(
    ("scores", "labels", "parts"),
    [
        ([1, 2], [0, 2], ["2 is not a label", "1 is abnormal"]),
        ([1, 2], [0, -1], ["-1 is not a label"]),
        ([1, 2], [0, math.inf], ["inf is not a label"]),
        ([1, 2], [0.5, 1], ["0.5 is not a label"]),
        ([1, 2], [0], ["2 scores", "1 labels"]),
        ([1, 2], ["normal", "abnormal"], ["labels are not plain numbers"]),
        (["high", "low"], [0, 1], ["scores are not plain numbers"]),
        ([[1, 2], [3, 4]], [0, 1], ["(2, 2)", "one number an image"]),
        (5, [1], ["shape ()"]),
    ],
)
def test_what_is_refused(scores, labels, parts, refused):
    with refused(*parts):
        scores_and_truth(scores, labels)


def test_scores_alone(refused):
    assert finite_scores(torch.tensor([1, 2], dtype=torch.uint8)).tolist() == [1, 2]
    with refused("1 scores are not finite"):
        finite_scores([1, math.nan])


class Elsewhere(torch.Tensor):
    """Like a tensor on a GPU it does not become an array before it is brought to the CPU."""

    def __array__(self, *_):
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    def cpu(self):
        return self.as_subclass(torch.Tensor)


def elsewhere(values, kind=torch.float32):
    return torch.tensor(values, dtype=kind).as_subclass(Elsewhere)


def test_tensors_of_a_gpu_are_taken():
    with pytest.raises(TypeError):
        np.asarray(elsewhere(SCORES))
    for scores in (elsewhere(SCORES), [elsewhere(x) for x in SCORES], elsewhere(SCORES, torch.bfloat16)):
        normal, abnormal = split_by_class(scores, [elsewhere(x) for x in LABELS])
        assert (normal.tolist(), abnormal.tolist()) == ([3, 2], [1, 5])
    assert on_host([1, None]) == [1, None]


def test_maps_and_images_of_a_gpu_are_taken():
    maps = [[[0.0, 1.0], [0.5, 0.25]]] * 2
    items = [{"image": "a", "label": 1, "boxes": [[1, 0, 1, 1]]}, {"image": "b", "label": 0}]
    found, expected = (localization_metrics(x, items, [(2, 2)] * 2, 0.9) for x in (elsewhere(maps), np.array(maps)))
    assert found == expected
    images = np.arange(32, dtype=np.uint8).reshape(2, 1, 4, 4)
    there = elsewhere(images.tolist(), torch.uint8)
    assert measure_training_range(there)["mean_brightness"] == measure_training_range(images)["mean_brightness"]
    assert range_deviations(there[0], measure_training_range(images)) == []
