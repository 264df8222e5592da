"""LAG, Large-scale Attention-based Glaucoma: color fundus images.

The original layout, in DIR or in DIR/LAG_database_part_1, with or without the level ``image``:

    non_glaucoma/image/<number>.jpg           3,143, normal
    suspicious_glaucoma/image/<number>.jpg    1,711, abnormal
    .../attention_map/, .../label/            not read

The published split follows the files' numbers: its normal test images come from one range of them, its abnormal ones
from another. Where numbers correlate with a camera or a site, that helps a detector: a split by chance is the
control. Patients are not known. Source: https://github.com/smilell/AG-CNN (on request, academic purpose
only); cite Li et al., CVPR 2019, https://doi.org/10.1109/CVPR.2019.01082.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from monai_sagan.data.datasets.items import Item, Reading, split_published
from monai_sagan.data.datasets.med_ad import split_as_listed
from monai_sagan.data.datasets.source_files import files_by_stem, report_left_out
from monai_sagan.errors import SaganError

__all__: list[str] = []

# the paper's Table 1: normal, unlabeled normal, unlabeled abnormal, test normal, test abnormal
TABLE_1 = (1500, 832, 900, 811, 811)
ARCHIVE = "LAG_database_part_1"
NORMAL, ABNORMAL = "non_glaucoma", "suspicious_glaucoma"
SUFFIXES = (".jpg", ".jpeg", ".png")


def find_lag(folder: Path) -> str | None:
    """The folders by which the original layout is recognized, or None."""
    root = _root(folder)
    there = [str((root / kind).relative_to(folder)) for kind in (NORMAL, ABNORMAL) if (root / kind).is_dir()]
    return " and ".join(there) or None


def read_lag(dataset_dir: str | Path, split_file: str | Path | None = None, resplit: int | None = None) -> Reading:
    """Read LAG in its original layout.

    Args:
        dataset_dir: the folder.
        split_file: a published list in the form of ``data.json``, which splits the images.
        resplit: without it, a seed that splits the images by chance, as the paper's Table 1 counts them; None is 0.

    Raises:
        SaganError: naming the folder that lacks the two classes, the folder without images, or an image of two classes.
    """
    folder = Path(dataset_dir)
    if split_file is not None and resplit is not None:
        raise SaganError(f"split_file {split_file} and resplit {resplit} are given; give one of them")
    if not find_lag(folder):
        raise SaganError(
            f"no LAG data in {folder}: expected either images/ with data.json (Med-AD layout) or {NORMAL}/ and "
            f"{ABNORMAL}/ (original layout); give the folder by --dataset_dir"
        )
    normal, abnormal = (_items(_root(folder) / kind, label) for label, kind in enumerate((NORMAL, ABNORMAL)))
    if both := normal.keys() & abnormal.keys():
        raise SaganError(f"{min(both)} is both in {NORMAL} and in {ABNORMAL} of {folder}; remove one")
    if split_file is None:
        return Reading(split_published([*normal.values()], [*abnormal.values()], TABLE_1, resplit or 0), {})
    datalist = split_as_listed(split_file, normal | abnormal, folder, partial(_absent, folder))
    listed = {item["image"] for items in datalist.values() for item in items}
    unlisted = sum(item["image"] not in listed for item in (normal | abnormal).values())
    return Reading(datalist, report_left_out(folder, {f"not in {split_file}": unlisted}))


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
