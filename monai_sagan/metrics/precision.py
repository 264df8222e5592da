"""Average precision, the step-wise area under the precision-recall curve, and its interval.

Its interval is a jackknife's: in simulations it keeps its coverage where the bootstrap's fall short, see
``benchmarks/interval_coverage.py``, and it needs no random numbers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from monai_sagan.metrics.arrays import Labels, Values, scores_and_truth
from monai_sagan.metrics.roc import TAIL, exact_interval, logit_interval

__all__ = ["average_precision"]

Counts = NDArray[np.float64]  # of images at each of D distinct scores (D,), the highest first


def average_precision(scores: Values, labels: Labels) -> float | None:
    """The mean over abnormal images of the precision at their scores; None unless there are images of both classes.

    Equal to scikit-learn's ``average_precision_score``. Its chance level is the share of abnormal images, so compare it
    only at the same share.

    >>> round(average_precision([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1]), 3)
    0.833
    """
    values, abnormal = scores_and_truth(scores, labels)
    return float(average_precision_of_counts(*tally(values, abnormal))) if 0 < abnormal.sum() < len(abnormal) else None


def average_precision_ci95(scores: Values, labels: Labels) -> list[float] | None:
    """The 95 % interval [low, high] of `average_precision` at the same numbers of images, in O(N log N).

    Each image is left out once, normal and abnormal ones apart (Arvesen 1969, doi:10.1214/aoms/1177697287); the
    variance goes to the logit scale, with a quantile of Student's t at the degrees of freedom of Satterthwaite 1946
    (doi:10.2307/3002019). Perfect separation has no variance: its interval is that of `roc_auc_ci95`. None unless there
    are two images of each class.

    >>> [round(bound, 3) for bound in average_precision_ci95([0.1, 0.3, 0.2, 0.4, 0.35, 0.8], [0, 0, 0, 1, 0, 1])]
    [0.158, 1.0]
    """
    from scipy.stats import t

    values, abnormal = scores_and_truth(scores, labels)
    if min(abnormal.sum(), (~abnormal).sum()) < 2:
        return None
    if (exact := exact_interval(values[~abnormal], values[abnormal])) and exact[1] == 1:
        return exact
    ones, zeros = tally(values, abnormal)
    value = float(average_precision_of_counts(ones, zeros))
    parts = [(_spread(left_out, weights), weights.sum() - 1) for left_out, weights in leave_one_out(ones, zeros)]
    variance = sum(part for part, _ in parts)
    if variance == 0:  # all scores are the same
        return [value, value]
    freedom = variance**2 / sum(part**2 / degrees for part, degrees in parts)
    return logit_interval(value, variance, float(-t.ppf(TAIL, freedom)))


def tally(values: NDArray[np.float64], abnormal: NDArray[np.bool_]) -> tuple[Counts, Counts]:
    """The numbers of abnormal and of normal images at each of D distinct scores."""
    distinct, place = np.unique(-values, return_inverse=True)
    ones, zeros = (np.bincount(place, weights=kind, minlength=len(distinct)) for kind in (abnormal, ~abnormal))
    return ones.astype(np.float64), zeros.astype(np.float64)


def average_precision_of_counts(ones: Counts, zeros: Counts) -> Counts:
    """Average precision (...) of counts (..., D) of images, as `tally` returns them."""
    true = ones.cumsum(-1)
    total = np.maximum(true + zeros.cumsum(-1), 1)  # 0 before the first image of a resample, where nothing is counted
    return np.asarray((ones * true / total).sum(-1) / true[..., -1], dtype=np.float64)


def leave_one_out(ones: Counts, zeros: Counts) -> list[tuple[Counts, Counts]]:
    """Average precision (D,) without one abnormal, and without one normal, image of each score, each with its count.

    To leave one out changes the precision at its own score and at all lower ones.
    """
    true = ones.cumsum()
    total = true + zeros.cumsum()
    others = np.maximum(total - 1, 1)
    kept = (ones * true / total).cumsum() - ones * true / total  # of the higher scores
    one_less, zero_less = ones * (true - 1) / others, ones * true / others
    abnormal = kept + (ones - 1) * (true - 1) / others + _from_here(one_less) - one_less
    normal = kept + _from_here(zero_less)
    return [(abnormal / (true[-1] - 1), ones), (normal / true[-1], zeros)]


def _from_here(values: Counts) -> Counts:
    return values[::-1].cumsum()[::-1]


def _spread(left_out: Counts, weights: Counts) -> float:
    """The jackknife's variance of values (D,) that occur ``weights`` times."""
    count = weights.sum()
    mean = (weights * left_out).sum() / count
    return float((count - 1) / count * (weights * (left_out - mean) ** 2).sum())
