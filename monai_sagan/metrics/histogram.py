"""How the scores of each class are distributed."""

from __future__ import annotations

from typing import Any

import numpy as np

from monai_sagan.metrics.arrays import Labels, Values, finite_scores, scores_and_truth, split_by_class

__all__ = ["score_histogram"]


def score_histogram(scores: Values, labels: Labels, bins: int = 40) -> dict[str, Any]:
    """Counts of scores in the same equal bins for each class, ready for JSON.

    Args:
        scores: (N,), finite.
        labels: (N,), 0 normal, 1 abnormal, None unknown.
        bins: how many, from the lowest score to the highest; the last one includes it.

    Returns:
        ``edges`` (bins + 1 numbers; empty when there are no scores) and the counts (bins) of ``normal``,
        ``abnormal`` and ``unknown`` images.

    Raises:
        SaganError: for a score that is not finite, or another label.
    """
    every = finite_scores(scores)
    known, _ = scores_and_truth(scores, labels)
    normal, abnormal = split_by_class(scores, labels)
    if not len(every):
        return {"edges": [], "normal": [], "abnormal": [], "unknown": []}
    edges = np.histogram_bin_edges(every, bins)
    total, of_known, of_normal, of_abnormal = (np.histogram(v, edges)[0] for v in (every, known, normal, abnormal))
    return {
        "edges": edges.tolist(),
        "normal": of_normal.tolist(),
        "abnormal": of_abnormal.tolist(),
        "unknown": (total - of_known).tolist(),
    }
