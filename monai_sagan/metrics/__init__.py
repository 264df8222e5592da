"""Metrics of anomaly scores and anomaly maps: functions of arrays, and metrics for engines.

Scores (N,) are finite numbers, higher for more abnormal images, and labels (N,) are 0 for normal, 1 for abnormal and
None or NaN for unknown images, which are ignored. Both are arrays, lists, or tensors on any device. Anything else
raises a `monai_sagan.SaganError`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from monai_sagan.metrics.conformal import conformal_p_values
from monai_sagan.metrics.groups import grouped_metrics
from monai_sagan.metrics.images import image_metrics
from monai_sagan.metrics.operating import normal_threshold as normal_threshold
from monai_sagan.metrics.operating import operating_points
from monai_sagan.metrics.precision import average_precision
from monai_sagan.metrics.precision import average_precision_ci95 as average_precision_ci95
from monai_sagan.metrics.roc import delong, roc_auc, roc_auc_ci95
from monai_sagan.metrics.roc import roc_auc_difference_ci95 as roc_auc_difference_ci95

if TYPE_CHECKING:
    from monai_sagan.metrics.epoch import AnomalyAveragePrecision, AnomalyROCAUC
    from monai_sagan.metrics.epoch import AnomalyROCAUCError as AnomalyROCAUCError

__all__ = [
    "AnomalyAveragePrecision",
    "AnomalyROCAUC",
    "average_precision",
    "conformal_p_values",
    "delong",
    "grouped_metrics",
    "image_metrics",
    "operating_points",
    "roc_auc",
    "roc_auc_ci95",
]


def __getattr__(name: str) -> Any:  # the functions need not wait for torch, ignite and MONAI
    if name not in ("AnomalyAveragePrecision", "AnomalyROCAUC", "AnomalyROCAUCError"):
        raise AttributeError(f"module 'monai_sagan.metrics' has no attribute {name!r}")
    return getattr(import_module("monai_sagan.metrics.epoch"), name)
