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

__all__ = ["delong", "logit_interval", "roc_auc", "roc_auc_ci95", "roc_auc_difference_ci95", "roc_auc_se"]

TAIL = 0.025  # what a two-sided interval of 95 % leaves out on each side


def roc_auc(scores: Values, labels: Labels) -> float | None:
    """The area under the ROC curve, in [0, 1]; ties count one half; None unless there are images of both classes.

    Equal to scikit-learn's ``roc_auc_score``; by the very shares that DeLong's variance is made of.

    Args:
        scores: (N,), finite, higher is more abnormal.
        labels: (N,), 0 normal, 1 abnormal, None unknown; unknown ones are left out.

    Raises:
        SaganError: for a score that is not finite, or another label.
    """
    normal, abnormal = split_by_class(scores, labels)
    return float(_share_below(normal, abnormal).mean()) if len(normal) and len(abnormal) else None


def roc_auc_ci95(scores: Values, labels: Labels) -> list[float] | None:
    """The 95 % interval of `roc_auc`, [low, high]: DeLong's variance on the logit scale.

    The logit keeps the coverage near an AUC of 1, where the plain interval falls below 90 %; see Kottas et al. 2014
    (doi:10.1186/1471-2288-14-26) and ``benchmarks/interval_coverage.py``. Perfect separation has no variance: then the
    bound is exact, for the smaller class has that many independent pairs, which all came out right. Constant scores
    give [0.5, 0.5]. It is too narrow where few images decide: an AUC of 0.97 or more with far fewer images of one class
    than of the other, or with scores of abnormal images that spread much wider (the benchmark's ``--hard``).

    Args:
        scores: (N,), finite, higher is more abnormal.
        labels: (N,), 0 normal, 1 abnormal, None unknown; unknown ones are left out.

    Returns:
        None unless there are two images of each class.

    Raises:
        SaganError: as `roc_auc`.
    """
    from scipy.special import ndtri

    normal, abnormal = split_by_class(scores, labels)
    fewest = min(len(normal), len(abnormal))
    if fewest < 2:
        return None
    if normal.max() < abnormal.min():
        return [TAIL ** (1 / fewest), 1.0]
    if abnormal.max() < normal.min():
        return [0.0, 1 - TAIL ** (1 / fewest)]
    areas, covariance = _delong([(normal, abnormal)])
    return logit_interval(float(areas[0]), float(covariance[0, 0]), float(-ndtri(TAIL)))


def roc_auc_se(scores: Values, labels: Labels) -> float | None:
    """The standard error of `roc_auc`, by DeLong's variance.

    Perfect separation has no variance: then it is the distance to the exact bound of `roc_auc_ci95` divided by 1.96.

    Args:
        scores: (N,), finite, higher is more abnormal.
        labels: (N,), 0 normal, 1 abnormal, None unknown; unknown ones are left out.

    Returns:
        None unless there are two images of each class.

    Raises:
        SaganError: as `roc_auc`.
    """
    from scipy.special import ndtri

    normal, abnormal = split_by_class(scores, labels)
    fewest = min(len(normal), len(abnormal))
    if fewest < 2:
        return None
    if normal.max() < abnormal.min() or abnormal.max() < normal.min():
        return float((1 - TAIL ** (1 / fewest)) / -ndtri(TAIL))
    return math.sqrt(_delong([(normal, abnormal)])[1][0, 0])


def delong(scores: Sequence[Values], labels: Labels) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The AUCs (K,) of K models on the same images, and their covariance (K, K), in O(K N log N).

    For a paired comparison: the difference of models i and j has the variance ``c[i, i] + c[j, j] - 2 * c[i, j]``.

    Args:
        scores: K columns of N scores each, finite, higher is more abnormal.
        labels: (N,), 0 normal, 1 abnormal, None unknown; unknown ones are left out; two of each class at least, else
            all is NaN.

    Raises:
        SaganError: as `roc_auc`, or when there is no column.
    """
    if not len(scores):
        raise SaganError("there are no scores; give one column or more, each of one model")
    pairs = [split_by_class(column, labels) for column in scores]
    if any(min(len(normal), len(abnormal)) < 2 for normal, abnormal in pairs):
        return np.full(len(pairs), math.nan), np.full((len(pairs), len(pairs)), math.nan)
    return _delong(pairs)


def roc_auc_difference_ci95(scores: Values, others: Values, labels: Labels) -> list[float] | None:
    """The 95 % interval of the AUC of ``scores`` minus that of ``others`` on the same images, by `delong`: [low, high].

    Args:
        scores: (N,), finite, higher is more abnormal.
        others: (N,), those of another model.
        labels: (N,), 0 normal, 1 abnormal, None unknown; unknown ones are left out.

    Returns:
        None unless there are two images of each class.

    Raises:
        SaganError: as `roc_auc`.
    """
    from scipy.special import ndtri

    areas, covariance = delong([scores, others], labels)
    if math.isnan(areas[0]):
        return None
    difference = float(areas[0] - areas[1])
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    reach = float(-ndtri(TAIL)) * math.sqrt(max(variance, 0))
    return [difference - reach, difference + reach]


def _delong(
    pairs: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """`delong` of the scores of normal and of abnormal images."""
    # Share of normal images below each abnormal one, and of abnormal images above each normal one.
    below = [_share_below(normal, abnormal) for normal, abnormal in pairs]
    above = [1 - _share_below(abnormal, normal) for normal, abnormal in pairs]
    covariance = np.cov(below) / len(below[0]) + np.cov(above) / len(above[0])
    return np.mean(below, axis=1), np.atleast_2d(covariance)


def _share_below(reference: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The share of ``reference`` that is below each of ``values``, ties counting one half."""
    ordered = np.sort(reference)
    twice = np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")
    return np.asarray(twice / (2 * len(ordered)), dtype=np.float64)


def logit_interval(value: float, variance: float, quantile: float) -> list[float]:
    """``value`` in (0, 1) plus and minus ``quantile`` standard errors on the logit scale, back in [0, 1].

    Args:
        value: an estimate in (0, 1).
        variance: of the estimate.
        quantile: of the normal distribution, 1.96 for 95 %.
    """
    from scipy.special import expit, logit

    half = quantile * math.sqrt(variance) / (value * (1 - value))
    return [float(expit(logit(value) - half)), float(expit(logit(value) + half))]
