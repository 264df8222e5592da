"""Whether ``scores.csv`` and ``metrics.json`` were written by the same evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monai_sagan import run_files
from monai_sagan.errors import SaganError
from monai_sagan.metrics.arrays import Labels, Values, split_by_class

SLACK = 1e-4  # of an AUC


def check_same_evaluation(
    folder: Path, metrics: Mapping[str, Any], scores: Mapping[str, Values], labels: Labels, fix: str
) -> None:
    """Check that the scores have the AUCs of the metrics.

    Scores are rounded in the file, which may make two of them equal but never changes their order. So the AUC of the
    unrounded ones lies between those where all such pairs came out wrong, and where all came out right.
    """
    for name, values in scores.items():
        block = metrics.get(name)
        normal, abnormal = split_by_class(values, labels)
        if not isinstance(block, Mapping) or not len(normal) or not len(abnormal):
            continue
        auc = block.get("auc")
        low, high = _bounds(normal, abnormal)
        if auc is None or not low - SLACK <= auc <= high + SLACK:
            shown = "no AUC" if auc is None else f"AUC {auc:.4f}"
            raise SaganError(
                f"{folder / run_files.METRICS} has {shown} of {name}, scores.csv gives {(low + high) / 2:.4f}: they "
                f"are from different evaluations; {fix}"
            )


def _bounds(normal: NDArray[np.float64], abnormal: NDArray[np.float64]) -> tuple[float, float]:
    """The AUC where equal scores count nothing, and where they count as much as right ones."""
    ordered = np.sort(normal)
    low = np.searchsorted(ordered, abnormal, "left").mean() / len(normal)
    return float(low), float(np.searchsorted(ordered, abnormal, "right").mean() / len(normal))
