"""Lists of images: the schema that every dataset reader fills in, and the split of those that have none.

An item is ``{"image": path, "label": 0 or 1 or None, "patient": id}``, the latter only where it is known; with it,
``patient_column`` is the column that names it, where that is called otherwise. A datalist is ``{"normal": [...],
"unlabeled": [...], "test": [...]}``; a reader returns it in a `Reading`.
"""

from __future__ import annotations

import random
from collections.abc import Hashable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from monai_sagan.errors import SaganError

__all__ = ["Datalist", "Item", "Reading", "by_patient", "shuffled", "split_published"]

Item = dict[str, Any]
Datalist = dict[str, list[Item]]

LISTS = ("normal", "unlabeled", "test")  # of a datalist


class Reading(NamedTuple):
    """The result of a dataset reader.

    Args:
        datalist: the ``normal``, ``unlabeled`` and ``test`` items.
        left_out: the number of images that the datalist lacks, by the reason.
        notes: further remarks for people, such as which columns of a table were read, by topic.
    """

    datalist: Datalist
    left_out: Mapping[str, int]
    notes: Mapping[str, str] = MappingProxyType({})


def split_published(normal: Sequence[Item], abnormal: Sequence[Item], counts: Sequence[int], seed: int) -> Datalist:
    """Split labeled items into a datalist of the proportions that a paper used, by ``seed``.

    All images of a patient, where it is known, fall into one list, those of patients with abnormal images never into
    ``normal``. The counts are then as near as whole patients allow, and exact where each has one image.

    Args:
        normal: items of label 0.
        abnormal: items of label 1.
        counts: normal, unlabeled normal, unlabeled abnormal, test normal, test abnormal; exact where there are as
            many items as they add up to, else in proportion.
        seed: of all choices.

    Raises:
        SaganError: when the seed is no whole number.
    """
    if type(seed) is not int:
        raise SaganError(f"the seed of the split is {seed!r}; it is a whole number, for example 0")
    sizes_normal = _proportional(len(normal), [counts[0], counts[1], counts[3]])
    sizes_abnormal = _proportional(len(abnormal), [counts[2], counts[4]])
    places: dict[Hashable, str] = {}  # of each patient
    findings = _fill(shuffled(abnormal, seed + 1), dict(zip(LISTS[1:], sizes_abnormal, strict=True)), places)
    healthy = _fill(shuffled(normal, seed), dict(zip(LISTS, sizes_normal, strict=True)), places)
    return {name: healthy[name] + findings.get(name, []) for name in LISTS}


def _fill(items: Sequence[Item], sizes: dict[str, int], places: dict[Hashable, str]) -> Datalist:
    """Deal out items in order, patient by patient, the first list first; ``places`` has patients that are dealt out."""
    groups = by_patient(items)
    filled: Datalist = {name: [] for name in sizes}
    for key, group in sorted(groups.items(), key=lambda entry: entry[0] not in places):  # they have no choice
        room = {name: size - len(filled[name]) for name, size in sizes.items()}
        # A list may overflow by less than it would stay short of its size.
        free = next((name for name in sizes if len(group) <= 2 * room[name]), max(sizes, key=lambda name: room[name]))
        filled[places.setdefault(key, free)].extend(group)
    return filled


def _proportional(total: int, counts: Sequence[int]) -> list[int]:
    ends = [round(total * sum(counts[: i + 1]) / max(sum(counts), 1)) for i in range(len(counts))]
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]


def by_patient(items: Sequence[Item]) -> dict[Hashable, list[Item]]:
    """The items of each patient; an item whose patient is unknown is alone.

    Args:
        items: of one or several lists.
    """
    groups: dict[Hashable, list[Item]] = {}
    for item in items:
        patient = item.get("patient")
        groups.setdefault(("image", item["image"]) if patient is None else ("patient", patient), []).append(item)
    return groups


def shuffled(items: Sequence[Any], seed: int) -> list[Any]:
    """The items in random order.

    Args:
        items: of any kind.
        seed: decides the order.
    """
    return random.Random(seed).sample(list(items), len(items))
