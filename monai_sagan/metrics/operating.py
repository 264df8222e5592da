"""Thresholds from validation normals alone, and their sensitivity and specificity on the test images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from monai_sagan.errors import SaganError
from monai_sagan.metrics.arrays import Labels, Values, finite_scores, split_by_class
from monai_sagan.metrics.conformal import cut_points

__all__ = ["operating_points"]

SPECIFICITY = 0.95  # of the flag


def operating_points(
    valid_normal_scores: Values, scores: Values, labels: Labels, specificities: Sequence[float] = (0.95, 0.9)
) -> list[dict[str, Any]]:
    """Sensitivity and specificity on the test images at the threshold for each wanted specificity.

    An image is called abnormal when its score is above the threshold (see `normal_threshold`). The intervals are
    Wilson's, of the test images at this threshold. Values without images are None, and all are without enough
    validation normals: ``warning`` says how many it takes.

    >>> points = operating_points([n / 100 for n in range(40)], [0.1, 0.3, 0.8], [0, 0, 1], specificities=[0.95])
    >>> {name: points[0][name] for name in ("sensitivity", "specificity", "n_valid_normal")}
    {'sensitivity': 1.0, 'specificity': 1.0, 'n_valid_normal': 40}
    """
    valid = finite_scores(valid_normal_scores)
    normal, abnormal = split_by_class(scores, labels)
    points = []
    for wanted in specificities:
        threshold = normal_threshold(valid, wanted)
        point: dict[str, Any] = {"specificity_wanted": float(wanted), "threshold": threshold}
        for name, right in (("sensitivity", abnormal > (threshold or 0)), ("specificity", normal <= (threshold or 0))):
            known = threshold is not None and len(right) > 0
            point[name] = float(right.mean()) if known else None
            point[f"{name}_ci95"] = proportion_ci95(int(right.sum()), len(right)) if known else None
        point["n_valid_normal"] = len(valid)
        if threshold is None:
            share = _exact(wanted)
            point["warning"] = (
                f"a specificity of {wanted:g} takes {math.ceil(share / (1 - share))} validation normals or more, "
                f"there are {len(valid)}; train with a larger --valid_fraction or more normal images"
            )
        points.append(point)
    return points


def normal_threshold(valid_normal_scores: Values, specificity: float) -> float | None:
    """The score that a new normal image exceeds with a chance of at most ``1 - specificity``.

    It lies just above the ceil((n + 1) * specificity)-th smallest of the n scores, see `cut_points`: with this
    finite-sample quantile the chance holds for any n, over draws of the validation normals and of the new one, as for
    `conformal_p_values`; a score is above it exactly when its p-value is at most ``1 - specificity``. None when n is
    below ``specificity / (1 - specificity)``.

    >>> normal_threshold([0.1, 0.2, 0.3], 0.75)
    0.30001
    >>> normal_threshold([0.1, 0.2, 0.3], 0.9)
    """
    if not 0 < specificity < 1:
        raise SaganError(f"the wanted specificity is {specificity}; it is a share above 0 and below 1, as 0.95")
    cuts = cut_points(finite_scores(valid_normal_scores))
    rank = math.ceil((len(cuts) + 1) * _exact(specificity))
    return float(cuts[rank - 1]) if rank <= len(cuts) else None


def flag_score(score: float, threshold: float | None, warning: str = "") -> bool | None:
    """Whether an image counts as abnormal; None without a threshold, or where nothing is known about its score."""
    return None if threshold is None or warning else score > threshold


def proportion_ci95(count: int, total: int) -> list[float]:
    """Wilson's 95 % interval of the share ``count / total`` (1927, doi:10.1080/01621459.1927.10502953)."""
    from scipy.stats import binomtest

    interval = binomtest(count, total).proportion_ci(0.95, method="wilson")
    return [float(interval.low), float(interval.high)]


def _exact(share: float) -> Fraction:
    """The share as written: in binary, 20 * 0.95 might not be 19."""
    return Fraction(str(float(share)))
