"""What the splits share that they must not: the same image, nearly the same image, the same patient."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

from monai_sagan import run_files
from monai_sagan.data.cache import ImageCache
from monai_sagan.data.datalist import Datalist, Item
from monai_sagan.data.datasets.patient_ids import VOLUME, alike_ids, patient_sources
from monai_sagan.data.digests import SIDES, seen_images, splits_digest
from monai_sagan.data.near_duplicates import Thumbnails, near_duplicates, sampling_step
from monai_sagan.errors import SaganError
from monai_sagan.files import load_tensors
from monai_sagan.records import record, record_text

__all__ = ["audit_splits"]

logger = logging.getLogger(__name__)

Place = tuple[str, str, Item]  # the split, the side, the item
TRAINING = [name for name, side in SIDES.items() if side == "training"]
EXAMPLES = 20  # of each finding, in audit.json
SEPARABLE = 0.65  # an AUC by which a property of the files alone tells two kinds of images apart
SEVERAL_VOLUMES = "whether several volumes are of one patient"
UNKNOWN = [
    "copies that were shifted, turned by other than quarters or cropped by more than 5 % may be missed, as may other "
    "images of a patient without an id",
    "labels are taken as the dataset gives them",
]


def audit_splits(splits: Datalist, images: ImageCache, output_dir: str | Path, strict: bool = False) -> dict[str, Any]:
    """Look for leaks between training, validation and test; log them; record ``splits.json`` and ``audit.json``.

    Found are exact duplicates (equal decoded pixels), near-duplicates (`near_duplicates`), patients on two sides, and
    whether the size or the kind of the files alone tells normal images from others. Copies of one image among both the
    normal and the unlabeled training images are no leak, but take from the training what it learns by; they are found,
    too. It also states what it cannot know.

    >>> from PIL import Image
    >>> from monai_sagan.data.datalist import SPLITS
    >>> from monai_sagan.data.formats.tasks import HowToDecode
    >>> from monai_sagan.data.unreadable import keep_readable
    >>> Image.new("L", (3, 2), 7).save("a.png")
    >>> datalist = dict.fromkeys(SPLITS, [{"image": "a.png", "label": 0}])
    >>> images = ImageCache(datalist, HowToDecode((64, 64)), "cache", jobs=1)
    >>> audit = audit_splits(keep_readable(datalist, images, "out"), images, "out")
    >>> audit["exact_duplicates"]["count"] > 0
    True

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
    sources = patient_sources((item for items in splits.values() for item in items), images.images)
    unknown = [
        *_unknown_patients(splits),
        *([SEVERAL_VOLUMES] if VOLUME in sources else []),
        *_sampled(splits),
        *UNKNOWN,
    ]
    logger.info("splits: " + ", ".join(f"{name} {len(items)}" for name, items in splits.items()))
    audit: dict[str, Any] = {
        "splits": {name: _summary(items) for name, items in splits.items()},
        "splits_digest": splits_digest(splits),
        "patients_by": sources,
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
    ratio = audit["splits"]["train_unlabeled"]["anomaly_ratio"]
    logger.info(f"anomaly ratio of train_unlabeled: {'not known' if ratio is None else ratio}")
    for warning in warnings:
        logger.warning(f"audit: {warning}")
    known = ", ".join(f"{source}: {count} images" for source, count in sources.items())
    logger.info(f"audit: what names the patients: {known or 'nothing'}")
    if not warnings:
        found = "duplicates, near-duplicates or shared patients" if sources else "duplicates or near-duplicates"
        logger.info(f"audit: no {found} between training, validation and test")
    logger.info("audit: what it cannot know: " + "; ".join(unknown))
    if strict and warnings:
        raise SaganError(f"strict: {warnings[0]} (the first of {len(warnings)} findings, all logged); fix the data")
    record(Path(output_dir) / run_files.SPLITS, partial(_write_splits, splits))
    record_text(Path(output_dir) / run_files.AUDIT, json.dumps(audit, indent=2) + "\n")
    return audit


def splits_to_evaluate(datalist: Datalist, run_dir: str | Path, output_dir: str | Path) -> Datalist:
    """The splits of a run with the test items of a datalist; no test image may be one that its models have seen.

    What the report says about the run, its audit and its training curves, is copied into ``output_dir``.

    Args:
        datalist: described by `keep_readable`.
        run_dir: of a training run; its model files, or those of older versions its ``splits.json``, say what they
            have seen.
        output_dir: where to record ``splits.json``, ``audit.json`` (where the test split is the run's own) and
            ``history.csv``.

    Returns:
        the splits; of those of training only where ``splits.json`` is that of the models.

    Raises:
        SaganError: when more than 1 % of the test images have the pixels of a training or validation image: these are
            other splits than those of the run.
    """
    run, output, test = Path(run_dir), Path(output_dir), datalist["test"]
    trained, runs = _read_splits(run / run_files.SPLITS), _runs_of_models(run)
    for side, words in (("training", "trained on"), ("validation", "validated with")):
        listed = {item["digest"] for name, items in trained.items() if SIDES.get(name) == side for item in items}
        seen = set().union(*(seen_images(one, side) for one in runs)) if runs else listed
        _check_unseen(test, seen, f"{words} by {run_dir}")
    if any(one["splits"] != splits_digest(trained) for one in runs):
        logger.warning(
            f"{run / run_files.SPLITS} is not of the run that made the models: the training images are left out"
        )
        trained = {"test": []}
    splits = trained | {"test": test}
    record(output / run_files.SPLITS, partial(_write_splits, splits))
    same_test = {item["image"] for item in test} == {item["image"] for item in trained["test"]}
    for name in (run_files.HISTORY, *[run_files.AUDIT] * same_test):
        if (run / name).is_file():
            record_text(output / name, (run / name).read_text(encoding="utf-8"))
    return splits


def _read_splits(path: Path) -> Datalist:
    try:
        splits: Datalist = json.loads(path.read_text(encoding="utf-8"))
        splits_digest(splits), [item["image"] for item in splits["test"]]  # all that is read later is there
        return splits
    except OSError as error:
        raise SaganError(f"{path} cannot be read ({error.strerror}); give the folder of a training run") from None
    except (ValueError, KeyError, TypeError):
        raise SaganError(f"{path} is broken; give the folder of a training run that is whole") from None


def _runs_of_models(run: Path) -> list[dict[str, Any]]:
    """What the model files of a run say about it, see `describe_run`; nothing in those of older versions."""
    contents = [load_tensors(path, mmap=True) for path in sorted(run.glob("model*.pt"))]
    found = [content["run"] for content in contents if "run" in content]
    if not found and any("settings" in content for content in contents):  # a packed bundle's are plain weights
        logger.warning(f"the models of {run} are of an older version: splits.json says which images they have seen")
    return found


def _check_unseen(test: list[Item], seen: set[str], how: str) -> None:
    count = sum(item["digest"] in seen for item in test)
    message = f"{count} of {len(test)} test images were {how}"
    if count > 0.01 * len(test):
        raise SaganError(f"{message}; give the same dataset options as in training (split_file, split_seed)")
    if count:
        logger.warning(message)


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
        # A mirrored or turned copy within training is only an augmentation.
        within = one in TRAINING and other in TRAINING
        for i, j, likeness in near_duplicates(small[one], small[other], turned=not within):
            a, b = parts[one][i], parts[other][j]
            if a[2]["digest"] != b[2]["digest"]:
                found.append(_pair(a, b) | {"likeness": round(likeness, 4)})
    return found


def _sampled(splits: Datalist) -> Iterator[str]:
    for (one, these), (other, those) in combinations(_placed(splits).items(), 2):
        if (step := sampling_step(len(these), len(those))) > 1:
            yield f"too many images: near-duplicates of {other} were looked for in one of {step} images of {one}"


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
        yield "neither tables, file names (sub-...) nor headers name their patients, so two splits may share one"
    elif len(set(patients)) == len(patients):
        yield "each patient has one image: the ids may be of images, and patients with several images be unknown"
    if alike := alike_ids({str(patient) for patient in patients if patient is not None}):
        yield f"{' and '.join(alike[0])} count as two patients ({len(alike)} such pairs of ids)"


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
    from monai_sagan.metrics.roc import roc_auc

    labels = [0] * len(one) + [1] * len(other)
    both = one + other
    numbers = {"size": [i["width"] * i["height"] for i in both], "shape": [i["width"] / i["height"] for i in both]}
    for kind in ("mode", "format"):
        shares = {value: sum(i.get(kind) == value for i in other) for value in {i.get(kind) for i in both}}
        totals = {value: sum(i.get(kind) == value for i in both) for value in shares}
        numbers[kind] = [shares[i.get(kind)] / totals[i.get(kind)] for i in both]
    for name, values in numbers.items():
        auc = roc_auc(values, labels) or 0.0
        yield name, max(auc, 1 - auc)
