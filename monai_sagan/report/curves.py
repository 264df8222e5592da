"""ROC and precision-recall curves with bands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]

POINTS = 101  # of a band


@dataclass(frozen=True)
class Curve:
    """A curve through (x, y), and the 95 % band of resampled curves, from ``low`` to ``high`` at ``at``."""

    x: Array
    y: Array
    at: Array
    low: Array
    high: Array


def roc_and_precision_recall(
    scores: ArrayLike, labels: ArrayLike, resamples: int = 1000, seed: int = 0
) -> tuple[Curve, Curve]:
    """The ROC curve (x: false positive rate, y: sensitivity) and the precision-recall curve (x: recall, y: precision).

    The bands are pointwise 95 % percentile intervals of a stratified bootstrap. The ROC curve goes straight through
    ties, so its area is the AUC; precision is that of the fewest alarms that reach a recall. Labels are 0 and 1, both
    present.
    """
    values, truth = np.asarray(scores, dtype=float), np.asarray(labels).astype(bool)
    levels, level = np.unique(-values, return_inverse=True)  # the highest score first
    groups = [level[~truth], level[truth]]
    false, true = (_rates(group, len(levels)) for group in groups)
    rng = np.random.default_rng(seed)
    at = np.linspace(0, 1, POINTS)
    sensitivities, precisions = np.empty((resamples, POINTS)), np.empty((resamples, POINTS))
    ratio = len(groups[0]) / len(groups[1])
    for i in range(resamples):
        drawn = [group[rng.integers(len(group), size=len(group))] for group in groups]
        x, y = (_rates(group, len(levels)) for group in drawn)
        sensitivities[i] = np.interp(at, x, y)
        precisions[i] = _precision(x, y, ratio)[np.searchsorted(y, np.maximum(at, at[1] / 2) - 1e-12)]
    roc_low, roc_high = np.percentile(sensitivities, (2.5, 97.5), axis=0)
    pr_low, pr_high = np.percentile(precisions, (2.5, 97.5), axis=0)
    found = np.flatnonzero(np.diff(true, prepend=-1.0))[1:]  # where recall grows
    precision = _precision(false, true, ratio)[found]
    return (
        Curve(false, true, at, roc_low, roc_high),
        Curve(np.concatenate([[0], true[found]]), np.concatenate([precision[:1], precision]), at, pr_low, pr_high),
    )


def _rates(group: Array, levels: int) -> Array:
    """The share of a group at each level or above, from 0 to 1 (levels + 1,)."""
    return np.concatenate([[0.0], np.bincount(group, minlength=levels).cumsum() / len(group)])


def _precision(false: Array, true: Array, ratio: float) -> Array:
    alarms = true + ratio * false
    return np.divide(true, alarms, out=np.ones_like(true), where=alarms > 0)
