"""The Med-AD layout, in which RSNA, VinDr-CXR, LAG and others were published prepared for anomaly detection.

    DIR/images/<file>
    DIR/data.json   {"train": {"0": [file, ...], "unlabeled": {"0": [...], "1": [...]}},
                     "test": {"0": [...], "1": [...]}}

``unlabeled`` may also be one list, of images whose labels nobody knows. Source: Cai et al., DDAD-ASR
(https://doi.org/10.1016/j.media.2023.102794) and MedIAnomaly (https://doi.org/10.1016/j.media.2025.103500).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from monai_sagan.data.datalist import Datalist, Item
from monai_sagan.errors import SaganError

__all__ = ["read_med_ad"]

LAYOUT = '{"train": {"0": [files], "unlabeled": {"0": [files], "1": [files]}}, "test": {"0": [files], "1": [files]}}'


def read_med_ad(dataset_dir: str | Path) -> Datalist:
    """The ``normal``, ``unlabeled`` and ``test`` items of a dataset in the Med-AD layout.

    Raises:
        SaganError: naming the missing folder or the broken part of ``data.json``, the first file that is not there,
            or a file listed twice.
    """
    folder = Path(dataset_dir)
    lists = _read_json(folder)
    unlabeled = lists["train"]["unlabeled"]
    datalist = {
        "normal": _items(folder, lists["train"]["0"], 0),
        "unlabeled": _items(folder, unlabeled, None)
        if isinstance(unlabeled, list)
        else _items(folder, unlabeled.get("0", []), 0) + _items(folder, unlabeled.get("1", []), 1),
        "test": _items(folder, lists["test"].get("0", []), 0) + _items(folder, lists["test"].get("1", []), 1),
    }
    _check_files(folder, datalist)
    return datalist


def _read_json(folder: Path) -> dict[str, Any]:
    path = folder / "data.json"
    if not folder.is_dir():
        raise SaganError(f"no folder {folder}; give --dataset_dir a folder with images/ and data.json (Med-AD layout)")
    try:
        lists = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SaganError(f"{path} is missing; the Med-AD layout is images/ and data.json: {LAYOUT}") from None
    except (ValueError, OSError) as error:
        raise SaganError(f"{path} is not readable JSON ({error}); it holds {LAYOUT}") from None
    try:
        train, test = lists["train"], lists["test"]
        unlabeled = train["unlabeled"]
        parts = [train["0"], *(unlabeled.values() if isinstance(unlabeled, dict) else [unlabeled]), *test.values()]
        named = all(isinstance(part, list) and all(isinstance(name, str) for name in part) for part in parts)
    except (KeyError, TypeError, AttributeError):
        named = False
    if not named:
        raise SaganError(f"{path} lacks a list of file names; it holds {LAYOUT}")
    return dict(lists)


def _items(folder: Path, names: list[str], label: int | None) -> list[Item]:
    return [{"image": str(folder / "images" / name), "label": label} for name in names]


def _check_files(folder: Path, datalist: Datalist) -> None:
    try:
        there = {str(path) for path in (folder / "images").iterdir()}
    except OSError:
        raise SaganError(f"no folder {folder / 'images'}; the images that data.json lists belong there") from None
    seen: set[str] = set()
    for item in (item for items in datalist.values() for item in items):
        path = Path(item["image"])
        if item["image"] not in there and not path.is_file():
            raise SaganError(f"{path} is listed in {folder / 'data.json'} but is not there; restore it or unlist it")
        if item["image"] in seen:
            raise SaganError(f"{path.name} is listed twice in {folder / 'data.json'}; an image belongs to one split")
        seen.add(item["image"])
