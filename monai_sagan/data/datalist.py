"""The splits of a run, made from the lists of a dataset reader."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from fractions import Fraction

from monai_sagan.data.datasets.items import Datalist, Item, group_by_patient, shuffle_items
from monai_sagan.errors import SaganError

__all__ = ["Datalist", "Item", "make_splits"]

Sides = dict[Hashable, bool]  # whether a patient's images are for validation

SPLITS = ("train_normal", "train_unlabeled", "valid_normal", "valid_unlabeled", "test")


def make_splits(
    datalist: Datalist,
    anomaly_ratio: float | str | None = None,
    unlabeled_size: int | None = None,
    valid_fraction: float = 0.1,
    seed: int = 0,
) -> Datalist:
    """Carve validation images out of the training ones, by ``seed`` and by patient, and set the anomaly ratio.

    The labels of unlabeled images serve only to build a given anomaly ratio; training and the choice of a checkpoint
    never see them.

    >>> normal = [{"image": f"n{i}.png", "label": 0} for i in range(10)]
    >>> unlabeled = [{"image": f"u{i}.png", "label": i % 2} for i in range(10)]
    >>> splits = make_splits({"normal": normal, "unlabeled": unlabeled, "test": []}, anomaly_ratio=0.25)
    >>> {name: len(items) for name, items in splits.items()}
    {'train_normal': 9, 'train_unlabeled': 5, 'valid_normal': 1, 'valid_unlabeled': 1, 'test': 0}

    Args:
        datalist: ``normal``, ``unlabeled`` and ``test`` items; ``test`` may be empty.
        anomaly_ratio: exact share of abnormal images among the unlabeled ones, in [0, 1]; None takes them all, and
            so
            does "none", for MONAI drops a None given on the command line.
        unlabeled_size: unlabeled images for training; None takes as many as there are, or with an ``anomaly_ratio``
            as
            many as there are of both kinds, at most one for each normal training image (as the paper does).
        valid_fraction: share of the normal and of the unlabeled images kept out of training, above 0 and below 1.
        seed: of all choices.

    Returns:
        the items of each of `SPLITS`.

    Raises:
        SaganError: for an empty split, or when there are too few images for the ratio: it says how many are missing.
    """
    if anomaly_ratio == "none":
        anomaly_ratio = None
    _check_options(datalist, anomaly_ratio, unlabeled_size, valid_fraction)
    assert not isinstance(anomaly_ratio, str)
    sides: Sides = {}
    normal, valid_normal = _carve(datalist["normal"], valid_fraction, seed, sides)
    if anomaly_ratio is None:
        unlabeled, valid_unlabeled = _carve(datalist["unlabeled"], valid_fraction, seed + 1, sides)
        if unlabeled_size is not None:
            _check_enough(unlabeled, unlabeled_size, "unlabeled")
            unlabeled = shuffle_items(unlabeled, seed + 2)[:unlabeled_size]
    else:
        unlabeled, valid_unlabeled = _carve_ratio(
            datalist["unlabeled"], anomaly_ratio, unlabeled_size, valid_fraction, len(normal), seed + 1, sides
        )
    parts = (normal, unlabeled, valid_normal, valid_unlabeled)
    if not all(parts):
        raise SaganError(
            f"the split {SPLITS[[*map(bool, parts)].index(False)]} is empty: {len(datalist['normal'])} normal and "
            f"{len(datalist['unlabeled'])} unlabeled images are too few for valid_fraction {valid_fraction} and "
            f"anomaly_ratio {anomaly_ratio}"
        )
    return dict(zip(SPLITS, (*parts, list(datalist.get("test", []))), strict=True))


def _check_options(datalist: Datalist, ratio: object, unlabeled_size: object, valid_fraction: float) -> None:
    if not isinstance(ratio, (int, float, type(None))):
        raise SaganError(f"anomaly_ratio is {ratio!r}; it is a share from 0 to 1, or none")
    if not 0 < valid_fraction < 1:
        raise SaganError(f"valid_fraction is {valid_fraction}; it is a share above 0 and below 1, for example 0.1")
    for name in ("normal", "unlabeled"):
        if not datalist.get(name):
            raise SaganError(f"the dataset has no {name} images; SAGAN trains on normal and on unlabeled ones")
    if unlabeled_size is not None and (type(unlabeled_size) is not int or unlabeled_size < 1):
        raise SaganError(f"unlabeled_size is {unlabeled_size!r}; it is a number of images, 1 or more")


def _carve_ratio(
    items: Sequence[Item], ratio: float, size: int | None, valid_fraction: float, most: int, seed: int, sides: Sides
) -> tuple[list[Item], list[Item]]:
    """Training and validation items with ``ratio`` abnormal ones in each, chosen separately for each label."""
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
    return shuffle_items(train, seed + 1), shuffle_items(valid, seed + 2)


def _check_enough(items: Sequence[Item], count: int, kind: str) -> None:
    if len(items) < count:
        raise SaganError(
            f"{count} {kind} images are needed for training and {len(items)} are there: "
            f"{count - len(items)} are missing; lower unlabeled_size or change anomaly_ratio"
        )


def _carve(items: Sequence[Item], fraction: float, seed: int, sides: Sides) -> tuple[list[Item], list[Item]]:
    """Items to train on, and a share of them to validate on; all images of a patient are on one side.

    ``sides`` holds the patients whose side is decided, and takes up the others.
    """
    groups = group_by_patient(items)
    keys = sorted(shuffle_items(list(groups), seed), key=lambda key: key not in sides)
    free = [key for key in keys if key not in sides]
    short = max(round(fraction * len(items)), 1)
    for key in keys:
        # The share may be overrun by less than it would stay short.
        short -= len(groups[key]) * sides.setdefault(key, len(groups[key]) <= 2 * short)
    if free and len(groups) > 1 and not any(sides[key] for key in groups):
        sides[min(free, key=lambda key: len(groups[key]))] = True  # some must validate, however large each group is
    parts = [[item for key in keys if sides[key] is side for item in groups[key]] for side in (False, True)]
    return parts[0], parts[1]
