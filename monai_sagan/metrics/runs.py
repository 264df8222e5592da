"""Many runs of the same thing, seed by seed, as one table."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["summarize_runs"]


def summarize_runs(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean and standard deviation of every number in the ``metrics.json`` of several runs.

    Args:
        runs: their metrics, nested as written; numbers are matched by their keys, operating points by their wanted
            specificity. Texts and intervals are left out.

    Returns:
        nested in the same way; in place of a number ``{"mean": m, "std": s, "runs": [one value a run]}``. ``std`` has
        the denominator n - 1 and is None for fewer than two values. A value that a run lacks is None in ``runs`` and
        left out of the mean.
    """
    keys = dict.fromkeys(key for run in runs for key in run)
    summary = {}
    for key in keys:
        found = _summary([run.get(key) for run in runs])
        if found is not None:
            summary[key] = found
    return summary


def _summary(values: Sequence[Any]) -> dict[str, Any] | None:
    nested = [_as_mapping(value) for value in values]
    if any(nested):
        return summarize_runs(nested) or None
    numbers = [float(value) if _is_number(value) else None for value in values]
    present = [number for number in numbers if number is not None]
    if not present:
        return None
    std = statistics.stdev(present) if len(present) > 1 else None
    return {"mean": statistics.fmean(present), "std": std, "runs": numbers}


def _as_mapping(value: Any) -> Mapping[str, Any]:
    if isinstance(value, Mapping):
        return value
    points = value if isinstance(value, (list, tuple)) else []
    return {f"{p['specificity_wanted']:g}": p for p in points if isinstance(p, Mapping) and "specificity_wanted" in p}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
