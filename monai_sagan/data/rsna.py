"""RSNA Pneumonia Detection Challenge, chest radiographs.

Two layouts are told apart: the Med-AD one (see `monai_sagan.data.med_ad`), and the challenge's own,

    DIR/stage_2_train_images/<patientId>.dcm
    DIR/stage_2_detailed_class_info.csv        patientId, class; a row for each box
    DIR/stage_2_train_labels.csv               patientId, x, y, width, height, Target; a row for each box

Normal images are those of class "Normal", abnormal ones those of class "Lung Opacity"; the third class is left out,
as in the paper. Source: https://www.kaggle.com/c/rsna-pneumonia-detection-challenge, under the challenge's rules
(non-commercial research); cite Shih et al., https://doi.org/10.1148/ryai.2019180041.
"""

from __future__ import annotations

import csv
from pathlib import Path

from monai_sagan.data.datalist import Datalist, Item, split_published
from monai_sagan.data.med_ad import read_med_ad
from monai_sagan.errors import SaganError

__all__ = ["read_rsna"]

# the paper's Table 1: normal, unlabeled normal, unlabeled abnormal, test normal, test abnormal
TABLE_1 = (3851, 4000, 5012, 1000, 1000)
CLASSES, LABELS, IMAGES = "stage_2_detailed_class_info.csv", "stage_2_train_labels.csv", "stage_2_train_images"
BOX = ("x", "y", "width", "height")


def read_rsna(dataset_dir: str | Path, split_seed: int = 0) -> Datalist:
    """The ``normal``, ``unlabeled`` and ``test`` items of RSNA, in either layout; ``boxes`` where they are known.

    Args:
        dataset_dir: the folder of either layout.
        split_seed: splits the challenge's images as the paper's Table 1 counts them; the Med-AD layout has its own.

    Raises:
        SaganError: naming both layouts when neither is there, or the table, column or image that is missing.
    """
    folder = Path(dataset_dir)
    if (folder / "data.json").is_file():
        return read_med_ad(folder)
    if not (folder / CLASSES).is_file():
        raise SaganError(
            f"no RSNA data in {folder}: expected either images/ with data.json (Med-AD layout) or {IMAGES}/ with "
            f"{CLASSES} and {LABELS} (Kaggle layout); give the folder by --dataset_dir, or run "
            f"bundles/phantom/train.json, which needs no data"
        )
    classes = {row["patientId"]: row["class"] for row in _rows(folder / CLASSES, ("patientId", "class"))}
    boxes: dict[str, list[list[float]]] = {}
    for row in _rows(folder / LABELS, ("patientId", *BOX, "Target")):
        if row["Target"] == "1":
            boxes.setdefault(row["patientId"], []).append(_box(folder / LABELS, row))
    there = {path.stem: path for path in (folder / IMAGES).glob("*.dcm")}
    missing = [name for name in classes if name not in there]
    if missing:
        raise SaganError(
            f"{folder / IMAGES / missing[0]}.dcm and {len(missing) - 1} more images of {CLASSES} are not there; "
            f"unpack the challenge's archive again"
        )

    def items(name: str, label: int) -> list[Item]:
        return [
            {"image": str(there[key]), "label": label, "patient": key, "boxes": boxes.get(key, [])}
            for key in sorted(classes)
            if classes[key] == name
        ]

    return split_published(items("Normal", 0), items("Lung Opacity", 1), TABLE_1, split_seed)


def _box(path: Path, row: dict[str, str]) -> list[float]:
    try:
        return [float(row[key]) for key in BOX]
    except (TypeError, ValueError):
        raise SaganError(
            f"{path} has a box of {row['patientId']} that is no four numbers: {[row[key] for key in BOX]}"
        ) from None


def _rows(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            lacking = [column for column in columns if column not in (reader.fieldnames or [])]
            if lacking:
                raise SaganError(f"{path} has no column {lacking[0]}; it holds {', '.join(columns)}")
            return list(reader)
    except FileNotFoundError:
        raise SaganError(f"{path} is missing; the Kaggle layout has {CLASSES} and {LABELS}") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SaganError(f"{path} is not a readable table ({error}); unpack the challenge's archive again") from None
