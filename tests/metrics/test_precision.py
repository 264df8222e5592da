"""The interval of the average precision, against leaving images out by hand and against the truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm
from sklearn.metrics import average_precision_score

from monai_sagan.metrics import average_precision, average_precision_ci95
from monai_sagan.metrics.precision import leave_one_out, tally


@pytest.mark.parametrize("values", [3, 12, 10**6])
def test_leaving_each_image_out(values):
    rng = np.random.default_rng(values)
    labels = rng.permutation(np.arange(30) < 11)
    scores = rng.integers(0, values, 30) + labels
    ones, zeros = tally(scores.astype(float), labels)
    parts = leave_one_out(ones, zeros)
    distinct = np.unique(scores)[::-1]
    for label, (left_out, counts) in zip((1, 0), parts, strict=True):
        assert counts.sum() == (labels == label).sum()
        for i in np.flatnonzero(labels == label):
            wanted = average_precision_score(np.delete(labels, i), np.delete(scores, i))
            assert left_out[distinct == scores[i]] == pytest.approx(wanted, abs=1e-12)


def test_the_interval_holds_the_value_and_narrows():
    rng = np.random.default_rng(0)
    widths = []
    for n in (20, 200, 2000):
        labels = np.arange(n) % 2
        scores = rng.normal(size=n) + labels
        low, high = average_precision_ci95(scores, labels)
        assert 0 < low < average_precision(scores, labels) < high < 1
        widths.append(high - low)
    assert widths[0] > 2 * widths[1] > 4 * widths[2]


def test_extremes():
    labels = np.repeat([0, 1], [30, 10])
    assert average_precision_ci95(np.arange(40), labels) == [pytest.approx(0.025**0.1), 1]
    assert average_precision_ci95(np.ones(40), labels) == [0.25, 0.25]
    low, high = average_precision_ci95(-np.arange(40), labels)
    assert 0 < low < average_precision(-np.arange(40), labels) < high < 0.25


@pytest.mark.parametrize(("auc", "spread"), [(0.75, 1), (0.9, 1), (0.97, 1), (0.9, 2)])
def test_coverage(auc, spread):
    """Of 1,000 draws of 60 + 60 images; three standard errors are 2.1 %."""
    mean = np.sqrt(1 + spread**2) * norm.ppf(auc)
    truth, _ = quad(lambda recall: recall / (recall + norm.sf(mean + spread * norm.isf(recall))), 0, 1)
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 60)
    draws = rng.standard_normal((1000, 120)) * np.where(labels, spread, 1) + mean * labels
    held = [low <= truth <= high for low, high in (average_precision_ci95(scores, labels) for scores in draws)]
    assert 0.929 <= np.mean(held) <= 0.971
