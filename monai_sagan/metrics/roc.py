"""The area under the ROC curve, its interval, and the covariance of several.

DeLong et al. 1988 (doi:10.2307/2531595); by sorting, so as fast as with the midranks of Sun and Xu 2014
(doi:10.1109/LSP.2014.2337313).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from monai_sagan.errors import SaganError
from monai_sagan.metrics.arrays import Labels, Values, split_by_class

__all__ = ["delong", "roc_auc", "roc_auc_ci95"]

Array = NDArray[np.float64]

TAIL = 0.025  # what a two-sided interval of 95 % leaves out on each side


def normal_quantile() -> float:
    """The quantile of the normal distribution for intervals of 95 %, 1.96."""
    from scipy.special import ndtri

    return float(-ndtri(TAIL))


def roc_auc(scores: Values, labels: Labels) -> float | None:
    """The area under the ROC curve, in [0, 1]; None unless both classes are present.

    Ties count one half. Equal to scikit-learn's ``roc_auc_score``.

    >>> roc_auc([0.1, 0.4, 0.35, 0.8, 0.9], [0, 0, 1, 1, None])
    0.75
    """
    normal, abnormal = split_by_class(scores, labels)
    return float(_share_below(normal, abnormal).mean()) if len(normal) and len(abnormal) else None


def roc_auc_ci95(scores: Values, labels: Labels) -> list[float] | None:
    """The 95 % interval [low, high] of `roc_auc`; None unless there are two images of each class.

    DeLong's variance on the logit scale, which keeps the coverage near an AUC of 1, where the plain interval falls
    below 90 %; see Kottas et al. 2014 (doi:10.1186/1471-2288-14-26) and ``benchmarks/interval_coverage.py``. Perfect
    separation has no variance: its interval is exact. Constant scores give [0.5, 0.5]. The interval is too narrow where
    few images decide: an AUC of 0.97 or more with far fewer images of one class than of the other, or with scores of
    abnormal images that spread much wider (the benchmark's ``--hard``).

    >>> [round(bound, 3) for bound in roc_auc_ci95([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1])]
    [0.069, 0.992]
    """
    normal, abnormal = split_by_class(scores, labels)
    if min(len(normal), len(abnormal)) < 2:
        return None
    if exact := exact_interval(normal, abnormal):
        return exact
    areas, covariance = _delong([(normal, abnormal)])
    return logit_interval(float(areas[0]), float(covariance[0, 0]), normal_quantile())


def roc_auc_se(scores: Values, labels: Labels) -> float | None:
    """The standard error of `roc_auc`, by DeLong's variance; None unless there are two images of each class.

    Perfect separation has no variance: then it is the width of the exact interval divided by 1.96.
    """
    normal, abnormal = split_by_class(scores, labels)
    if min(len(normal), len(abnormal)) < 2:
        return None
    if exact := exact_interval(normal, abnormal):
        return (exact[1] - exact[0]) / normal_quantile()
    return math.sqrt(_delong([(normal, abnormal)])[1][0, 0])


def exact_interval(normal: Array, abnormal: Array) -> list[float] | None:
    """The 95 % interval of the AUC of perfectly separated classes, else None.

    The smaller class has that many independent pairs, which all came out right, or all wrong.
    """
    bound = TAIL ** (1 / min(len(normal), len(abnormal)))
    if normal.max() < abnormal.min():
        return [bound, 1.0]
    return [0.0, 1 - bound] if abnormal.max() < normal.min() else None


def delong(scores: Sequence[Values], labels: Labels) -> tuple[Array, Array]:
    """The AUCs (K,) of K models on the same images, and their covariance (K, K), in O(K N log N).

    For a paired comparison: the difference of models i and j has the variance ``c[i, i] + c[j, j] - 2 * c[i, j]``. All
    values are NaN with fewer than two images of a class.

    >>> areas, covariance = delong([[0.1, 0.4, 0.35, 0.8], [0.1, 0.2, 0.2, 0.3]], [0, 0, 1, 1])
    >>> areas.tolist(), covariance.shape
    ([0.75, 0.875], (2, 2))
    """
    if not len(scores):
        raise SaganError("no scores; give one column or more, each of one model")
    pairs = [split_by_class(column, labels) for column in scores]
    if any(min(len(normal), len(abnormal)) < 2 for normal, abnormal in pairs):
        return np.full(len(pairs), math.nan), np.full((len(pairs), len(pairs)), math.nan)
    return _delong(pairs)


def roc_auc_difference_ci95(scores: Values, others: Values, labels: Labels) -> list[float] | None:
    """The 95 % interval [low, high] of the AUC of ``scores`` minus that of ``others`` on the same images, by `delong`.

    None unless there are two images of each class.

    >>> scores, others = [0.1, 0.2, 0.8, 0.3, 0.9, 0.7], [0.3, 0.9, 0.2, 0.4, 0.1, 0.8]
    >>> [round(bound, 2) for bound in roc_auc_difference_ci95(scores, others, [0, 0, 0, 1, 1, 1])]
    [-0.66, 1.33]
    """
    areas, covariance = delong([scores, others], labels)
    if math.isnan(areas[0]):
        return None
    difference = float(areas[0] - areas[1])
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    reach = normal_quantile() * math.sqrt(max(variance, 0))
    return [difference - reach, difference + reach]


def _delong(pairs: Sequence[tuple[Array, Array]]) -> tuple[Array, Array]:
    """`delong` of the scores of normal and of abnormal images."""
    # Share of normal images below each abnormal one, and of abnormal images above each normal one.
    below = [_share_below(normal, abnormal) for normal, abnormal in pairs]
    above = [1 - _share_below(abnormal, normal) for normal, abnormal in pairs]
    covariance = np.cov(below) / len(below[0]) + np.cov(above) / len(above[0])
    return np.mean(below, axis=1), np.atleast_2d(covariance)


def _share_below(reference: Array, values: Array) -> Array:
    """The share of ``reference`` that is below each of ``values``, ties counting one half."""
    ordered = np.sort(reference)
    twice = np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")
    return np.asarray(twice / (2 * len(ordered)), dtype=np.float64)


def logit_interval(value: float, variance: float, quantile: float) -> list[float]:
    """``value`` in (0, 1) plus and minus ``quantile`` standard errors on the logit scale, back in [0, 1]."""
    from scipy.special import expit, logit

    half = quantile * math.sqrt(variance) / (value * (1 - value))
    return [float(expit(logit(value) - half)), float(expit(logit(value) + half))]
