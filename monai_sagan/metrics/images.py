"""The figures that every table of results has."""

from __future__ import annotations

from typing import Any

from monai_sagan.metrics.arrays import Labels, Values
from monai_sagan.metrics.precision import average_precision, average_precision_ci95
from monai_sagan.metrics.roc import roc_auc, roc_auc_ci95

__all__ = ["image_metrics"]


def image_metrics(scores: Values, labels: Labels) -> dict[str, Any]:
    """``auc``, ``auc_ci95``, ``ap`` and ``ap_ci95`` as fractions, the intervals as [low, high].

    Args:
        scores: (N,), finite, higher is more abnormal.
        labels: (N,), 0 normal, 1 abnormal, None unknown; unknown ones are left out.

    Returns:
        None for the values unless there are images of both classes, for the intervals unless there are two of each.

    Raises:
        SaganError: for a score that is not finite, or another label.
    """
    return {
        "auc": roc_auc(scores, labels),
        "auc_ci95": roc_auc_ci95(scores, labels),
        "ap": average_precision(scores, labels),
        "ap_ci95": average_precision_ci95(scores, labels),
    }
