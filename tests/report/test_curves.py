"""The curves have the areas that the metrics state, and bands that hold them."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from monai_sagan.report.curves import roc_and_precision_recall


def draw(count, seed, digits=None, distance=1.0):
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1], count)
    scores = rng.normal(size=2 * count) + distance * labels
    return (scores if digits is None else scores.round(digits)), labels


@pytest.mark.parametrize("digits", [None, 1, 0])  # with many ties, too
@pytest.mark.parametrize("seed", range(5))
def test_areas_are_auc_and_ap(digits, seed):
    scores, labels = draw(40, seed, digits)
    roc, recall = roc_and_precision_recall(scores, labels, resamples=2)
    assert np.trapezoid(roc.y, roc.x) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    steps = (np.diff(recall.x) * recall.y[1:]).sum()
    assert steps == pytest.approx(average_precision_score(labels, scores), abs=1e-12)
    assert (roc.x[0], roc.y[0], roc.x[-1], roc.y[-1]) == (0, 0, 1, 1)
    assert (recall.x[0], recall.x[-1]) == (0, 1)
    assert (np.diff(recall.x) > 0).all()


def test_bands_hold_the_curves_and_shrink():
    widths = []
    for count in (50, 800):
        curves = roc_and_precision_recall(*draw(count, 0), resamples=300)
        for curve in curves:
            assert ((curve.low >= 0) & (curve.low <= curve.high) & (curve.high <= 1)).all()
            inside = slice(5, 96)
            shown = np.interp(curve.at, curve.x, curve.y)[inside]
            held = (curve.low[inside] <= shown) & (shown <= curve.high[inside])
            assert held.mean() > 0.95
        assert (np.diff(curves[0].low) >= 0).all()
        widths.append([(curve.high - curve.low).mean() for curve in curves])
    assert (np.array(widths[1]) < 0.5 * np.array(widths[0])).all()


def test_coverage_of_the_band():
    """At one place the band of many tests holds the true sensitivity about as often as it says."""
    from scipy.stats import norm

    truth = norm.sf(norm.isf(0.2) - 1.0)  # at a false positive rate of 0.2
    held = 0
    for seed in range(60):
        roc, _ = roc_and_precision_recall(*draw(60, seed), resamples=100)
        place = int(np.argmin(abs(roc.at - 0.2)))
        held += roc.low[place] <= truth <= roc.high[place]
    assert 0.87 <= held / 60 <= 1.0


def test_same_seed_same_band():
    scores, labels = draw(30, 3)
    one, other, third = (roc_and_precision_recall(scores, labels, 20, seed)[0] for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.low, other.low)
    assert (one.low != third.low).any()


def test_extremes():
    roc, recall = roc_and_precision_recall([1, 2, 3, 4], [0, 0, 1, 1], 50)
    assert (roc.low == 1).all()
    assert (recall.low == 1).all()
    roc, recall = roc_and_precision_recall([5.0] * 4, [0, 1, 0, 1], 50)  # nothing is told apart
    np.testing.assert_allclose(roc.low, roc.at)
    np.testing.assert_allclose(recall.high, 0.5)
    roc, recall = roc_and_precision_recall([1, 0], [0, 1], 5)  # the wrong way around
    assert np.trapezoid(roc.y, roc.x) == 0
    assert recall.y.tolist() == [0.5, 0.5]
