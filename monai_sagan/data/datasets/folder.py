"""Images of your own in plain folders, without any table.

    DIR/normal/           images known to be normal
    DIR/unlabeled/        images with unknown labels; or, for a benchmark, unlabeled/normal/ and unlabeled/abnormal/
    DIR/test/normal/      optional, to measure: labeled images that training never sees
    DIR/test/abnormal/
    DIR/test/             images in the folder itself, or in test/unlabeled/: scored, but excluded from all metrics

Each may have folders within folders, and any mix of PNG, JPEG, TIFF, BMP, WebP, GIF, PNM, DICOM (also without a suffix)
and NIfTI. Images anywhere else in DIR are left out with a warning. The slices of a NIfTI volume are images of
their own, ``volume.nii.gz#z41``, each with the label of the volume. Their patient is the subject that BIDS names in the
path (``sub-01``), else the volume; other files have one by such a name, or by their DICOM header. Any other file of
several frames counts as unreadable: save its frames as files, or name them in a table, ``cine.dcm#0``. Only the headers
of NIfTI files are read, and the first 132 bytes of files without a known suffix, which may be DICOM. The terms of the
images are yours to know.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from monai_sagan.data.datasets.items import Datalist, Item, Reading
from monai_sagan.data.datasets.near_names import near_folders, suggest_place
from monai_sagan.data.datasets.patient_ids import subject_of
from monai_sagan.data.datasets.source_files import report_left_out
from monai_sagan.data.datasets.unread import no_images, unread_kinds
from monai_sagan.data.formats.slices import check_slices
from monai_sagan.errors import SaganError

__all__: list[str] = []

logger = logging.getLogger(__name__)

PARTS = (("normal", "normal", 0), ("test", "test/normal", 0), ("test", "test/abnormal", 1),
         ("test", "test/unlabeled", None))  # fmt: skip
NEEDED = ("normal", "unlabeled")
KINDS = ("normal", "abnormal")  # the subfolders of unlabeled/ that label it
LAYOUT = "normal/, unlabeled/ and, to measure, test/normal/ and test/abnormal/"
ARRANGE = (
    f"sort the images into {LAYOUT}; or list them in images.csv, with the columns image and split (normal, unlabeled, "
    f"test) or label (0, 1), and patient if you know it"
)
NIFTI = (".nii", ".nii.gz")
# Windows, macOS and network disks put these everywhere.
SYSTEM = {"thumbs.db", "ehthumbs.db", "desktop.ini", "__MACOSX", "@eaDir", "System Volume Information"}


def find_folder(folder: Path) -> str | None:
    """The folders by which this layout is recognized, or None."""
    there = [name for name in NEEDED if (folder / name).is_dir()]
    return "normal/ and unlabeled/" if len(there) == 2 else None


def almost_folder(folder: Path) -> str | None:
    """Misspelled folders by which this layout would be recognized, or None."""
    there = [[name] if (folder / name).is_dir() else near_folders(folder, name) for name in NEEDED]
    return " and ".join(f"{names[0]}/" for names in there) if all(there) else None


def read_folder(dataset_dir: str | Path, slice_axis: int = 2, slice_range: Sequence[float] = (0.0, 1.0)) -> Reading:
    """Read a folder of images.

    Args:
        dataset_dir: the folder.
        slice_axis: the axis of NIfTI volumes along which slices are taken, 0, 1 or 2: x, y or z.
        slice_range: where along that axis, as shares of the volume's extent from 0 to 1; the ends of a volume are
            often empty.

    Raises:
        SaganError: naming the folder that is missing or holds no image, or the option that is out of range.
    """
    folder = Path(dataset_dir)
    axis, keep = check_slices(slice_axis, slice_range)
    _check_folders(folder)
    kinds = [f"unlabeled/{kind}" for kind in KINDS]
    labels_known = all((folder / kind).is_dir() for kind in kinds)
    for near in (near for kind in KINDS for near in near_folders(folder / "unlabeled", kind, KINDS)):
        logger.warning(
            f"{folder / 'unlabeled' / near} gives no labels: only {' and '.join(kinds)} do, spelled like that"
        )
    parts = [part for part in PARTS if (folder / part[1]).is_dir()]
    parts += [("unlabeled", kind, label) for label, kind in enumerate(kinds)] if labels_known else []
    datalist: Datalist = {"normal": [], "unlabeled": [], "test": []}
    reasons: Counter[str] = Counter()
    for name, part, label in parts:
        datalist[name] += _items(folder, part, label, axis, keep, reasons)
    inner = [path.relative_to(folder).as_posix() for path in (folder / "test").glob("*") if path.is_dir()]
    datalist["test"] += _items(folder, "test", None, axis, keep, reasons, inner)
    beside = _items(folder, "unlabeled", None, axis, keep, reasons, kinds if labels_known else [])
    if beside and labels_known:
        logger.warning(f"{beside[0]['image']} and {len(beside) - 1} more unlabeled images are in neither of "
                       f"{' and '.join(kinds)}: their labels are unknown")  # fmt: skip
    datalist["unlabeled"] += beside
    for name in NEEDED:
        if not datalist[name]:
            raise no_images(folder / name, _files(folder / name))
    left_out = report_left_out(folder, reasons)
    strays = report_left_out(folder, _strays(folder, [part for _, part, _ in PARTS]), logging.WARNING)
    return Reading(datalist, left_out | strays)


def read_images(dataset_dir: str | Path, slice_axis: int = 2, slice_range: Sequence[float] = (0.0, 1.0)) -> Reading:
    """Read a folder in no layout as one list ``images``, to look at; a note says how to arrange them for training.

    Args:
        dataset_dir: the folder.
        slice_axis: as in `read_folder`.
        slice_range: likewise.
    """
    folder, reasons = Path(dataset_dir), Counter[str]()
    items = _items(folder, "", None, *check_slices(slice_axis, slice_range), reasons)
    hints = {path.name: suggest_place(path.name) for path in sorted(folder.glob("*")) if path.is_dir()}
    arrange = "; ".join([ARRANGE, *(f"{name}/: {hint}" for name, hint in hints.items() if hint)])
    return Reading({"images": items}, report_left_out(folder, reasons), {"to train": arrange})


def _check_folders(folder: Path) -> None:
    for name in NEEDED:
        if not (folder / name).is_dir():
            missing = folder / name if folder.is_dir() else folder
            near = "".join(f"rename {folder / other} to {name}; " for other in near_folders(folder, name))
            raise SaganError(f"no folder {missing}; {near}a dataset has {LAYOUT}; give the folder by --dataset_dir")


def _items(
    folder: Path,
    part: str,
    label: int | None,
    axis: int,
    keep: tuple[float, float],
    reasons: Counter[str],
    without: Sequence[str] = (),
) -> list[Item]:
    items: list[Item] = []
    for path, names in list_images(folder / part, axis, keep, [folder / inner for inner in without]):
        inside = path.relative_to(folder).as_posix()
        patient = subject_of(inside) or (inside if path.name.lower().endswith(NIFTI) else None)
        items += [{"image": name, "label": label} | ({"patient": patient} if patient else {}) for name in names]
        if not names:
            reasons.update(unread_kinds([path]))
    return items


def _strays(folder: Path, parts: Sequence[str]) -> dict[str, int]:
    """The number of images outside the layout, by the reason that names the place."""
    from monai_sagan.data.formats.decode import is_image_file

    counts: Counter[str] = Counter()
    for path in _files(folder, [folder / part for part in (*parts, "unlabeled")]):
        inner = path.parent.relative_to(folder).parts
        if is_image_file(path) and inner != ("test",):
            counts["/".join(inner[: 2 if inner[:1] == ("test",) else 1])] += 1
    hints = {place: f"; {hint}" if (hint := suggest_place(place)) else "" for place in counts}
    return {f"in {folder / place}, which is none of {LAYOUT}{hints[place]}": count for place, count in counts.items()}


def list_images(
    folder: Path,
    slice_axis: int = 2,
    slice_range: tuple[float, float] = (0.0, 1.0),
    without: Sequence[Path] = (),
) -> Iterator[tuple[Path, list[str]]]:
    """Yield every file below a folder, in order, with the names of its images: the slices of a volume, or none."""
    from monai_sagan.data.formats.decode import is_image_file

    for path in _files(folder, without):
        if path.name.lower().endswith(NIFTI):
            yield path, _slices(path, slice_axis, slice_range)
        else:
            yield path, [str(path)] if is_image_file(path) else []


def _files(folder: Path, without: Sequence[Path] = ()) -> Iterator[Path]:
    """Yield all regular files below a folder, sorted, without hidden ones and those of the system.

    Links to folders are followed once; a broken link counts as a file that is missing.
    """
    seen = {os.path.realpath(path) for path in without}
    for place, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith((".", "$")) and name not in SYSTEM)
        names = (name for name in sorted(files) if not name.startswith(".") and name.lower() not in SYSTEM)
        yield from (path for path in (Path(place, name) for name in names) if path.is_file() or not path.exists())


def _slices(path: Path, axis: int, keep: tuple[float, float]) -> list[str]:
    from monai_sagan.data.formats.decode import nifti_slices

    try:
        return nifti_slices(str(path), axis, keep)
    except SaganError:
        return [str(path)]  # a broken file is reported when it is decoded
