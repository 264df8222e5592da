"""Lists of images: the schema that every dataset reader fills in, and the splits that a run uses.

An item is ``{"image": path, "label": 0 or 1 or None, "patient": id}``, the latter only where it is known; with it,
``patient_column`` is the column that names it, where that is called otherwise. A reader returns ``{"normal": [...],
"unlabeled": [...], "test": [...]}``; `make_splits` turns that into a run's `SPLITS`.
"""

from __future__ import annotations

import random
from collections.abc import Hashable, Sequence
from fractions import Fraction
from typing import Any

from monai_sagan.errors import SaganError

__all__ = ["SPLITS", "make_splits", "split_published"]

Item = dict[str, Any]
Datalist = dict[str, list[Item]]
Sides = dict[Hashable, bool]  # whether a patient's images are kept for validation

SPLITS = ("train_normal", "train_unlabeled", "valid_normal", "valid_unlabeled", "test")


def make_splits(
    datalist: Datalist,
    anomaly_ratio: float | str | None = None,
    unlabeled_size: int | None = None,
    valid_fraction: float = 0.1,
    seed: int = 0,
) -> Datalist:
    """Carve validation images out of the training ones, by ``seed`` and by patient, and set the anomaly ratio.

    The labels of unlabeled images are read for one purpose, to build a given anomaly ratio; training and the choice
    of a checkpoint never see them.

    Args:
        datalist: ``normal``, ``unlabeled`` and ``test`` items; ``test`` may be empty.
        anomaly_ratio: exact share of abnormal images among the unlabeled ones, in [0, 1]; None takes them all,
            and so does "none", for MONAI drops a None given on the command line.
        unlabeled_size: unlabeled images for training; None takes as many as there are, or with an ``anomaly_ratio``
            as many as there are of both kinds, at most one for each normal training image (as the paper does).
        valid_fraction: share of the normal and of the unlabeled images kept out of training, above 0 and below 1.
        seed: of all choices.

    Returns:
        the items of each of `SPLITS`.

    Raises:
        SaganError: for an empty split, or when there are too few images for the ratio: it says how many are missing.
    """
    if anomaly_ratio == "none":
        anomaly_ratio = None
    if not isinstance(anomaly_ratio, (int, float, type(None))):
        raise SaganError(f"anomaly_ratio is {anomaly_ratio!r}; it is a share from 0 to 1, or none")
    if not 0 < valid_fraction < 1:
        raise SaganError(f"valid_fraction is {valid_fraction}; it is a share above 0 and below 1, for example 0.1")
    for name in ("normal", "unlabeled"):
        if not datalist.get(name):
            raise SaganError(f"the dataset has no {name} images; SAGAN trains on normal and on unlabeled ones")
    if unlabeled_size is not None and (type(unlabeled_size) is not int or unlabeled_size < 1):
        raise SaganError(f"unlabeled_size is {unlabeled_size!r}; it is a whole number of images, 1 or more")
    sides: Sides = {}
    normal, valid_normal = _carve(datalist["normal"], valid_fraction, seed, sides)
    if anomaly_ratio is None:
        unlabeled, valid_unlabeled = _carve(datalist["unlabeled"], valid_fraction, seed + 1, sides)
        if unlabeled_size is not None:
            _check_enough(unlabeled, unlabeled_size, "unlabeled")
            unlabeled = _shuffled(unlabeled, seed + 2)[:unlabeled_size]
    else:
        unlabeled, valid_unlabeled = _carve_ratio(
            datalist["unlabeled"], anomaly_ratio, unlabeled_size, valid_fraction, len(normal), seed + 1, sides
        )
    splits = {
        "train_normal": normal,
        "train_unlabeled": unlabeled,
        "valid_normal": valid_normal,
        "valid_unlabeled": valid_unlabeled,
        "test": list(datalist.get("test", [])),
    }
    for name in SPLITS[:4]:
        if not splits[name]:
            raise SaganError(
                f"the split {name} is empty: {len(datalist['normal'])} normal and {len(datalist['unlabeled'])} "
                f"unlabeled images are too few for valid_fraction {valid_fraction} and anomaly_ratio {anomaly_ratio}"
            )
    return splits


def _carve_ratio(
    items: Sequence[Item], ratio: float, size: int | None, valid_fraction: float, most: int, seed: int, sides: Sides
) -> tuple[list[Item], list[Item]]:
    """Training and validation items with ``ratio`` abnormal ones in each, chosen apart for the two labels."""
    if not 0 <= ratio <= 1:
        raise SaganError(f"anomaly_ratio is {ratio}; it is a share from 0 to 1, or none to take the images as they are")
    if any(item["label"] is None for item in items):
        raise SaganError("anomaly_ratio needs unlabeled images whose labels are known; set it to none for these")
    kinds = [_carve([i for i in items if i["label"] == label], valid_fraction, seed, sides) for label in (0, 1)]
    shares = [1 - Fraction(str(ratio)), Fraction(str(ratio))]
    fits = [int(len(train) / share) for (train, _), share in zip(kinds, shares, strict=True) if share]
    wanted = min(*fits, most) if size is None else size
    counts = [wanted - round(shares[1] * wanted), round(shares[1] * wanted)]
    for (train, _), count, kind in zip(kinds, counts, ("normal", "abnormal"), strict=True):
        _check_enough(train, count, f"unlabeled {kind}")
    if wanted < 1:
        raise SaganError(f"anomaly_ratio {ratio} leaves no unlabeled image: there are too few of a kind, 1 is missing")
    train = [item for (kind, _), count in zip(kinds, counts, strict=True) for item in kind[:count]]
    valid_fits = [int(len(valid) / share) for (_, valid), share in zip(kinds, shares, strict=True) if share]
    valid_size = min(valid_fits)
    abnormal = round(shares[1] * valid_size)
    valid = kinds[0][1][: valid_size - abnormal] + kinds[1][1][:abnormal]
    return _shuffled(train, seed + 1), _shuffled(valid, seed + 2)


def _check_enough(items: Sequence[Item], count: int, kind: str) -> None:
    if len(items) < count:
        raise SaganError(
            f"{count} {kind} images are needed for training and {len(items)} are there: "
            f"{count - len(items)} are missing; lower unlabeled_size or change anomaly_ratio"
        )


def _carve(items: Sequence[Item], fraction: float, seed: int, sides: Sides) -> tuple[list[Item], list[Item]]:
    """Items to train on, and a share of them to validate on; all images of a patient fall on one side.

    ``sides`` holds the patients whose side earlier lists have decided, and takes up the others.
    """
    groups = _by_patient(items)
    keys = sorted(_shuffled(list(groups), seed), key=lambda key: key not in sides)
    free = [key for key in keys if key not in sides]
    short = max(round(fraction * len(items)), 1)
    for key in keys:
        # The share may be overrun by less than it would stay short.
        short -= len(groups[key]) * sides.setdefault(key, len(groups[key]) <= 2 * short)
    if free and len(groups) > 1 and not any(sides[key] for key in groups):
        sides[min(free, key=lambda key: len(groups[key]))] = True  # some must validate, however large each group is
    parts = [[item for key in keys if sides[key] is side for item in groups[key]] for side in (False, True)]
    return parts[0], parts[1]


def _by_patient(items: Sequence[Item]) -> dict[Hashable, list[Item]]:
    groups: dict[Hashable, list[Item]] = {}
    for item in items:
        patient = item.get("patient")
        groups.setdefault(("image", item["image"]) if patient is None else ("patient", patient), []).append(item)
    return groups


def _shuffled(items: Sequence[Any], seed: int) -> list[Any]:
    return random.Random(seed).sample(list(items), len(items))


LISTS = ("normal", "unlabeled", "test")  # of a datalist


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
    findings = _fill(_shuffled(abnormal, seed + 1), dict(zip(LISTS[1:], sizes_abnormal, strict=True)), places)
    healthy = _fill(_shuffled(normal, seed), dict(zip(LISTS, sizes_normal, strict=True)), places)
    return {name: healthy[name] + findings.get(name, []) for name in LISTS}


def _fill(items: Sequence[Item], sizes: dict[str, int], places: dict[Hashable, str]) -> Datalist:
    """Deal out items in order, patient by patient, the first list first; ``places`` has patients that are dealt out."""
    groups = _by_patient(items)
    filled: Datalist = {name: [] for name in sizes}
    for key, group in sorted(groups.items(), key=lambda entry: entry[0] not in places):  # they have no choice
        room = {name: size - len(filled[name]) for name, size in sizes.items()}
        # A list may overflow by less than it would stay short of its size.
        free = next((name for name in sizes if len(group) <= 2 * room[name]), max(sizes, key=lambda name: room[name]))
        filled[places.setdefault(key, free)].extend(group)
    return filled


def _proportional(total: int, counts: Sequence[int]) -> list[int]:
    ends = [round(total * sum(counts[: i + 1]) / sum(counts)) for i in range(len(counts))]
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]
