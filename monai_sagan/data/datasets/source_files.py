"""Shared by all dataset readers: rows, boxes and paths of tables, listings of folders, the log of images left out."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PureWindowsPath

from monai_sagan.errors import SaganError
from monai_sagan.files import name_on_disk

__all__ = ["report_left_out"]

logger = logging.getLogger(__name__)

PICTURES = (".png", ".jpg", ".jpeg")  # DICOM files are often passed on as such
UNPACK = "unpack the archive again, or put PNG or JPEG files of the same names there"


def read_box(path: Path, name: str, cells: Sequence[str], corners: bool = False) -> list[float]:
    """A box [x, y, width, height] from four cells of a table: those numbers, or with ``corners`` two corners.

    Raises:
        SaganError: when the cells are not four numbers, or the box has no area; it names the table and the image.
    """
    try:
        x, y, width, height = (float(cell) for cell in cells)
    except ValueError:
        x = y = width = height = math.nan
    if corners:
        width, height = width - x, height - y
    if not (math.isfinite(x) and math.isfinite(y) and 0 < width < math.inf and 0 < height < math.inf):
        cell = ", ".join(cells)
        raise SaganError(f"{path} has a box of {name} that is not four numbers with an area: {cell}; fix it")
    return [x, y, width, height]


def files_by_stem(folder: Path, suffixes: tuple[str, ...]) -> dict[str, str]:
    """List the files of a folder by name without suffix, sorted; empty for a missing folder.

    >>> Path("films").mkdir()
    >>> Path("films", "a.PNG").touch()
    >>> files_by_stem(Path("films"), (".png",))
    {'a': 'films/a.PNG'}

    Args:
        folder: searched without its subfolders.
        suffixes: in lower case.

    Raises:
        SaganError: when two files differ only in their suffix.
    """
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return {}
    files: dict[str, str] = {}
    for name in names:
        if name.lower().endswith(suffixes) and not name.startswith("."):
            stem = os.path.splitext(name)[0]
            if stem in files:
                raise SaganError(f"{files[stem]} and {name} have one name; remove one of the two")
            files[stem] = os.path.join(folder, name)
    return files


def images_by_stem(folder: Path, dicom: tuple[str, ...]) -> tuple[dict[str, str], str]:
    """The DICOM files of a folder, or without any its pictures, see `files_by_stem`; and their suffix."""
    if found := files_by_stem(folder, dicom):
        return found, dicom[0]
    pictures = files_by_stem(folder, PICTURES)
    return pictures, next((os.path.splitext(path)[1] for path in pictures.values()), dicom[0])


def listed_path(folder: Path, name: str) -> str:
    r"""The path of a file that a table or list names, also by an escape, see `monai_sagan.files.name_on_disk`.

    Backslashes count as slashes where no file has them in its name; a path with a drive that is not there is returned
    unchanged.

    >>> listed_path(Path("set"), "sub\\a.png")
    'set/sub/a.png'
    """
    from monai_sagan.data.formats.decode import split_fragment

    path, drive = str(folder / name), PureWindowsPath(name).drive
    if os.name == "nt" or not (drive or "\\" in name or not name.isascii()) or os.path.exists(split_fragment(path)[0]):
        return path
    path = str(folder / name_on_disk(name))
    if os.path.exists(split_fragment(path)[0]) or not (drive or "\\" in name):
        return path
    return name if drive else str(folder / name.replace("\\", "/"))


def check_some_there(missing: Sequence[str], count: int, of: str, fix: str = UNPACK) -> None:
    """Refuse images if all are missing; a part is logged, and counts as unreadable when it is decoded.

    >>> check_some_there(["a.png"], 1, "films of films.csv", "copy them again")
    Traceback (most recent call last):
    monai_sagan.errors.SaganError: a.png and 0 more films of films.csv are not there; copy them again

    Args:
        missing: paths of missing images.
        count: of all images.
        of: what they belong to.
        fix: what the user can do.

    Raises:
        SaganError: naming the first, and how many more.
    """
    if not missing:
        return
    found = f"{missing[0]} and {len(missing) - 1} more {of} are not there"
    if len(missing) == count:
        raise SaganError(f"{found}{_cause(missing[0])}; {fix}")
    logger.warning(f"{found}, of {count}: they count as unreadable{_cause(missing[0])}")


def _cause(name: str) -> str:
    """A likely reason why a file is not found under this name."""
    if os.name != "nt" and PureWindowsPath(name).drive:
        return "; it is a path of a Windows machine"
    return "" if os.path.basename(name).isascii() else "; if its letters look wrong, save what lists it again in UTF-8"


def report_left_out(dataset_dir: Path, found: Mapping[str, int], level: int = logging.INFO) -> dict[str, int]:
    """Log how many images a reader left out, by the reason, and return the reasons that apply to any image.

    >>> report_left_out(Path("set"), {"in no table": 3, "of another class": 0})
    {'in no table': 3}

    Args:
        dataset_dir: of the images, for the log.
        found: the number of images by the reason.
        level: of the log: a warning where it may be a mistake.
    """
    found = {reason: count for reason, count in found.items() if count}
    for reason, count in found.items():
        logger.log(level, f"left out of {dataset_dir}: {count} images, {reason}")
    return found
