"""Intervals over both test sets and seeds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Estimate:
    """The mean over runs with a 95 % interval."""

    mean: float  # over runs
    sd: float | None  # standard deviation of the runs; None for one run
    low: float  # end of the interval
    high: float  # end of the interval


def ap_covariance(scores: Array, labels: Labels) -> tuple[Array, Array]:
    """Average precision (M,) of M scorings (M, N) of the same images, and its covariance (M, M) over test sets.

    By the jackknife of `average_precision_ci95`; ``labels`` has two or more of each class.
    """
    from monai_sagan.metrics.precision import average_precision, leave_one_out, tally

    values = np.array([average_precision(row, labels) for row in scores], np.float64)
    left_out: list[list[Array]] = []
    for row in scores:
        place = np.unique(-row, return_inverse=True)[1]  # of each image among the distinct scores
        (abnormal, _), (normal, _) = leave_one_out(*tally(row, labels == 1))
        left_out.append([abnormal[place[labels == 1]], normal[place[labels == 0]]])
    kinds = [np.stack(rows) for rows in zip(*left_out, strict=True)]
    parts = [(rows.shape[1] - 1) ** 2 / rows.shape[1] * np.atleast_2d(np.cov(rows)) for rows in kinds]
    return values, np.asarray(sum(parts))


def estimate(values: Array, covariance: Array, trials: int | None = None) -> Estimate:
    """The mean of K runs with a 95 % interval for other test sets and, where K > 1, other seeds.

    reach^2 = z^2 (mean test-set covariance of two different runs) + t^2 (variance between the runs) / K

    with the 97.5 % quantiles z of the normal and t of Student's distribution with K - 1 degrees of freedom. The first
    term is due to the draw of the test images, the second to the seeds. It is never less than z^2 times the test-set
    variance of these runs' mean, which seeds that agree by chance would hide; for one run it is that alone.

    ``trials``, the images of the rarer kind, is for shares between 0 and 1: the interval is then made on the logit
    scale, and for a perfect 1 it is the exact one of as many trials that all succeeded, as in `roc_auc_ci95`. None is
    for differences.
    """
    from scipy.special import ndtri, stdtrit

    from monai_sagan.metrics.roc import TAIL, logit_interval

    count, mean = len(values), float(values.mean())
    z = float(-ndtri(TAIL))
    variance = float(covariance.mean())  # of the mean of these very runs; below, in units of z^2
    if count > 1:
        t = float(-stdtrit(count - 1, TAIL))
        of_test = float(covariance[~np.eye(count, dtype=bool)].mean())
        variance = max(variance, of_test + (t / z) ** 2 * float(values.var(ddof=1)) / count)
    sd = float(values.std(ddof=1)) if count > 1 else None
    if trials is not None and mean in (0, 1):
        bound = TAIL ** (1 / trials)
        return Estimate(mean, sd, *((bound, 1.0) if mean else (0.0, 1 - bound)))
    if trials is not None:
        return Estimate(mean, sd, *logit_interval(mean, variance, z))
    reach = z * variance**0.5
    return Estimate(mean, sd, mean - reach, mean + reach)
