"""Images of your own and one table that describes them.

    DIR/images.csv    a row for each image: its path, and where it belongs (``split``) or what it shows (``label``)

| column | meaning |
|---|---|
| image, path or file | the image, from the table's folder on or absolute; in a file, ``v.nii#z41`` or ``cine.dcm#0`` |
| split | normal, unlabeled or test |
| label | 0 or normal, 1 or abnormal, empty for unknown |
| patient, view, sex, age (years), site, mask | optional; a mask is an image file, nonzero where abnormal |

Usual other names of the columns of images and patients are understood, see `monai_sagan.data.datasets.columns`; which
columns were read, and which not, is logged. With ``split``, only test images need labels, for metrics; one without
is scored, too. Without it, images are split by their labels and by patient, and those of unknown label
are unlabeled. Where no column names patients, file names do (``sub-01``), else DICOM headers, and slices or frames of
a file belong together. The terms of the images are yours to know.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Sequence
from pathlib import Path

from monai_sagan.data.datasets.columns import read_known_rows
from monai_sagan.data.datasets.items import Datalist, Item, Reading, split_published
from monai_sagan.data.datasets.patient_ids import clean_id, name_subjects
from monai_sagan.data.datasets.rows import PACKED, find_packed
from monai_sagan.data.datasets.source_files import check_some_there, listed_path, report_left_out
from monai_sagan.data.formats.slices import check_slices
from monai_sagan.errors import SaganError

__all__: list[str] = []

logger = logging.getLogger(__name__)

LABELS = {"0": 0, "0.0": 0, "normal": 0, "1": 1, "1.0": 1, "abnormal": 1, "": None}
SPLITS = ("normal", "unlabeled", "test")
KNOWN = ("view", "sex", "site")
TEXT = (".csv", ".tsv", ".txt")
FILES = (*TEXT, *(text + packed for text in TEXT for packed in PACKED))


def find_table(folder: Path, table: str = "images.csv") -> str | None:
    """The table in a folder, or the path itself if it is one; else None."""
    if folder.is_file() and folder.name.lower().endswith(FILES):
        return folder.name
    found = find_packed(folder / table)
    return found.name if found else None


def read_table(
    dataset_dir: str | Path,
    table: str = "images.csv",
    image_column: str | None = None,
    shares: Sequence[float] = (0.4, 0.4, 0.2),
    split_seed: int = 0,
    slice_axis: int = 2,
    slice_range: Sequence[float] = (0.0, 1.0),
) -> Reading:
    """Read a table of images; a note says which columns were read, and which not.

    Args:
        dataset_dir: the folder of the table, or the table itself.
        table: its name.
        image_column: the column of paths; None takes the first of image, path and file, or one of another usual name.
        shares: without a column ``split``, the shares of the normal images that are known to be normal, unlabeled and
            for the test; of the abnormal images the last one is for the test, all others are unlabeled.
        split_seed: of that split.
        slice_axis: of complete NIfTI volumes that a row names, see `monai_sagan.data.formats.nifti`; each of
            their slices is an image, and the volume their patient where no column says another.
        slice_range: the part of a volume that is used, two shares from 0 to 1.

    Raises:
        SaganError: naming the table and the row or column that is wrong, the first image where all are missing, or an
            option that is out of range.
    """
    path = Path(dataset_dir) if Path(dataset_dir).is_file() else Path(dataset_dir) / table
    axis, keep = check_slices(slice_axis, slice_range)
    if not find_packed(path):
        raise SaganError(f"no table {path}; give by --dataset_dir the table, or the folder that holds it")
    rows, columns, unread = table_rows = read_known_rows(path, image_column)
    if "split" not in columns and "label" not in columns:
        has = f" (not read: {', '.join(unread)})" if unread else ""
        raise SaganError(f"{path} has neither a column split nor a column label{has}; add one of them")
    logger.info(f"{path}, columns: {table_rows.in_words()}")
    items = [_item(path, row, columns) for row in rows]
    items = items if "patient" in columns else name_subjects(items, path.parent)
    _check_once(path, items, "")
    _check_files(path, items)
    slices = [_slices(item, axis, keep) for item in items]
    rows = [row for row, group in zip(rows, slices, strict=True) for _ in group]
    items = [item for group in slices for item in group]
    _check_once(path, items, ", by itself and with its volume")
    datalist = _as_listed(path, rows, items) if "split" in columns else _by_label(items, shares, split_seed)
    unused = {"without a label, of a patient in the test": len(items) - sum(map(len, datalist.values()))}
    return Reading(datalist, report_left_out(path, unused), {"columns": table_rows.in_words()})


def _item(path: Path, row: dict[str, str], columns: dict[str, str]) -> Item:
    name, label = row["image"], row.get("label", "").lower()
    if not name:
        raise SaganError(
            f"{path} has a row without {columns['image']}: {', '.join(row.values())}; name the image or remove it"
        )
    if label not in LABELS:
        raise SaganError(f"{path} gives {name} the label {label!r}; it is 0, 1, normal, abnormal or empty")
    item: Item = {"image": _place(path, name), "label": LABELS[label]}
    if patient := clean_id(row.get("patient", "")):
        named = {} if columns["patient"].lower() == "patient" else {"patient_column": columns["patient"]}
        item |= {"patient": patient} | named
    item |= {key: row[key] for key in KNOWN if row.get(key)}
    if row.get("mask"):
        item["mask"] = _place(path, row["mask"])
    if row.get("age"):
        item["age"] = _age(path, name, row["age"])
    return item


def _place(path: Path, name: str) -> str:
    return os.path.normpath(listed_path(path.parent, name))


def _age(path: Path, name: str, text: str) -> float:
    try:
        age = float(text)
    except ValueError:
        age = math.nan
    if not 0 <= age < math.inf:
        raise SaganError(f"{path} gives {name} the age {text!r}; it is a number of years")
    return age


def _check_once(path: Path, items: Sequence[Item], how: str) -> None:
    seen: set[str] = set()
    for item in items:
        if item["image"] in seen:
            raise SaganError(f"{item['image']} is listed twice in {path}{how}; remove a row")
        seen.add(item["image"])


def _check_files(path: Path, items: Sequence[Item]) -> None:
    from monai_sagan.data.formats.decode import split_fragment

    files: dict[str, bool] = {}
    missing: dict[str, list[str]] = {"image": [], "mask": []}
    for item in items:
        for kind, names in missing.items():
            file = item.get(kind) and split_fragment(item[kind])[0]
            if file and not files.setdefault(file, os.path.exists(file)):
                names.append(file)
    fix = "paths start at the table's folder"
    check_some_there(missing["image"], len(items), f"files of {path}", fix)
    check_some_there(missing["mask"], len(missing["mask"]), f"masks of {path}", fix)


def _slices(item: Item, axis: int, keep: tuple[float, float]) -> list[Item]:
    from monai_sagan.data.formats.decode import nifti_slices

    if not item["image"].lower().endswith((".nii", ".nii.gz")):
        return [item]
    try:
        names = nifti_slices(item["image"], axis, keep)
    except SaganError:
        return [item]  # a broken file is reported when it is decoded
    return [{"patient": item["image"]} | item | {"image": name} for name in names]


def _as_listed(path: Path, rows: Sequence[dict[str, str]], items: Sequence[Item]) -> Datalist:
    datalist: Datalist = {name: [] for name in SPLITS}
    for row, item in zip(rows, items, strict=True):
        split, image = row["split"].lower(), item["image"]
        if split not in SPLITS:
            raise SaganError(f"{path} gives {image} the split {split!r}; it is {', '.join(SPLITS)}")
        if split == "normal" and item["label"] == 1:
            raise SaganError(f"{path} gives {image} the split normal and the label abnormal; fix one")
        datalist[split].append(item | {"label": 0} if split == "normal" else item)
    return datalist


def _by_label(items: Sequence[Item], shares: Sequence[float], split_seed: int) -> Datalist:
    """Split by label and by patient; an image without a label is left out if its patient is in the test."""
    try:
        known, unlabeled, test = (round(10_000 * float(share)) for share in shares)
    except (TypeError, ValueError, OverflowError):
        known = unlabeled = test = 0
    if known + unlabeled + test != 10_000 or min(known, unlabeled, test) < 0 or test == 10_000:
        raise SaganError(f"shares is {shares}; it is three shares that add up to 1, for example [0.4, 0.4, 0.2]")
    items = [_with_patient(item) for item in items]
    kinds = [[item for item in items if item["label"] == label] for label in (0, 1)]
    datalist = split_published(kinds[0], kinds[1], (known, unlabeled, known + unlabeled, test, test), split_seed)
    tested = {item["patient"] for item in datalist["test"] if "patient" in item}
    datalist["unlabeled"] += [i for i in items if i["label"] is None and i.get("patient") not in tested]
    return datalist


def _with_patient(item: Item) -> Item:
    """Without a patient's column, the patient in a DICOM header, or the file of a slice or frame."""
    from monai_sagan.data.formats.decode import describe_file, is_dicom, split_fragment

    file, fragment = split_fragment(item["image"])
    if "patient" in item:
        return item
    if is_dicom(Path(file)):
        (found,) = describe_file([item["image"]])
        if not isinstance(found, SaganError) and "patient" in found:  # a broken file is named when it is decoded
            return item | {"patient": found["patient"]}
    return item | ({"patient": file} if fragment else {})
