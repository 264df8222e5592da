"""The figures that every table of results has."""

from __future__ import annotations

from typing import Any

from monai_sagan.metrics.arrays import Labels, Values
from monai_sagan.metrics.precision import average_precision, average_precision_ci95
from monai_sagan.metrics.roc import roc_auc, roc_auc_ci95

__all__ = ["image_metrics"]


def image_metrics(scores: Values, labels: Labels) -> dict[str, Any]:
    """``auc``, ``auc_ci95``, ``ap`` and ``ap_ci95`` as fractions, the intervals as [low, high].

    The values are None unless both classes are present, the intervals unless there are two images of each.

    >>> image_metrics([0.1, 0.8], [0, 1])
    {'auc': 1.0, 'auc_ci95': None, 'ap': 1.0, 'ap_ci95': None}
    """
    return {
        "auc": roc_auc(scores, labels),
        "auc_ci95": roc_auc_ci95(scores, labels),
        "ap": average_precision(scores, labels),
        "ap_ci95": average_precision_ci95(scores, labels),
    }
