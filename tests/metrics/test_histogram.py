"""Histograms of scores."""

from __future__ import annotations

import json

import numpy as np

from monai_sagan.metrics import score_histogram


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


def test_scores_that_are_no_numbers(refused):
    with refused("1 scores are not finite"):
        score_histogram([1, np.nan], [None, None])
