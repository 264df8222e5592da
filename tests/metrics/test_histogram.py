"""Histograms of scores."""

from __future__ import annotations

import json

import numpy as np
import pytest

from monai_sagan.metrics.histogram import score_histogram


def test_every_image_is_counted_once():
    rng = np.random.default_rng(0)
    scores, labels = rng.normal(size=100), [(0, 1, None)[i % 3] for i in range(100)]
    found = score_histogram(scores, labels, bins=7)
    assert len(found["edges"]) == 8
    assert (found["edges"][0], found["edges"][-1]) == (scores.min(), scores.max())
    assert [sum(found[name]) for name in ("normal", "abnormal", "unknown")] == [34, 33, 33]
    for name, label in (("normal", 0), ("abnormal", 1), ("unknown", None)):
        own = [score for score, other in zip(scores, labels, strict=True) if other == label]
        assert found[name] == np.histogram(own, found["edges"])[0].tolist()
    json.dumps(found)


def test_constant_and_no_scores():
    found = score_histogram([0.5] * 3, [0, 1, 1], bins=4)
    assert (sum(found["normal"]), sum(found["abnormal"])) == (1, 2)
    assert score_histogram([], []) == {"edges": [], "normal": [], "abnormal": [], "unknown": []}


@pytest.mark.parametrize("first", [0.0, 0.1, -0.1, 0.02, 1e-300, 1.0, 1e8, 1e300])
@pytest.mark.parametrize("apart", [0, 1, 3])
def test_scores_with_no_room_for_bins_between_them(first, apart):
    """Next neighbors among the floating-point numbers are drawn as if they were one."""
    scores = [first, first + apart * abs(np.spacing(first))]
    found = score_histogram(scores, [0, 1])
    assert (np.diff(found["edges"]) > 0).all()
    assert found["edges"][0] <= scores[0] <= scores[1] <= found["edges"][-1]
    assert (sum(found["normal"]), sum(found["abnormal"]), len(found["edges"])) == (1, 1, 41)


@pytest.mark.parametrize("bins", [0, -1, 2.5])
def test_a_number_of_bins_that_cannot_be(bins, refused):
    with refused(f"bins is {bins}", "1 or more"):
        score_histogram([0.1, 0.2], [0, 1], bins)


def test_scores_that_are_no_numbers(refused):
    with refused("1 scores are not finite"):
        score_histogram([1, np.nan], [None, None])
