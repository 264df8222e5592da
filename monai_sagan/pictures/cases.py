"""The choice of test images for the gallery."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike


def pick_cases(
    scores: ArrayLike, labels: Sequence[int | None], threshold: float | None, count: int = 8
) -> list[tuple[int, str]]:
    """Index and kind of the worst mistakes and the closest calls, at most ``count`` of each; no image comes twice.

    A score above the threshold counts as abnormal. The kinds are ``"false positive"``, the highest scores first;
    ``"false negative"``, the lowest first; ``"middle"``, others, the closest to the threshold first. Without labels or
    threshold they are ``"highest"``, ``"middle"`` (around the median) and ``"lowest"``, each from the highest down.
    """
    values = np.asarray(scores, dtype=float)
    falling = np.argsort(-values, kind="stable").tolist()
    if threshold is None or all(label is None for label in labels):
        start = max((len(falling) - count) // 2, 0)
        low = max(len(falling) - count, 0)
        kinds = [(falling[:count], "highest"), (falling[start : start + count], "middle"), (falling[low:], "lowest")]
    else:
        rising = np.argsort(values, kind="stable").tolist()
        alarms = [i for i in falling if labels[i] == 0 and values[i] > threshold]
        missed = [i for i in rising if labels[i] == 1 and values[i] <= threshold]
        near = np.argsort(np.abs(values - threshold), kind="stable").tolist()
        kinds = [(alarms[:count], "false positive"), (missed[:count], "false negative")]
        shown = {i for picked, _ in kinds for i in picked}
        kinds.append(([i for i in near if i not in shown][:count], "middle"))
    first: dict[int, str] = {}
    for picked, kind in kinds:
        for index in picked:
            first.setdefault(index, kind)
    return list(first.items())
