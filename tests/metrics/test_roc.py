"""The area under the ROC curve against scikit-learn, against counting, and its interval against the truth."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn
import torch
from scipy.stats import norm
from sklearn.metrics import average_precision_score, roc_auc_score

from monai_sagan.metrics import (
    average_precision,
    delong,
    image_metrics,
    roc_auc,
    roc_auc_ci95,
    roc_auc_difference_ci95,
)
from monai_sagan.metrics.roc import roc_auc_se


def generated(case):
    """Scores with and without ties, constant, nearly equal, and huge ones, of many types; labels of many types."""
    rng = np.random.default_rng(case)
    n = int(rng.integers(2, 60))
    labels = rng.permutation(np.arange(n) < rng.integers(1, n))
    scores = [
        rng.normal(size=n) + labels,
        rng.integers(0, 4, n),  # ties
        np.full(n, 0.3),
        rng.integers(0, 256, n, dtype=np.uint8),
        rng.random(n).astype(np.float32).round(1),
        1 + rng.integers(0, 3, n) * np.finfo(float).eps,  # the closest distinct numbers
        rng.normal(size=n) * 10.0 ** rng.integers(-300, 300),
        labels * 1.0,
    ][case % 8]
    return scores, labels.astype([np.uint8, bool, np.int64, np.float32, np.float64][case % 5])


@sklearn.config_context(skip_parameter_validation=True)  # for speed
def test_1000_cases_are_scikit_learns():
    for case in range(1000):
        scores, labels = generated(case)
        assert roc_auc(scores, labels) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
        assert average_precision(scores, labels) == pytest.approx(average_precision_score(labels, scores), abs=1e-12)


def test_many_uint8_labels_with_ties():
    """MONAI's own ROCAUC overflows here."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 3000, dtype=np.uint8)
    scores = (rng.normal(size=3000) + labels).round(1)
    found = roc_auc(torch.from_numpy(scores), torch.from_numpy(labels))
    assert type(found) is float
    pairs = scores[labels == 1][:, None] - scores[labels == 0]
    assert found == pytest.approx((pairs > 0).mean() + (pairs == 0).mean() / 2, abs=1e-12)


@pytest.mark.parametrize("labels", [[], [0], [1, 1], [None, None], [0, None, 0]])
def test_one_class_has_no_figures(labels):
    scores = np.arange(len(labels))
    assert image_metrics(scores, labels) == {"auc": None, "auc_ci95": None, "ap": None, "ap_ci95": None}


def test_one_image_of_a_class_has_no_interval():
    found = image_metrics([1, 2, 3, 4], [0, 1, 0, 0])
    assert found == {"auc": pytest.approx(1 / 3), "auc_ci95": None, "ap": pytest.approx(1 / 3), "ap_ci95": None}


def test_the_standard_error_is_delongs():
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 2, 50)
    scores = rng.normal(size=50) + labels
    assert roc_auc_se(scores, labels) == pytest.approx(float(np.sqrt(delong([scores], labels)[1][0, 0])))
    assert roc_auc_se([*scores, 9.0], [*labels, None]) == roc_auc_se(scores, labels)
    assert roc_auc_se(np.zeros(50), labels) == 0
    assert roc_auc_se([1, 2, 3], [0, 1, 1]) is None


@pytest.mark.parametrize("sign", [1, -1])
def test_the_standard_error_of_a_perfect_separation_is_not_zero(sign):
    """The variance is, but few images prove little: it reaches from the area to the exact bound."""
    scores, labels = sign * np.arange(6.0), [0, 0, 0, 1, 1, 1]
    low, high = roc_auc_ci95(scores, labels)
    assert 1.96 * roc_auc_se(scores, labels) == pytest.approx(high - low, abs=1e-4)


def test_unknown_labels_change_nothing():
    scores, labels = [0.1, 0.9, 0.4, 0.35, 0.8, 0.2], [0, 1, 0, 1, 1, 0]
    more = image_metrics([*scores, 5.0, -5.0], [*labels, None, None])
    assert more == image_metrics(scores, labels)


def test_delong_of_no_model(refused):
    for none in ([], np.zeros((0, 4))):
        with refused("no scores", "one column or more"):
            delong(none, [0, 1, 0, 1])


def test_delong_by_counting_pairs():
    """The covariance by the definition: placements by comparing all pairs, ties one half."""
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 40)
    columns = [rng.integers(0, 6, 40) + labels * k for k in (0, 1, 3)]
    areas, covariance = delong(columns, labels)
    wins = []
    for column in columns:
        gap = column[labels == 1][:, None] - column[labels == 0]
        wins.append((gap > 0) + 0.5 * (gap == 0))
    np.testing.assert_allclose(areas, [roc_auc(column, labels) for column in columns], atol=1e-12)
    by_abnormal, by_normal = [w.mean(1) for w in wins], [w.mean(0) for w in wins]
    wanted = np.cov(by_abnormal) / len(by_abnormal[0]) + np.cov(by_normal) / len(by_normal[0])
    np.testing.assert_allclose(covariance, wanted, atol=1e-12)
    low, high = roc_auc_ci95(columns[1], labels)
    assert low < areas[1] < high
    assert np.isnan(delong(columns, np.zeros(40))[1]).all()


def test_the_interval_of_a_difference_is_paired():
    generator = np.random.default_rng(5)
    labels = np.arange(60) % 2
    scores = generator.normal(size=60) + labels
    others = scores + generator.normal(size=60)
    areas, covariance = delong([scores, others], labels)
    low, high = roc_auc_difference_ci95(scores, others, labels)
    assert (low + high) / 2 == pytest.approx(areas[0] - areas[1])
    spread = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    assert high - low == pytest.approx(2 * 1.959964 * np.sqrt(spread), rel=1e-6)
    assert roc_auc_difference_ci95([*scores, 9], [*others, 0], [*labels, None]) == [low, high]
    assert roc_auc_difference_ci95(scores, scores, labels) == [0, 0]
    assert roc_auc_difference_ci95([1, 2, 3], [1, 2, 3], [0, 1, 1]) is None


def test_one_column_has_a_covariance_of_one_by_one():
    areas, covariance = delong([[1, 2, 3, 4]], [0, 1, 0, 1])
    assert (areas.shape, covariance.shape) == ((1,), (1, 1))


def test_the_interval_does_not_depend_on_units_or_order():
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 2, 100)
    scores = rng.random(100) + 0.4 * labels
    found = roc_auc_ci95(scores, labels)
    shuffled = rng.permutation(100)
    assert roc_auc_ci95(np.exp(scores[shuffled]), labels[shuffled]) == pytest.approx(found)
    low, high = roc_auc_ci95(-scores, labels)
    assert (1 - high, 1 - low) == pytest.approx(tuple(found))


@pytest.mark.parametrize(("n_normal", "n_abnormal"), [(2, 2), (10, 300), (50, 20)])
def test_perfect_separation(n_normal, n_abnormal):
    labels = np.repeat([0, 1], [n_normal, n_abnormal])
    low, high = roc_auc_ci95(np.arange(len(labels)), labels)
    assert high == 1
    # With exactly this AUC all independent pairs come out right in 2.5 % of all draws.
    assert low ** min(n_normal, n_abnormal) == pytest.approx(0.025)
    assert roc_auc_ci95(-np.arange(len(labels)), labels) == [0, pytest.approx(1 - low)]


def test_constant_scores_tell_nothing():
    assert roc_auc_ci95(np.ones(20), np.arange(20) % 2) == [0.5, 0.5]


@pytest.mark.parametrize("auc", [0.75, 0.9, 0.97])
def test_coverage(auc):
    """Of 2,000 draws of 60 + 60 images; three standard errors are 1.5 %."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 60)
    noise = rng.standard_normal((2000, 120)) + np.sqrt(2) * norm.ppf(auc) * labels
    held = [low <= auc <= high for low, high in (roc_auc_ci95(scores, labels) for scores in noise)]
    assert 0.935 <= np.mean(held) <= 0.965
