"""VinDr-CXR, chest radiographs of adults, each read by three radiologists.

Two layouts are recognized: that of the VinBigData challenge,

    DIR/train/<image_id>.dicom                    15,000
    DIR/train.csv                                 image_id, class_name, class_id, rad_id, x_min, y_min, x_max, y_max;
                                                  a row for each box; class 14 is "No finding", without a box

and that of PhysioNet,

    DIR/train/<image_id>.dicom                    15,000
    DIR/test/<image_id>.dicom                     3,000
    DIR/annotations/image_labels_{train,test}.csv image_id, rad_id (train only), a column for each finding, "No finding"
    DIR/annotations/annotations_{train,test}.csv  image_id, rad_id (train only), class_name, x_min, y_min, x_max, y_max

Normal are the images in which no reader finds anything (10,606), abnormal all others (4,394). The published images name
no patients; where headers do, as those of a hospital's own set may, all images of a patient fall into one list. Where a
folder has no DICOM but PNG or JPEG files of the same names, these are read, without boxes: those are in pixels of the
DICOM files. Source:
https://www.kaggle.com/c/vinbigdata-chest-xray-abnormalities-detection and https://doi.org/10.13026/3akn-b287
(credentialed access, data use agreement); cite Nguyen et al., https://doi.org/10.1038/s41597-022-01498-w.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from monai_sagan.data.datasets.items import Item, Reading, split_published
from monai_sagan.data.datasets.med_ad import split_as_listed
from monai_sagan.data.datasets.patients import patients_of_headers
from monai_sagan.data.datasets.rows import find_packed, read_rows
from monai_sagan.data.datasets.source_files import (
    PICTURES,
    check_some_there,
    images_by_stem,
    read_box,
    report_left_out,
)
from monai_sagan.errors import SaganError

__all__: list[str] = []

logger = logging.getLogger(__name__)

# the paper's Table 1: normal, unlabeled normal, unlabeled abnormal, test normal, test abnormal
TABLE_1 = (4000, 5606, 3394, 1000, 1000)
BOX = ("x_min", "y_min", "x_max", "y_max")
NO_FINDING, NO_FINDING_ID, CLASSES = "No finding", "14", [str(number) for number in range(15)]
TABLE = "train.csv"
SUFFIXES = (".dicom", ".dcm")


class Readings(dict[str, dict[str, list[list[float]] | None]]):
    """For each image the finding of each reader: None for no finding, else the boxes of the findings."""

    def add(self, path: Path, name: str, reader: str, finds: bool) -> None:
        """Add that a reader finds something, or nothing; the same twice is allowed."""
        said = self.setdefault(name, {}).setdefault(reader, [] if finds else None)
        if (said is not None) != finds:
            raise SaganError(
                f"{path}: {reader or 'one row'} has both {NO_FINDING} and a finding for {name}; fix its rows"
            )

    def add_box(self, path: Path, name: str, reader: str, box: list[float]) -> None:
        """Add a box of a reader who finds something."""
        boxes = self[name][reader]
        if boxes is not None and box not in boxes:
            boxes.append(box)


def find_vindr_cxr(folder: Path) -> str | None:
    """The parts by which one of the two original layouts is recognized, or None."""
    for name in (_labels("train"), TABLE):
        if (table := find_packed(folder / name)) and (folder / "train").is_dir():
            return f"train/ and {table.relative_to(folder).as_posix()}"
    return None


def almost_vindr_cxr(folder: Path) -> str | None:
    """The images by which one of them would be recognized without its table, or None."""
    return "train/*.dicom" if next((folder / "train").glob(f"*{SUFFIXES[0]}"), None) else None


def read_vindr_cxr(
    dataset_dir: str | Path,
    split_file: str | Path | None = None,
    agreement: str = "all",
    official_test: bool | str = False,
    split_seed: int = 0,
) -> Reading:
    """Read VinDr-CXR in either layout, with the boxes where they are known.

    Args:
        dataset_dir: the folder of either layout.
        split_file: a published list in the form of ``data.json``, which splits the original images.
        agreement: "all": an image is normal when all of its readers find nothing; "majority": when most of them do.
        official_test: test on the test part of the PhysioNet layout, labeled by a consensus of five readers; all
            images of the train part that Table 1 would test on are then unlabeled ones. False leaves that part out,
            for the paper's test images come from the train part.
        split_seed: without a ``split_file``, splits the original images as the paper's Table 1 counts them.

    Raises:
        SaganError: naming the layouts when none is there; the table or column that is missing, or the first image where
            all are; or an image with contradictory rows of one reader.
    """
    folder, official = Path(dataset_dir), _checked_flag(official_test)
    if agreement not in ("all", "majority"):
        raise SaganError(f"agreement is {agreement!r}; it is all or majority")
    _check_layout(folder)
    physionet = find_packed(folder / _labels("train")) is not None
    if official and (not physionet or split_file is not None):
        raise SaganError(f"official_test needs the PhysioNet layout and no split_file; drop it for {folder}")
    items, unlisted = _items(folder, "train", agreement, physionet)
    reasons = {"in train/, but in no table": unlisted}
    if split_file is not None:
        datalist = split_as_listed(split_file, items, folder)
        reasons[f"not in {split_file}"] = len(items) - sum(map(len, datalist.values()))
    else:
        known, others, findings, tested, tested_findings = TABLE_1
        counts = (known, others + tested, findings + tested_findings, 0, 0) if official else TABLE_1
        datalist = split_published(_with_label(items, 0), _with_label(items, 1), counts, split_seed)
    if official:
        test, unlisted = _items(folder, "test", agreement, physionet)
        reasons["in test/, but in no table"] = unlisted
        datalist["test"] = _with_label(test, 0) + _with_label(test, 1)
    elif physionet:
        reasons["of the official test part"] = len(images_by_stem(folder / "test", SUFFIXES)[0])
    return Reading(datalist, report_left_out(folder, reasons))


def _checked_flag(official_test: bool | str) -> bool:
    """The flag, or the word that a command line gives for it."""
    if isinstance(official_test, bool):
        return official_test
    if str(official_test).lower() not in ("true", "false"):
        raise SaganError(f"official_test is {official_test!r}; it is true or false")
    return official_test.lower() == "true"


def _check_layout(folder: Path) -> None:
    if find_vindr_cxr(folder):
        return
    if almost_vindr_cxr(folder):
        raise SaganError(
            f"{folder / TABLE} is missing, and so is {_labels('train')}, beside the images in train/; put the "
            f"table there that came with them"
        )
    raise SaganError(
        f"no VinDr-CXR data in {folder}: expected images/ with data.json (Med-AD layout), train/ with {TABLE} "
        f"(Kaggle layout) or train/ with {_labels('train')} (PhysioNet layout); give the folder by --dataset_dir"
    )


def _labels(part: str) -> str:
    return f"annotations/image_labels_{part}.csv"


def _with_label(items: dict[str, Item], label: int) -> list[Item]:
    return [item for item in items.values() if item["label"] == label]


def _items(folder: Path, part: str, agreement: str, physionet: bool) -> tuple[dict[str, Item], int]:
    """The items of a part, sorted by name, and the number of its files in no table."""
    readings = _read_physionet(folder, part) if physionet else _read_challenge(folder / TABLE)
    there, suffix = images_by_stem(folder / part, SUFFIXES)
    absent = {name: str(folder / part / f"{name}{suffix}") for name in readings if name not in there}
    table = _labels(part) if physionet else TABLE
    check_some_there(list(absent.values()), len(readings), f"images of {table}")
    paths = there | absent
    items = {name: _item(paths[name], list(readings[name].values()), agreement) for name in sorted(readings)}
    if suffix.lower() in PICTURES:
        items = _without_boxes(folder / part, items)
    patients = patients_of_headers([there[name] for name in items if name in there])
    known = {image: {"patient": patient} for image, patient in patients.items()}
    items = {name: item | known.get(item["image"], {}) for name, item in items.items()}
    return items, len(there.keys() - readings.keys())


def _without_boxes(folder: Path, items: dict[str, Item]) -> dict[str, Item]:
    """The items of pictures, whose size is rarely that of the DICOM files to which boxes refer."""
    boxed = sum(bool(item.get("boxes")) for item in items.values())
    logger.warning(
        f"{folder} has PNG or JPEG files: the boxes of {boxed} images are left out, for they are in pixels of the "
        f"DICOM files, whose sizes are not known here"
    )
    return {
        name: {key: value for key, value in item.items() if key != "boxes" or not value} for name, item in items.items()
    }


def _item(path: str, findings: list[list[list[float]] | None], agreement: str) -> Item:
    nothing = findings.count(None)
    if nothing == len(findings) or (agreement == "majority" and 2 * nothing > len(findings)):
        return {"image": path, "label": 0, "boxes": []}
    boxes = [box for found in findings if found is not None for box in found]
    # A finding without a box concerns the image as such.
    return {"image": path, "label": 1, "boxes": boxes} if boxes else {"image": path, "label": 1}


def _read_challenge(path: Path) -> Readings:
    readings = Readings()
    for row in read_rows(path, ("image_id", "class_name", "class_id", "rad_id", *BOX)):
        name, reader, finds = row["image_id"], row["rad_id"], row["class_id"] != NO_FINDING_ID
        if not name or row["class_id"] not in CLASSES or finds == (row["class_name"] == NO_FINDING):
            raise SaganError(
                f"{path} gives {name!r} the class {row['class_id']!r}, {row['class_name']!r}; the classes are 0 to 13 "
                f"and {NO_FINDING_ID}, {NO_FINDING}"
            )
        readings.add(path, name, reader, finds)
        if finds:
            readings.add_box(path, name, reader, read_box(path, name, [row[key] for key in BOX], corners=True))
    return readings


def _read_physionet(folder: Path, part: str) -> Readings:
    readings = Readings()
    path = folder / _labels(part)
    for row in _rows_by_reader(path, part, (NO_FINDING,)):
        name, said = row["image_id"], row[NO_FINDING]
        if not name or said not in ("", "0", "0.0", "1", "1.0"):
            raise SaganError(f"{path} gives {name!r} the {NO_FINDING} {said!r}; it is 0 or 1")
        readings.add(path, name, row.get("rad_id", ""), finds=said not in ("1", "1.0"))
    path = folder / f"annotations/annotations_{part}.csv"
    for row in _rows_by_reader(path, part, ("class_name", *BOX)):
        name, reader, cells = row["image_id"], row.get("rad_id", ""), [row[key] for key in BOX]
        if reader not in readings.get(name, {}):
            raise SaganError(f"{path} has a row of {name!r} by {reader!r} that {_labels(part)} lacks; fix one of them")
        if row["class_name"] == NO_FINDING and not any(cells):
            continue  # a finding that concerns the image as such has no box
        readings.add(path, name, reader, finds=True)
        readings.add_box(path, name, reader, read_box(path, name, cells, corners=True))
    return readings


def _rows_by_reader(path: Path, part: str, columns: Iterable[str]) -> list[dict[str, str]]:
    """Rows of the train part have a reader; those of the test part are a consensus."""
    return read_rows(path, ("image_id", *(("rad_id",) if part == "train" else ()), *columns))
