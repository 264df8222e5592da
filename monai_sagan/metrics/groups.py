"""Metrics per group of images, and whether the group alone predicts the label."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from monai_sagan.errors import SaganError
from monai_sagan.metrics.arrays import Labels, Values, finite_scores, scores_and_truth
from monai_sagan.metrics.images import image_metrics
from monai_sagan.metrics.roc import roc_auc, roc_auc_ci95

if TYPE_CHECKING:
    from monai_sagan.data.datasets.items import Item

__all__ = ["grouped_metrics"]

COLUMNS = ("view", "sex", "age", "site")
UNKNOWN = "unknown"
YEARS = (0, 18, 40, 60, 80)  # where the bands of ages begin
LIMIT = 0.6  # AUC of the group alone that is worth a warning


def grouped_metrics(
    items: Sequence[Item], scores: Values, labels: Labels, columns: Sequence[str] = COLUMNS
) -> dict[str, dict[str, dict[str, Any]]]:
    """``{column: {group: {"n_normal", "n_abnormal", "auc", "auc_ci95", "ap", "ap_ci95"}}}``.

    ``columns`` are keys of the items. A column that no item has is skipped; items without it are the group ``unknown``.
    Ages, in years, are grouped in bands. A group of one class has None for what cannot be computed.

    >>> items = [{"image": "a.png", "view": "PA"}, {"image": "b.png", "view": "PA"}, {"image": "c.png", "view": "AP"}]
    >>> tables = grouped_metrics(items, [0.1, 0.7, 0.4], [0, 1, 1])
    >>> tables["view"]["PA"]["auc"], tables["view"]["AP"]["n_abnormal"]
    (1.0, 1)
    """
    values = finite_scores(scores)
    _check_length(items, len(values), "scores")
    truth = [None if label is None else float(label) for label in _plain(labels)]
    scores_and_truth(values, truth)  # raises for wrong labels
    tables: dict[str, dict[str, dict[str, Any]]] = {}
    for column, groups in _columns(items, columns).items():
        tables[column] = {}
        for group in sorted(set(groups), key=_order):
            members = [i for i, name in enumerate(groups) if name == group]
            own = [truth[i] for i in members]
            counts = {"n_normal": own.count(0), "n_abnormal": own.count(1)}
            tables[column][group] = counts | image_metrics(values[members], own)
    return tables


def group_warnings(
    items: Sequence[Item], labels: Labels, columns: Sequence[str] = COLUMNS, limit: float = LIMIT
) -> list[str]:
    """A sentence for each column whose group alone predicts the label, which a model may learn instead.

    The predictor is the rank of the group by its share of abnormal images; for each image it is learned from the other
    four fifths of the images (stratified, a fixed draw), so that many small groups do not look predictive by chance.
    It warns when the AUC is at least ``limit`` and its 95 % interval above 0.5.
    """
    known = _plain(labels)
    _check_length(items, len(known), "labels")
    place, abnormal = scores_and_truth(np.arange(len(items)), known)
    if min(abnormal.sum(), (~abnormal).sum()) < 2:
        return []
    warnings = []
    for column, groups in _columns(items, columns).items():
        names = np.array(groups)[place.astype(int)]
        ranks = _ranks_by_others(names, abnormal)
        auc, interval = roc_auc(ranks, abnormal), roc_auc_ci95(ranks, abnormal)
        if auc is not None and interval is not None and auc >= limit and interval[0] > 0.5:
            warnings.append(
                f"{column} alone separates normal from abnormal test images with an AUC of {auc:.2f} (95 % interval "
                f"{interval[0]:.2f} to {interval[1]:.2f}); compare within its groups"
            )
    return warnings


def _ranks_by_others(names: NDArray[np.str_], abnormal: NDArray[np.bool_]) -> NDArray[np.float64]:
    """For each image the rank of its group by the share of abnormal ones among the images of the other folds.

    Ranks, for the shares themselves differ a little from fold to fold, against the labels that were held out.
    """
    from scipy.stats import rankdata
    from sklearn.model_selection import StratifiedKFold

    distinct, group = np.unique(names, return_inverse=True)
    folds = StratifiedKFold(min(5, int(abnormal.sum()), int((~abnormal).sum())), shuffle=True, random_state=0)
    ranks = np.empty(len(names))
    for others, held_out in folds.split(names, abnormal):
        count = np.bincount(group[others], minlength=len(distinct))
        found = np.bincount(group[others], weights=abnormal[others], minlength=len(distinct))
        share = np.where(count > 0, found / np.maximum(count, 1), abnormal.mean())  # a group seen nowhere else
        ranks[held_out] = rankdata(share)[group[held_out]]
    return ranks


def _check_length(items: Sequence[Item], number: int, what: str) -> None:
    if len(items) != number:
        raise SaganError(f"there are {len(items)} items but {number} {what}; give one for each item")


def _columns(items: Sequence[Item], columns: Sequence[str]) -> dict[str, list[str]]:
    """The name of each item's group, for each column that some item has."""
    found = {column: [_group(item, column) for item in items] for column in columns}
    return {column: groups for column, groups in found.items() if set(groups) - {UNKNOWN}}


def _group(item: Item, column: str) -> str:
    value = item.get(column)
    if value is None or value == "" or value != value:  # NaN
        return UNKNOWN
    return _band(value, item) if column == "age" else str(value)


def _band(age: Any, item: Item) -> str:
    try:
        years = float(age)
    except (TypeError, ValueError):
        years = math.nan
    if not 0 <= years < math.inf:
        raise SaganError(f"{item.get('image')}: the age is {age!r}; give it in years, as a number, or leave it out")
    start = max(start for start in YEARS if start <= years)
    ends = [end for end in YEARS if end > start]
    return f"{start}-{ends[0] - 1}" if ends else f"{start}+"


def _order(group: str) -> tuple[bool, int, str]:
    """Sort key: ages by number, then names; unknown last."""
    digits = group.rstrip("+").split("-")[0]
    return group == UNKNOWN, int(digits) if digits.isdecimal() else -1, group


def _plain(labels: Labels) -> list[Any]:
    return labels.tolist() if hasattr(labels, "tolist") else list(labels)  # type: ignore[arg-type]
