"""Lists of images: the schema that every dataset reader fills in, and a split for datasets without one.

An item is ``{"image": path, "label": 0 or 1 or None, "patient": id}``, the latter only where it is known;
``patient_column`` names its column where that is not ``patient``. A datalist is ``{"normal": [...],
"unlabeled": [...], "test": [...]}``; a reader returns it in a `Reading`.
"""

from __future__ import annotations

import random
from collections.abc import Hashable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from monai_sagan.errors import SaganError

__all__ = ["Reading"]

Item = dict[str, Any]
Datalist = dict[str, list[Item]]

LISTS = ("normal", "unlabeled", "test")  # of a datalist


class Reading(NamedTuple):
    """The result of a dataset reader.

    >>> reading = Reading({"normal": [{"image": "a.png", "label": 0}], "unlabeled": [], "test": []}, {"in no table": 3})
    >>> len(reading.datalist["normal"]), sum(reading.left_out.values()), dict(reading.notes)
    (1, 3, {})

    Args:
        datalist: the ``normal``, ``unlabeled`` and ``test`` items.
        left_out: the number of images that the datalist lacks, by the reason.
        notes: further remarks for people, such as which columns of a table were read, by topic.
    """

    datalist: Datalist
    left_out: Mapping[str, int]
    notes: Mapping[str, str] = MappingProxyType({})


def split_published(normal: Sequence[Item], abnormal: Sequence[Item], counts: Sequence[int], seed: int) -> Datalist:
    """Split labeled items in the proportions that a paper used, by ``seed`` and by patient.

    Patients with abnormal images never go into ``normal``. The counts are exact where each patient has one image and
    there are as many items as they add up to; otherwise they are in proportion, as near as complete patients allow.

    >>> items = [[{"image": f"{label}-{i}", "label": label} for i in range(4)] for label in (0, 1)]
    >>> {name: len(part) for name, part in split_published(*items, (2, 1, 3, 1, 1), seed=0).items()}
    {'normal': 2, 'unlabeled': 4, 'test': 2}

    Args:
        normal: items of label 0.
        abnormal: items of label 1.
        counts: normal, unlabeled normal, unlabeled abnormal, test normal, test abnormal.
        seed: of all choices.

    Raises:
        SaganError: when the seed is not a whole number.
    """
    if type(seed) is not int:
        raise SaganError(f"the seed of the split is {seed!r}; it is an integer, for example 0")
    sizes_normal = _proportional(len(normal), [counts[0], counts[1], counts[3]])
    sizes_abnormal = _proportional(len(abnormal), [counts[2], counts[4]])
    places: dict[Hashable, str] = {}  # of each patient
    findings = _fill(shuffle_items(abnormal, seed + 1), dict(zip(LISTS[1:], sizes_abnormal, strict=True)), places)
    healthy = _fill(shuffle_items(normal, seed), dict(zip(LISTS, sizes_normal, strict=True)), places)
    return {name: healthy[name] + findings.get(name, []) for name in LISTS}


def _fill(items: Sequence[Item], sizes: dict[str, int], places: dict[Hashable, str]) -> Datalist:
    """Deal out items patient by patient, the first list first; ``places`` has patients that are dealt out."""
    groups = group_by_patient(items)
    filled: Datalist = {name: [] for name in sizes}
    for key, group in sorted(groups.items(), key=lambda entry: entry[0] not in places):  # these have no choice
        room = {name: size - len(filled[name]) for name, size in sizes.items()}
        # A list may overflow by less than it would stay short of its size.
        free = next((name for name in sizes if len(group) <= 2 * room[name]), max(sizes, key=lambda name: room[name]))
        filled[places.setdefault(key, free)].extend(group)
    return filled


def _proportional(total: int, counts: Sequence[int]) -> list[int]:
    ends = [round(total * sum(counts[: i + 1]) / max(sum(counts), 1)) for i in range(len(counts))]
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]


def group_by_patient(items: Sequence[Item]) -> dict[Hashable, list[Item]]:
    """Group items by patient; an item whose patient is unknown is alone."""
    groups: dict[Hashable, list[Item]] = {}
    for item in items:
        patient = item.get("patient")
        groups.setdefault(("image", item["image"]) if patient is None else ("patient", patient), []).append(item)
    return groups


def shuffle_items(items: Sequence[Any], seed: int) -> list[Any]:
    """The items in a random order that ``seed`` decides."""
    return random.Random(seed).sample(list(items), len(items))
