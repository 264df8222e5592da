"""LAG, Large-scale Attention-based Glaucoma: color fundus images.

Two layouts are told apart: the Med-AD one (see `monai_sagan.data.datasets.med_ad`), and the original one, in DIR or in
DIR/LAG_database_part_1, with or without the level ``image``,

    non_glaucoma/image/<number>.jpg           3,143, normal
    suspicious_glaucoma/image/<number>.jpg    1,711, abnormal
    .../attention_map/, .../label/            not read

The published split follows the files' numbers: its normal test images come from one range of them, its abnormal ones
from another. Where numbers tell a camera or a site, that helps a detector, so a split by chance is the control.
Nobody says which images are of one patient. Source: https://github.com/smilell/AG-CNN (on request, academic purpose
only); cite Li et al., CVPR 2019, https://doi.org/10.1109/CVPR.2019.01082.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from monai_sagan.data.datasets.items import Datalist, Item, split_published
from monai_sagan.data.datasets.med_ad import find_med_ad, read_med_ad, split_as_listed
from monai_sagan.data.datasets.source_files import LeftOut, files_by_stem, report_left_out
from monai_sagan.errors import SaganError

__all__ = ["find_lag", "read_lag"]

# the paper's Table 1: normal, unlabeled normal, unlabeled abnormal, test normal, test abnormal
TABLE_1 = (1500, 832, 900, 811, 811)
ARCHIVE = "LAG_database_part_1"
NORMAL, ABNORMAL = "non_glaucoma", "suspicious_glaucoma"
SUFFIXES = (".jpg", ".jpeg", ".png")


def find_lag(folder: Path) -> str | None:
    """What tells that the folder is in the original layout."""
    root = _root(folder)
    there = [str((root / kind).relative_to(folder)) for kind in (NORMAL, ABNORMAL) if (root / kind).is_dir()]
    return " and ".join(there) or None


def read_lag(
    dataset_dir: str | Path,
    split_file: str | Path | None = None,
    resplit: int | None = None,
    left_out: LeftOut | None = None,
) -> Datalist:
    """The ``normal``, ``unlabeled`` and ``test`` items of LAG, in either layout.

    Args:
        dataset_dir: the folder of either layout.
        split_file: a published list in the form of ``data.json``, which splits the original images.
        resplit: a seed that splits the images by chance, as the paper's Table 1 counts them; None keeps the lists of
            the Med-AD layout or of ``split_file``, and without either is seed 0.
        left_out: takes up what is left out, see `monai_sagan.data.datasets.source_files`.

    Raises:
        SaganError: naming both layouts when neither is there, the folder without images, or an image of two classes.
    """
    folder = Path(dataset_dir)
    if split_file is not None and (resplit is not None or find_med_ad(folder)):
        raise SaganError(
            f"split_file {split_file} goes with neither resplit nor a data.json in {folder}; leave it away"
        )
    if find_med_ad(folder):
        datalist = read_med_ad(folder, left_out)
        return datalist if resplit is None else _split_anew(folder, datalist, resplit)
    if not find_lag(folder):
        raise SaganError(
            f"no LAG data in {folder}: expected either images/ with data.json (Med-AD layout) or {NORMAL}/ and "
            f"{ABNORMAL}/ (original layout); give the folder by --dataset_dir"
        )
    normal, abnormal = (_items(_root(folder) / kind, label) for label, kind in enumerate((NORMAL, ABNORMAL)))
    if both := normal.keys() & abnormal.keys():
        raise SaganError(f"{min(both)} is both in {NORMAL} and in {ABNORMAL} of {folder}; remove one")
    if split_file is None:
        return split_published(list(normal.values()), list(abnormal.values()), TABLE_1, resplit or 0)
    datalist = split_as_listed(split_file, normal | abnormal, folder, partial(_absent, folder))
    listed = {item["image"] for items in datalist.values() for item in items}
    unlisted = sum(item["image"] not in listed for item in (normal | abnormal).values())
    report_left_out(folder, {f"not in {split_file}": unlisted}, left_out)
    return datalist


def _root(folder: Path) -> Path:
    return folder / ARCHIVE if (folder / ARCHIVE).is_dir() else folder


def _items(folder: Path, label: int) -> dict[str, Item]:
    place = folder / "image" if (folder / "image").is_dir() else folder
    items: dict[str, Item] = {
        name: {"image": path, "label": label} for name, path in files_by_stem(place, SUFFIXES).items()
    }
    if not items:
        raise SaganError(f"no images in {place}; unpack {ARCHIVE} again")
    return items


def _absent(folder: Path, file: str, label: int | None) -> Item:
    kind = _root(folder) / (ABNORMAL if label == 1 else NORMAL)
    place = kind / "image" if (kind / "image").is_dir() else kind
    return {"image": str(place / f"{Path(file).stem}{SUFFIXES[0]}"), "label": label}


def _split_anew(folder: Path, datalist: Datalist, seed: int) -> Datalist:
    items = sorted((item for items in datalist.values() for item in items), key=lambda item: str(item["image"]))
    kinds = [[item for item in items if item["label"] == label] for label in (0, 1)]
    if len(kinds[0]) + len(kinds[1]) < len(items):
        raise SaganError(f"{folder / 'data.json'} has images without a label; resplit needs the labels of all")
    return split_published(kinds[0], kinds[1], TABLE_1, seed)
