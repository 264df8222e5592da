"""What the page reads of a run's JSON files, as a pattern, and where a file differs from it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

__all__ = ["AUDIT", "GALLERY", "METRICS", "MODEL", "SPLITS", "misfit"]

NUMBER = (int, float)
NAME = (int, float, str)
WORDS: dict[Any, str] = {
    **{int: "a whole number", NUMBER: "a number", str: "a text", NAME: "a number or a text"},
    **{dict: "a dictionary", list: "a list"},
}
ANY = "*"  # every other key

# A type fits its values; a list's only entry fits all of a list's, two fit those of a pair; a dictionary's entries
# fit those keys that there are. Null fits in place of a key's value or interval, too: the page shows it as not known.
BOUNDS = [NUMBER, NUMBER]
FIGURES = {"auc": NUMBER, "auc_ci95": BOUNDS, "ap": NUMBER, "ap_ci95": BOUNDS}
POINT = {
    **{name: NUMBER for name in ("specificity_wanted", "threshold", "sensitivity", "specificity")},
    **{name: BOUNDS for name in ("sensitivity_ci95", "specificity_ci95")},
    "n_valid_normal": int,
    "warning": str,
}
RATE = {"false_positives": NUMBER, "hit_rate": NUMBER, "hit_rate_ci95": BOUNDS}
MODEL = FIGURES | {
    "iteration": int,
    **{name: NUMBER for name in ("aucp", "aucp_se")},
    "no_result": str,
    "operating_points": [POINT],
    "groups": {ANY: {ANY: FIGURES}},
    "localization": {"hit_rates": [RATE], "truth": str, "threshold": NUMBER},
}
METRICS = {
    **{name: MODEL for name in ("aucp", "last", "oracle_test")},
    **{name: int for name in ("n_normal", "n_abnormal")},
    "anomaly_map": {"passes": int, "smoothing": str, "sigma": NUMBER, "top_of_scale": NUMBER},
    "baselines": {ANY: FIGURES},
    "versions": {},
    "warnings": [str],
}
SPLITS = {ANY: [{"image": str, "label": int, "patient": NAME}]}
FINDING = {"count": int, "examples": [{"images": [str]}]}
AUDIT = {
    **{name: FINDING for name in ("exact_duplicates", "near_duplicates", "shared_patients", "normal_and_unlabeled")},
    "splits": {ANY: {name: int for name in ("images", "abnormal", "patients")}},
    "patients_by": {ANY: int},
    "file_kinds": [{"of": str, "property": str, "auc": NUMBER}],
    "warnings": [str],
    "cannot_know": [str],
}
CASE = {
    **{name: str for name in ("file", "image", "kind", "warning", "lesions")},
    **{name: int for name in ("label", "rank")},
    **{name: NUMBER for name in ("score", "p_value")},
}
GALLERY = [CASE]


def misfit(content: Any, shape: Any, place: str = "") -> str | None:
    """What of ``content`` does not fit ``shape``, for example ``test[0] is 3, not a dictionary``; None if all fits.

    Args:
        content: of a JSON file.
        shape: a pattern of this module.
        place: where the content is in the file.
    """
    kind = type(shape) if isinstance(shape, (dict, list)) else shape
    fits = isinstance(content, kind) and not isinstance(content, bool)
    if not fits or (isinstance(content, float) and not math.isfinite(content)):
        return f"{place or 'all of it'} is {_shown(content)}, not {WORDS[kind]}"
    if isinstance(shape, list) and len(shape) == 2 != len(content):
        return f"{place} is a list of {len(content)}, not a pair"
    found = (misfit(value, inner, where) for where, value, inner in _parts(content, shape, place))
    return next((words for words in found if words), None)


def _parts(content: Any, shape: Any, place: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(shape, list):
        yield from ((f"{place}[{i}]", value, shape[-1]) for i, value in enumerate(content))
    if isinstance(shape, dict):
        for name, value in content.items():
            inner = shape.get(name, shape.get(ANY))
            unknown = value is None and (inner is BOUNDS or not isinstance(inner, (dict, list)))
            if inner is not None and not unknown:
                yield f"{place}.{name}" if place else name, value, inner


def _shown(content: Any) -> str:
    return WORDS[type(content)] if isinstance(content, (dict, list)) else json.dumps(content)[:60]
