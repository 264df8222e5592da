"""How the scores of each class are distributed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from monai_sagan.errors import SaganError
from monai_sagan.metrics.arrays import Labels, Values, finite_scores, scores_and_truth, split_by_class


def score_histogram(scores: Values, labels: Labels, bins: int = 40) -> dict[str, Any]:
    """Counts of scores in the same equal bins for each class, ready for JSON.

    ``edges`` are bins + 1 numbers from the lowest to the highest score, none without scores; ``normal``, ``abnormal``
    and ``unknown`` count images. Scores too close for so many bins, such as equal ones, lie in the middle of a wider
    range.
    """
    if bins != int(bins) or bins < 1:
        raise SaganError(f"bins is {bins}; it is a whole number, 1 or more")
    every = finite_scores(scores)
    known, _ = scores_and_truth(scores, labels)
    normal, abnormal = split_by_class(scores, labels)
    if not len(every):
        return {"edges": [], "normal": [], "abnormal": [], "unknown": []}
    edges = np.linspace(*_range(every, bins), bins + 1)
    total, of_known, of_normal, of_abnormal = (np.histogram(v, edges)[0] for v in (every, known, normal, abnormal))
    return {
        "edges": edges.tolist(),
        "normal": of_normal.tolist(),
        "abnormal": of_abnormal.tolist(),
        "unknown": (total - of_known).tolist(),
    }


def _range(scores: NDArray[np.float64], bins: int) -> tuple[float, float]:
    low, high = float(scores.min()), float(scores.max())
    least = 2 * bins * float(np.spacing(max(abs(low), abs(high))))  # below, edges would fall on the same number
    room = 0 if high - low >= least else max(least, 0.5)
    return low - room, high + room
