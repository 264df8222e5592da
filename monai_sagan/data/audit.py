"""What the splits share that they must not: the same image, nearly the same image, the same patient."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

from monai_sagan.data.cache import ImageCache
from monai_sagan.data.datalist import Datalist, Item
from monai_sagan.data.near_duplicates import Thumbnails, near_duplicates
from monai_sagan.errors import SaganError
from monai_sagan.files import write_text, write_whole

__all__ = ["audit_splits", "splits_to_evaluate"]

logger = logging.getLogger(__name__)

SIDES = {"train_normal": "training", "train_unlabeled": "training", "valid_normal": "validation",
         "valid_unlabeled": "validation", "test": "test"}  # fmt: skip
Place = tuple[str, str, Item]  # the split, the side, the item
TRAINING = [name for name, side in SIDES.items() if side == "training"]
EXAMPLES = 20  # of each finding, in audit.json
SEPARABLE = 0.65  # an AUC by which a property of the files alone tells two kinds of images apart
UNKNOWN = [
    "turned or shifted copies, and those cropped by more than 5 %, may be missed, as may other images of a patient "
    "without an id",
    "labels are taken as the dataset gives them",
]


def audit_splits(splits: Datalist, images: ImageCache, output_dir: str | Path, strict: bool = False) -> dict[str, Any]:
    """Look for leaks between training, validation and test; log them; write ``splits.json`` and ``audit.json``.

    Found are exact duplicates (equal decoded pixels), near-duplicates (`near_duplicates`), patients on two sides, and
    whether the size or the kind of the files alone tells normal images from others. Copies of one image among both the
    normal and the unlabeled training images are no leak, but take from the training what it learns by; they are found,
    too. It also states what it cannot know.

    Args:
        splits: of `make_splits`, of items that `keep_readable` described.
        images: the cache that decoded them.
        output_dir: where to write.
        strict: end the run when anything is found; False warns.

    Returns:
        what ``audit.json`` holds.

    Raises:
        SaganError: with ``strict``, naming the first finding.
    """
    same, alike, patients = _exact_duplicates(splits), _near_duplicates(splits, images), _shared_patients(splits)
    exact, near = ([pair for pair in pairs if len(pair["sides"]) > 1] for pairs in (same, alike))
    within = [pair for pair in [*same, *alike] if len(pair["sides"]) == 1]
    kinds = _separable_kinds(splits, images)
    warnings = [
        *_pairs_found(exact, "of images with the same pixels"),
        *_pairs_found(near, "of nearly the same images"),
        *_patients_found(patients),
        *_within_training(within),
        *(f"the {kind['property']} of the files alone tells {kind['of']} apart (AUC {kind['auc']:.2f}): a leak, unless "
          f"all images are prepared alike" for kind in kinds if kind["auc"] >= SEPARABLE),
    ]  # fmt: skip
    unknown = [*_unknown_patients(splits), *UNKNOWN]
    logger.info("splits: " + ", ".join(f"{name} {len(items)}" for name, items in splits.items()))
    audit: dict[str, Any] = {
        "splits": {name: _summary(items) for name, items in splits.items()},
        "splits_digest": _digest(splits),
        "unreadable": len(images.unreadable),
        "left_out": len(images.left_out),
        "exact_duplicates": {"count": len(exact), "examples": exact[:EXAMPLES]},
        "near_duplicates": {"count": len(near), "examples": near[:EXAMPLES]},
        "shared_patients": {"count": len(patients), "examples": patients[:EXAMPLES]},
        "normal_and_unlabeled": {"count": len(within), "examples": within[:EXAMPLES]},
        "file_kinds": kinds,
        "warnings": warnings,
        "cannot_know": unknown,
    }
    output = Path(output_dir)
    write_whole(output / "splits.json", partial(_write_splits, splits))
    write_text(output / "audit.json", json.dumps(audit, indent=2) + "\n")
    ratio = audit["splits"]["train_unlabeled"]["anomaly_ratio"]
    logger.info(f"anomaly ratio of train_unlabeled: {'not known' if ratio is None else ratio}")
    for warning in warnings:
        logger.warning(f"audit: {warning}")
    if not warnings:
        logger.info("audit: no duplicates, near-duplicates or shared patients between training, validation and test")
    logger.info("audit: what it cannot know: " + "; ".join(unknown))
    if strict and warnings:
        raise SaganError(f"strict: {warnings[0]} ({len(warnings)} findings in {output / 'audit.json'}); mend the data")
    return audit


def splits_to_evaluate(datalist: Datalist, run_dir: str | Path, output_dir: str | Path) -> Datalist:
    """The splits of a run with the test items of a datalist; no test image may be one that the run was trained on.

    What the report tells of the run, its audit and its training curves, is copied into ``output_dir``.

    Args:
        datalist: described by `keep_readable`.
        run_dir: of a training run; its ``splits.json`` says what it was trained on.
        output_dir: where to write ``splits.json``, ``audit.json`` (where the test split is the run's own) and
            ``history.csv``.

    Raises:
        SaganError: when more than 1 % of the test images have the pixels of a training image: these are other splits
            than those of the run.
    """
    run, output = Path(run_dir), Path(output_dir)
    path = run / "splits.json"
    try:
        trained: Datalist = json.loads(path.read_text(encoding="utf-8"))
        seen = {item["digest"] for name in TRAINING for item in trained[name]}
        tested = {item["image"] for item in trained["test"]}
    except OSError as error:
        raise SaganError(f"{path} cannot be read ({error.strerror}); give the folder of a training run") from None
    except (ValueError, KeyError, TypeError):
        raise SaganError(f"{path} is broken; give the folder of a training run that is whole") from None
    test = datalist["test"]
    count = sum(item["digest"] in seen for item in test)
    if count > 0.01 * len(test):
        raise SaganError(
            f"{count} of {len(test)} test images were trained on by {run_dir}; give the same dataset options as in "
            f"training (split_file, split_seed)"
        )
    if count:
        logger.warning(f"{count} of {len(test)} test images have the same pixels as a training image")
    splits = trained | {"test": test}
    write_text(output / "splits.json", json.dumps(splits, indent=1) + "\n")
    for name in ("history.csv", *["audit.json"] * ({item["image"] for item in test} == tested)):
        if (run / name).is_file():
            write_text(output / name, (run / name).read_text(encoding="utf-8"))
    return splits


def _write_splits(splits: Datalist, path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:  # piece by piece: the text of all takes more memory than the items
        json.dump(splits, file, indent=1)
        file.write("\n")


def _summary(items: list[Item]) -> dict[str, Any]:
    labels = [item["label"] for item in items]
    abnormal = None if None in labels else sum(labels)
    patients = {item["patient"] for item in items if "patient" in item}
    return {
        "images": len(items),
        "abnormal": abnormal,
        "anomaly_ratio": round(abnormal / len(items), 4) if items and abnormal is not None else None,
        "patients": len(patients) if patients else None,
    }


def _digest(splits: Datalist) -> str:
    """Of the pixels of all images but the test's, in their order: what a run was trained and chosen on."""
    pixels = [[item["digest"] for item in splits[name]] for name, side in SIDES.items() if side != "test"]
    return hashlib.sha256(json.dumps(pixels).encode()).hexdigest()[:16]


def _placed(splits: Datalist) -> dict[str, list[Place]]:
    """Every item with its split and its side, in parts that must not share an image; validation is one of them."""
    parts: dict[str, list[Place]] = {}
    for name, items in splits.items():
        part = name if SIDES[name] == "training" else SIDES[name]
        parts.setdefault(part, []).extend((name, SIDES[name], item) for item in items)
    return parts


def _exact_duplicates(splits: Datalist) -> list[dict[str, Any]]:
    same: dict[str, dict[str, list[Place]]] = {}
    for part, places in _placed(splits).items():
        for place in places:
            same.setdefault(place[2]["digest"], {}).setdefault(part, []).append(place)
    # The first image of a part with all of the other: as many as there are copies, however many are alike.
    return [
        _pair(one[0], b) for group in same.values() for one, other in combinations(group.values(), 2) for b in other
    ]


def _pair(a: Place, b: Place) -> dict[str, Any]:
    return {"images": [a[2]["image"], b[2]["image"]], "splits": [a[0], b[0]], "sides": sorted({a[1], b[1]})}


def _near_duplicates(splits: Datalist, images: ImageCache) -> list[dict[str, Any]]:
    parts = _placed(splits)
    small = {part: Thumbnails(images.stored([item for *_, item in places])) for part, places in parts.items()}
    found: list[dict[str, Any]] = []
    for one, other in combinations(parts, 2):
        # A mirrored copy in training is no more than an augmentation.
        within = one in TRAINING and other in TRAINING
        for i, j, likeness in near_duplicates(small[one], small[other], mirrored=not within):
            a, b = parts[one][i], parts[other][j]
            if a[2]["digest"] != b[2]["digest"]:
                found.append(_pair(a, b) | {"likeness": round(likeness, 4)})
    return found


def _shared_patients(splits: Datalist) -> list[dict[str, Any]]:
    seen: dict[str, list[Place]] = {}
    for place in (place for places in _placed(splits).values() for place in places):
        if "patient" in place[2]:
            seen.setdefault(str(place[2]["patient"]), []).append(place)
    return [
        {"images": [item["image"] for _, _, item in places], "sides": sorted({side for _, side, _ in places})}
        for places in seen.values()
        if len({side for _, side, _ in places}) > 1
    ]


def _unknown_patients(splits: Datalist) -> Iterator[str]:
    patients = [item.get("patient") for items in splits.values() for item in items]
    if None in patients:
        yield f"no patient is known for {patients.count(None)} of {len(patients)} images"
    elif len(set(patients)) == len(patients):
        yield "each patient has one image: the ids may be of images, and patients with several images be unknown"


def _pairs_found(pairs: list[dict[str, Any]], what: str) -> Iterator[str]:
    for sides in sorted({tuple(pair["sides"]) for pair in pairs}):
        these = [pair["images"] for pair in pairs if tuple(pair["sides"]) == sides]
        count = f"{len(these)} {'pair' if len(these) == 1 else 'pairs'}"
        yield f"{count} {what} in {' and '.join(sides)}, the first: {' and '.join(these[0])}"


def _within_training(pairs: list[dict[str, Any]]) -> Iterator[str]:
    if pairs:
        count = f"{len(pairs)} {'pair' if len(pairs) == 1 else 'pairs'}"
        yield (
            f"{count} of the same or nearly the same images in train_normal and train_unlabeled, the first: "
            f"{' and '.join(pairs[0]['images'])}: an image that is known to be normal also stands among those that "
            f"training is to tell from normal ones, or it is abnormal and wrongly taken for normal"
        )


def _patients_found(patients: list[dict[str, Any]]) -> Iterator[str]:
    for sides in sorted({tuple(patient["sides"]) for patient in patients}):
        these = [patient["images"] for patient in patients if tuple(patient["sides"]) == sides]
        count = f"{len(these)} {'patient' if len(these) == 1 else 'patients'}"
        yield f"{count} with images in {' and '.join(sides)}, the first: {' and '.join(these[0][:2])}"


def _separable_kinds(splits: Datalist, images: ImageCache) -> list[dict[str, Any]]:
    """How well a property of the files alone tells two kinds of images apart, by AUC."""
    test = splits["test"]
    pairs = {
        "train_normal and train_unlabeled": (splits["train_normal"], splits["train_unlabeled"]),
        "normal and abnormal test images": ([i for i in test if i["label"] == 0], [i for i in test if i["label"] == 1]),
    }
    return [
        {"of": of, "property": name, "auc": round(auc, 4)}
        for of, (one, other) in pairs.items()
        if one and other
        for name, auc in _aucs([images.images[i["image"]] for i in one], [images.images[i["image"]] for i in other])
    ]


def _aucs(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> Iterator[tuple[str, float]]:
    from sklearn.metrics import roc_auc_score

    labels = [0] * len(one) + [1] * len(other)
    both = one + other
    numbers = {"size": [i["width"] * i["height"] for i in both], "shape": [i["width"] / i["height"] for i in both]}
    for kind in ("mode", "format"):
        shares = {value: sum(i.get(kind) == value for i in other) for value in {i.get(kind) for i in both}}
        totals = {value: sum(i.get(kind) == value for i in both) for value in shares}
        numbers[kind] = [shares[i.get(kind)] / totals[i.get(kind)] for i in both]
    for name, values in numbers.items():
        auc = float(roc_auc_score(labels, values))
        yield name, max(auc, 1 - auc)
