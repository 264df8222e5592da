"""The worst mistakes and the closest calls are picked."""

from __future__ import annotations

import numpy as np
import pytest

from monai_sagan.pictures.cases import pick_cases


def test_mistakes_and_close_calls():
    scores = [0.1, 0.9, 0.8, 0.2, 0.45, 0.55, 0.7, 0.3, 0.5]
    labels = [0, 0, 0, 1, 0, 1, 1, 1, 0]
    assert pick_cases(scores, labels, 0.5, 2) == [
        (1, "false positive"),
        (2, "false positive"),
        (3, "false negative"),
        (7, "false negative"),
        (8, "middle"),  # at the threshold is not above it
        (4, "middle"),
    ]


@pytest.mark.parametrize("seed", range(20))
def test_properties(seed):
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=60).round(1)
    labels = rng.choice([0, 1, None], size=60).tolist()
    threshold = float(rng.normal())
    picked = pick_cases(scores, labels, threshold, 5)
    assert len({index for index, _ in picked}) == len(picked)
    kinds = {kind: [i for i, k in picked if k == kind] for _, kind in picked}
    alarms, missed = kinds.get("false positive", []), kinds.get("false negative", [])
    every = [i for i in range(60) if labels[i] == 0 and scores[i] > threshold]
    assert len(alarms) == min(5, len(every))
    assert all(labels[i] == 0 and scores[i] > threshold for i in alarms)
    assert all(scores[i] <= min(scores[alarms]) for i in set(every) - set(alarms))
    assert all(labels[i] == 1 and scores[i] <= threshold for i in missed)
    assert scores[missed].tolist() == sorted(scores[missed])
    assert scores[alarms].tolist() == sorted(scores[alarms], reverse=True)
    near = abs(scores - threshold)
    others = set(range(60)) - {i for i, _ in picked}
    assert all(near[i] >= max(near[kinds["middle"]]) for i in others)


@pytest.mark.parametrize(("labels", "threshold"), [([None] * 7, 0.3), ([0, 1] * 3 + [0], None)])
def test_without_labels_or_threshold(labels, threshold):
    picked = pick_cases([3, 1, 4, 1, 5, 9, 2], labels, threshold, 2)
    assert picked == [(5, "highest"), (4, "highest"), (2, "middle"), (0, "middle"), (1, "lowest"), (3, "lowest")]


def test_few_images():
    assert pick_cases([], [], None) == []
    assert pick_cases([1.0], [0], 0.5) == [(0, "false positive")]
    assert pick_cases([1.0, 2.0], [None, None], None, 3) == [(1, "highest"), (0, "highest")]
    assert pick_cases([1.0, 2.0], [0, 1], 1.5, 0) == []
