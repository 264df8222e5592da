"""RSNA Pneumonia Detection Challenge, chest radiographs.

The challenge's own layout:

    DIR/stage_2_train_images/<patientId>.dcm   26,684
    DIR/stage_2_detailed_class_info.csv        patientId, class; a row for each box
    DIR/stage_2_train_labels.csv               patientId, x, y, width, height, Target; a row for each box

Normal images are those of class "Normal" (8,851), abnormal ones those of class "Lung Opacity" (6,012); the third
class (11,821) is left out, as in the paper. Every image has a patientId of its own. Some copies of the class table
lack the rows of 79 images: of these the 12 with Target 1 are abnormal, and the others (33 are Normal, 34 of the third
class) are left out unless a published list names them. Where the folder has no DICOM but PNG or JPEG files of the same
names, these are read, and the boxes, in pixels of 1024 x 1024 images, are scaled to those that are square. Source:
https://www.kaggle.com/c/rsna-pneumonia-detection-challenge, under the challenge's rules (non-commercial research);
cite Shih et al., https://doi.org/10.1148/ryai.2019180041.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from pathlib import Path

from monai_sagan.data.datasets.items import Item, Reading, split_published
from monai_sagan.data.datasets.med_ad import split_as_listed
from monai_sagan.data.datasets.rows import find_packed, read_rows
from monai_sagan.data.datasets.source_files import (
    PICTURES,
    check_some_there,
    images_by_stem,
    read_box,
    report_left_out,
)
from monai_sagan.data.formats.decode import describe_file
from monai_sagan.errors import SaganError

__all__: list[str] = []

# the paper's Table 1: normal, unlabeled normal, unlabeled abnormal, test normal, test abnormal
TABLE_1 = (3851, 4000, 5012, 1000, 1000)
CLASSES, LABELS, IMAGES = "stage_2_detailed_class_info.csv", "stage_2_train_labels.csv", "stage_2_train_images"
BOX = ("x", "y", "width", "height")
SIDE = 1024  # of all of the challenge's images, in pixels, to which boxes refer
NORMAL, OPACITY, THIRD = "Normal", "Lung Opacity", "No Lung Opacity / Not Normal"
THIRD_CLASS = (None, "normal", "abnormal", "unlabeled")

logger = logging.getLogger(__name__)

Boxes = dict[str, list[list[float]]]


def find_rsna(folder: Path) -> str | None:
    """The table by which the challenge's layout is recognized, or None."""
    table = find_packed(folder / CLASSES)
    return table.name if table else None


def almost_rsna(folder: Path) -> str | None:
    """The folder of images by which the layout would be recognized without its table, or None."""
    return f"{IMAGES}/" if (folder / IMAGES).is_dir() else None


def read_rsna(
    dataset_dir: str | Path,
    split_file: str | Path | None = None,
    third_class: str | None = None,
    split_seed: int = 0,
) -> Reading:
    """Read RSNA in the challenge's layout, with the boxes.

    Args:
        dataset_dir: the folder.
        split_file: a published list in the form of ``data.json``, which splits the challenge's images.
        third_class: what to do with the images of class "No Lung Opacity / Not Normal": None leaves them out;
            "abnormal" and "normal" count them to that kind everywhere; "unlabeled" puts them, as the abnormal images
            that they are, among the unlabeled ones only, so that the test stays the paper's.
        split_seed: without a ``split_file``, splits the challenge's images as the paper's Table 1 counts them.

    Raises:
        SaganError: naming the folder that is in another layout; the table or column that is missing, or the first image
            where all are; or the image about which the tables disagree.
    """
    folder = Path(dataset_dir)
    if third_class not in THIRD_CLASS:
        raise SaganError(f"third_class is {third_class!r}; it is normal, abnormal, unlabeled, or not given")
    if not find_rsna(folder) and not almost_rsna(folder):
        raise SaganError(
            f"no RSNA data in {folder}: expected either images/ with data.json (Med-AD layout) or {IMAGES}/ with "
            f"{CLASSES} and {LABELS} (Kaggle layout); give the folder by --dataset_dir, or run "
            f"bundles/phantom/train.json, which needs no data"
        )
    if split_file is not None and third_class in ("normal", "abnormal"):
        raise SaganError(f"third_class {third_class} would change the lists of {split_file}; give one of the two")
    items, unlisted = _read_items(folder, third_class)
    normal, abnormal, third, unknown = (items[kind] for kind in (NORMAL, OPACITY, THIRD, None))
    reasons = {"in no table": unlisted, f"of the class {THIRD}": 0 if third_class else len(third)}
    if split_file is None:
        reasons[f"of no class: not in {CLASSES}, and Target 0"] = len(unknown)
        normal |= third if third_class == "normal" else {}
        abnormal |= third if third_class == "abnormal" else {}
        datalist = split_published([*normal.values()], [*abnormal.values()], TABLE_1, split_seed)
    else:
        known = normal | abnormal | unknown
        datalist = split_as_listed(split_file, known, folder)
        reasons[f"not in {split_file}"] = len(known) - sum(map(len, datalist.values()))
    if third_class == "unlabeled":
        datalist["unlabeled"] += third.values()
    return Reading(datalist, report_left_out(folder, reasons))


def _read_items(folder: Path, third_class: str | None) -> tuple[dict[str | None, dict[str, Item]], int]:
    """The items of each class, sorted by name, and the number of files in no table."""
    classes, boxes = _read_classes(folder / CLASSES), _read_boxes(folder / LABELS)
    kinds = _agreed(folder, classes, boxes)
    there, suffix = images_by_stem(folder / IMAGES, (".dcm",))
    used = [name for name, kind in kinds.items() if kind in (NORMAL, OPACITY) or (third_class and kind == THIRD)]
    absent = {name: str(folder / IMAGES / f"{name}{suffix}") for name in used if name not in there}
    check_some_there(list(absent.values()), len(used), f"images of {CLASSES} and {LABELS}")
    paths = there | absent
    if suffix.lower() in PICTURES:
        boxes = _scaled(folder / IMAGES, boxes, there)
    labels = {NORMAL: 0, OPACITY: 1, THIRD: 0 if third_class == "normal" else 1, None: None}
    items: dict[str | None, dict[str, Item]] = {kind: {} for kind in labels}
    for name in sorted(kinds.keys() & paths.keys()):
        kind = kinds[name]
        items[kind][name] = {"image": paths[name], "label": labels[kind], "patient": name}
        if name in boxes and kind != THIRD:  # in the third class something else is abnormal, in an unknown place
            items[kind][name]["boxes"] = boxes[name]
    return items, len(there.keys() - kinds.keys())


def _read_classes(path: Path) -> dict[str, str]:
    classes: dict[str, str] = {}
    for row in read_rows(path, ("patientId", "class")):
        name, kind = row["patientId"], row["class"]
        if not name or kind not in (NORMAL, OPACITY, THIRD):
            raise SaganError(
                f"{path} gives {name!r} the class {kind!r}; the classes are {NORMAL}, {OPACITY} and {THIRD}"
            )
        if classes.setdefault(name, kind) != kind:
            raise SaganError(f"{path} gives {name} two classes, {classes[name]} and {kind}; remove one")
    return classes


def _read_boxes(path: Path) -> Boxes:
    """The boxes of each image, none for those with Target 0."""
    boxes: Boxes = {}
    for row in read_rows(path, ("patientId", *BOX, "Target")):
        name, target, cells = row["patientId"], row["Target"], [row[key] for key in BOX]
        if not name or target not in ("0", "1"):
            raise SaganError(f"{path} gives {name!r} the Target {target!r}; it is 0 or 1")
        if target == "0" and any(cells):
            raise SaganError(f"{path} gives {name} a box and Target 0; fix one")
        if name in boxes and (target == "1") != bool(boxes[name]):
            raise SaganError(f"{path} gives {name} both Target 0 and Target 1; remove one")
        found = boxes.setdefault(name, [])
        if target == "1" and (box := read_box(path, name, cells)) not in found:
            found.append(box)
    return boxes


def _scaled(folder: Path, boxes: Boxes, pictures: Mapping[str, str]) -> Boxes:
    """The boxes in pixels of resized pictures, without those of pictures that are not square."""
    scales = {name: _scale(pictures[name]) if found and name in pictures else 1.0 for name, found in boxes.items()}
    logger.info(f"{folder} has PNG or JPEG files: boxes are scaled from {SIDE} x {SIDE} pixels to theirs")
    if dropped := list(scales.values()).count(None):
        logger.warning(f"{dropped} files of {folder} are not square or unreadable: their boxes are left out")
    return {
        name: [[scale * number for number in box] for box in boxes[name]]
        for name, scale in scales.items()
        if scale is not None
    }


def _scale(picture: str) -> float | None:
    size = next(describe_file([picture]))
    return None if isinstance(size, SaganError) or size["width"] != size["height"] else size["width"] / SIDE


def _agreed(folder: Path, classes: dict[str, str], boxes: Boxes) -> dict[str, str | None]:
    """The class of each image of both tables; None where neither has it."""
    for name, kind in classes.items():
        if name in boxes and bool(boxes[name]) != (kind == OPACITY):
            raise SaganError(
                f"{name} has class {kind} in {folder / CLASSES}, but Target {int(bool(boxes[name]))} in {LABELS}; "
                f"unpack the challenge's tables again"
            )
    alone: Collection[str] = boxes.keys() - classes.keys()
    return {**classes, **{name: OPACITY if boxes[name] else None for name in alone}}
