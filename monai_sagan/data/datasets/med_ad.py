"""The Med-AD layout, in which RSNA, VinDr-CXR, LAG and others were published prepared for anomaly detection.

    DIR/images/<file>
    DIR/data.json    {"train": {"0": [file, ...], "unlabeled": {"0": [...], "1": [...]}},
                      "test": {"0": [...], "1": [...]}}
    DIR/items.json   further facts about images; an optional addition of this package, as is each key:
                     {file: {"patient": "p1", "boxes": [[x, y, width, height], ...], "mask": "masks/<file>",
                             "view": "AP", "sex": "F", "age": 43, "site": "..."}, ...}

``unlabeled`` may also be one list, of images with unknown labels; so may ``test``, or it has such a list under
"unlabeled" beside the others. Where items.json names no patient at all, file names do (``sub-01``). Boxes are in
pixels of the file in images/, [] means none; a mask has the size of that file, and its path starts at DIR.
Source: Cai et al., DDAD-ASR (https://doi.org/10.1016/j.media.2023.102794) and MedIAnomaly
(https://doi.org/10.1016/j.media.2025.103500); for academic use, and the terms of each original dataset hold.
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from monai_sagan.data.datasets.items import Datalist, Item, Reading, split_published
from monai_sagan.data.datasets.patient_ids import clean_id, name_subjects
from monai_sagan.data.datasets.source_files import check_some_there, listed_path, report_left_out
from monai_sagan.errors import SaganError

__all__: list[str] = []

logger = logging.getLogger(__name__)

LAYOUT = '{"train": {"0": [files], "unlabeled": {"0": [files], "1": [files]}}, "test": {"0": [files], "1": [files]}}'
LIST_FILE, ITEM_FILE = "data.json", "items.json"
COLUMNS = ("patient", "boxes", "mask", "view", "sex", "age", "site")

Lists = list[tuple[str, int | None, list[str]]]  # the name in a datalist, the label, the files


def find_med_ad(folder: Path) -> str | None:
    """The file by which the Med-AD layout is recognized, or None."""
    return LIST_FILE if (folder / LIST_FILE).is_file() else None


def read_med_ad(dataset_dir: str | Path, resplit: int | None = None) -> Reading:
    """Read a dataset in the Med-AD layout.

    Args:
        dataset_dir: the folder.
        resplit: a seed that splits the images again by chance, into lists of the same sizes; None keeps the lists.

    Raises:
        SaganError: naming the missing folder or the broken part of a JSON file, the first image where all are missing,
            a file listed twice, or with ``resplit`` images without a label.
    """
    folder = Path(dataset_dir)
    if not folder.is_dir():
        raise SaganError(
            f"no folder {folder}; give --dataset_dir a folder with images/ and {LIST_FILE} (Med-AD layout)"
        )
    lists = _read_lists(folder / LIST_FILE)
    known = _read_items(folder)
    datalist: Datalist = {"normal": [], "unlabeled": [], "test": []}
    for name, label, files in lists:
        datalist[name] += [
            {"image": listed_path(folder / "images", file), "label": label} | known.get(file, {}) for file in files
        ]
    if not any("patient" in item for items in datalist.values() for item in items):
        datalist = {name: name_subjects(items, folder / "images") for name, items in datalist.items()}
    there = _check_files(folder, datalist)
    listed = {item["image"] for items in datalist.values() for item in items}
    left_out = report_left_out(folder, {f"in images/, but not in {LIST_FILE}": len(there - listed)})
    return Reading(datalist if resplit is None else _split_again(folder, datalist, resplit), left_out)


def _split_again(folder: Path, datalist: Datalist, seed: int) -> Datalist:
    items = sorted((item for items in datalist.values() for item in items), key=lambda item: str(item["image"]))
    kinds = [[item for item in items if item["label"] == label] for label in (0, 1)]
    if len(kinds[0]) + len(kinds[1]) < len(items):
        raise SaganError(f"{folder / LIST_FILE} has images without a label; resplit needs the labels of all")
    unlabeled, test = ([sum(i["label"] == k for i in datalist[name]) for k in (0, 1)] for name in ("unlabeled", "test"))
    return split_published(kinds[0], kinds[1], (len(datalist["normal"]), *unlabeled, *test), seed)


def split_as_listed(
    split_file: str | Path,
    items: Mapping[str, Item],
    dataset_dir: Path,
    absent: Callable[[str, int | None], Item] | None = None,
) -> Datalist:
    """Split a dataset by a published list in the form of ``data.json``; file names count without suffix.

    Args:
        split_file: the list.
        items: by the name of their file without suffix; a label that is None is taken from the list.
        dataset_dir: for the message.
        absent: of a dataset without tables: makes the item of a listed file that is not there, from its name and label,
            unless most of them are missing.

    Raises:
        SaganError: naming a listed image that is not an item, is listed twice, or has another label.
    """
    path = Path(split_file)
    datalist: Datalist = {"normal": [], "unlabeled": [], "test": []}
    seen: set[str] = set()
    lists = _read_lists(path)
    listed = [file for *_, files in lists for file in files]
    unknown = [file for file in listed if os.path.splitext(file)[0] not in items]
    if 2 * len(unknown) > len(listed):  # the list of another dataset
        absent = None
    if absent and unknown:
        logger.warning(f"{unknown[0]} and {len(unknown) - 1} more images of {path} are not there, of {len(listed)}: "
                       f"they count as unreadable")  # fmt: skip
    for name, label, files in lists:
        for file in files:
            stem = os.path.splitext(file)[0]
            item = absent(file, label) if absent and stem not in items else items.get(stem)
            if item is None:
                raise SaganError(
                    f"{path} lists {file}, which is not a normal or abnormal image of {dataset_dir}; give the list of "
                    f"this dataset"
                )
            if stem in seen:
                raise SaganError(f"{stem} is listed twice in {path}; an image belongs to one split")
            seen.add(stem)
            if label is not None and item["label"] not in (None, label):
                raise SaganError(f"{path} lists {file} with label {label}, {dataset_dir} with {item['label']}; fix one")
            datalist[name].append(item if label is None else item | {"label": label})
    return datalist


def _read_json(path: Path, holds: str) -> Any:
    try:
        return json.loads(path.read_bytes())  # in whichever UTF it is
    except FileNotFoundError:
        raise SaganError(f"{path} is missing; the Med-AD layout is images/ and {LIST_FILE}: {holds}") from None
    except (ValueError, OSError, RecursionError) as error:
        raise SaganError(f"{path} is not readable JSON ({error}); it holds {holds}") from None


def _read_lists(path: Path) -> Lists:
    content = _read_json(path, LAYOUT)
    try:
        train, test = content["train"], content["test"]
        unlabeled = train["unlabeled"] if isinstance(train["unlabeled"], list) else dict(train["unlabeled"].items())
        lists: Lists = [("normal", 0, train["0"])]
        if isinstance(unlabeled, list):
            lists.append(("unlabeled", None, unlabeled))
            unlabeled = {}
        test = {"unlabeled": test} if isinstance(test, list) else dict(test.items())
        unknown = test.pop("unlabeled", [])
        for name, part in (("unlabeled", unlabeled), ("test", test)):
            lists += [(name, label, part.pop(str(label), [])) for label in (0, 1)]
            if part:
                raise SaganError(f"{path} has a list under {next(iter(part))!r}; it holds {LAYOUT}")
        lists.append(("test", None, unknown))
        named = all(isinstance(part, list) and all(isinstance(file, str) for file in part) for _, _, part in lists)
    except (KeyError, TypeError, AttributeError):
        named = False
    if not named:
        raise SaganError(f"{path} lacks a list of file names; it holds {LAYOUT}")
    return lists


def _read_items(folder: Path) -> dict[str, Item]:
    path = folder / ITEM_FILE
    if not path.is_file():
        return {}
    content = _read_json(path, "{file: {" + ", ".join(COLUMNS) + "}}")
    if not isinstance(content, dict) or not all(isinstance(known, dict) for known in content.values()):
        raise SaganError(f"{path} is not a dictionary of dictionaries; it holds {{file: {{{', '.join(COLUMNS)}}}}}")
    return {file: _known(folder, path, file, known) for file, known in content.items()}


def _known(folder: Path, path: Path, file: str, known: Mapping[str, Any]) -> Item:
    for key, value in known.items():
        if key not in COLUMNS:
            raise SaganError(f"{path} has the key {key!r} for {file}; the keys are {', '.join(COLUMNS)}")
        if not _fits(key, value):
            raise SaganError(f"{path} has {key} {value!r} of {file}; fix it or leave it out")
    patient = clean_id(known.get("patient", ""))
    item = {key: value for key, value in known.items() if key != "patient"} | ({"patient": patient} if patient else {})
    if "mask" in item:
        item["mask"] = listed_path(folder, item["mask"])
        if not os.path.isfile(item["mask"]):
            raise SaganError(f"{item['mask']} is listed in {path} but is not there; restore it or unlist it")
    return item


def _fits(key: str, value: Any) -> bool:
    if key == "boxes":
        return isinstance(value, list) and all(isinstance(box, list) and _is_box(box) for box in value)
    return _is_number(value) and value >= 0 if key == "age" else isinstance(value, str)


def _is_box(box: list[Any]) -> bool:
    return len(box) == 4 and all(map(_is_number, box)) and box[2] > 0 and box[3] > 0


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _check_files(folder: Path, datalist: Datalist) -> set[str]:
    """Check that each file is listed once, and that not all are missing; return the files in images/."""
    try:
        there = {str(path) for path in (folder / "images").iterdir()}
    except OSError:
        raise SaganError(f"no folder {folder / 'images'}; the images that {LIST_FILE} lists belong there") from None
    seen: set[str] = set()
    for item in (item for items in datalist.values() for item in items):
        if item["image"] in seen:
            name = Path(item["image"]).name
            raise SaganError(f"{name} is listed twice in {folder / LIST_FILE}; an image belongs to one split")
        seen.add(item["image"])
    missing = sorted(image for image in seen - there if not Path(image).is_file())
    check_some_there(missing, len(seen), f"images of {folder / LIST_FILE}", "restore them, or give another folder")
    return there
