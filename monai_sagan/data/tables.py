"""What all dataset readers share: tables as their owners ship them, listings of folders, and what is left out and why.

Left out is a dictionary ``{reason: number of images}``; every reader logs it, and adds it to the one that it is given.
"""

from __future__ import annotations

import csv
import gzip
import io
import logging
import math
import os
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from monai_sagan.errors import SaganError

__all__ = [
    "PACKED",
    "LeftOut",
    "check_slices",
    "check_some_there",
    "files_by_stem",
    "find_packed",
    "read_box",
    "read_rows",
    "report_left_out",
]

logger = logging.getLogger(__name__)

LeftOut = dict[str, int]
PACKED = (".gz", ".zip")


def find_packed(path: Path) -> Path | None:
    """The file itself, or a packed one beside it, such as ``train.csv.gz``; None where there is neither.

    Args:
        path: of the file when unpacked.
    """
    packed = (path.with_name(path.name + suffix) for suffix in PACKED)
    return next((file for file in (path, *packed) if file.is_file()), None)


def read_rows(path: Path, columns: Sequence[str], optional: Collection[str] = ()) -> list[dict[str, str]]:
    """The cells of a table by column, without the blanks around them; a cell that a row lacks is "".

    Any line ends, with or without a byte order mark; separated by commas, semicolons or tabs. Where the table is not
    there but a packed one beside it, ``path.gz`` or ``path.zip``, that is read.

    Args:
        path: a text table in UTF-8 whose first line names the columns, in small or capital letters.
        columns: those that must be there.
        optional: those that are read where they are there; all others are passed over.

    Raises:
        SaganError: naming the table when it is missing, empty or unreadable, or lacks a column.
    """
    try:
        with _opened(path) as file:
            first = file.readline()
            file.seek(0)
            rows = csv.reader(file, delimiter=max(",;\t", key=first.count))
            places = _places(path, next(rows, []), columns, optional)
            width = max(places.values(), default=-1) + 1
            return [_cells(row, places, width) for row in rows if any(row)]
    except FileNotFoundError:
        raise SaganError(f"{path} is missing; put the table there, it holds {', '.join(columns)}") from None
    except (OSError, EOFError, UnicodeDecodeError, csv.Error, zlib.error, zipfile.BadZipFile) as error:
        raise SaganError(f"{path} is not a readable table ({error}); unpack or save it again as CSV in UTF-8") from None


@contextmanager
def _opened(path: Path) -> Iterator[IO[str]]:
    found = find_packed(path) or path
    if found.suffix == ".gz":
        with gzip.open(found, "rt", newline="", encoding="utf-8-sig") as file:
            yield file
    elif found.suffix == ".zip":
        with zipfile.ZipFile(found) as archive, archive.open(_member(found, archive)) as member:
            yield io.TextIOWrapper(member, newline="", encoding="utf-8-sig")
    else:
        with found.open(newline="", encoding="utf-8-sig") as file:
            yield file


def _member(path: Path, archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    members = [info for info in archive.infolist() if not info.is_dir() and not info.filename.startswith("__MACOSX")]
    named = [info for info in members if os.path.basename(info.filename) == path.stem] or members
    if len(named) != 1 or named[0].flag_bits & 1:
        raise SaganError(f"{path} holds {len(members)} files, or one with a password; unpack the table")
    return named[0]


def _places(path: Path, header: Sequence[str], columns: Sequence[str], optional: Collection[str]) -> dict[str, int]:
    names = [name.strip() for name in header]
    places: dict[str, int] = {}
    for name in [*columns, *optional]:
        # A name in just these letters comes first: tables may have both "label" and "Label".
        same = [i for i, found in enumerate(names) if found == name]
        same = same or [i for i, found in enumerate(names) if found.lower() == name.lower()]
        if not same and name in columns:
            raise SaganError(f"{path} has no column {name}; it holds {', '.join(columns)}")
        if len(same) > 1:
            raise SaganError(f"{path} has more than one column {name}; remove one")
        if same:
            places[name] = same[0]
    return places


def _cells(row: list[str], places: Mapping[str, int], width: int) -> dict[str, str]:
    row = row + [""] * (width - len(row))
    return {name: row[place].strip() for name, place in places.items()}


def read_box(path: Path, name: str, cells: Sequence[str], corners: bool = False) -> list[float]:
    """A box [x, y, width, height] from four cells of the row of image ``name``.

    Args:
        path: the table, for the message.
        name: the image, for the message.
        cells: x, y, width, height, or with ``corners`` x and y of the upper left and of the lower right corner.
        corners: see there.

    Raises:
        SaganError: when the cells are no four numbers, or the box has no area.
    """
    try:
        x, y, width, height = (float(cell) for cell in cells)
    except ValueError:
        x = y = width = height = math.nan
    if corners:
        width, height = width - x, height - y
    if not (math.isfinite(x) and math.isfinite(y) and 0 < width < math.inf and 0 < height < math.inf):
        raise SaganError(
            f"{path} has a box of {name} that is no four numbers with an area: {', '.join(cells)}; mend it"
        )
    return [x, y, width, height]


def files_by_stem(folder: Path, suffixes: tuple[str, ...]) -> dict[str, str]:
    """Path of each file of a folder by its name without suffix, sorted; nothing where there is no such folder.

    Args:
        folder: to look into, not below.
        suffixes: of the files that count, in small letters.

    Raises:
        SaganError: when two files have one name but for the suffix.
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


def check_some_there(missing: Sequence[str], count: int, of: str, mend: str) -> None:
    """Refuse images of which none is there; a part that is missing is logged: decoding counts it as unreadable.

    Args:
        missing: paths of those that are not there.
        count: of all.
        of: what names them.
        mend: what to do about it.

    Raises:
        SaganError: naming the first, and how many more.
    """
    if not missing:
        return
    found = f"{missing[0]} and {len(missing) - 1} more {of} are not there"
    if len(missing) == count:
        raise SaganError(f"{found}; {mend}")
    logger.warning(f"{found}, of {count}: they count as unreadable")


def check_slices(slice_axis: object, slice_range: object) -> tuple[int, tuple[float, float]]:
    """Check which slices of volumes are asked for; returns the axis and the range as numbers.

    Args:
        slice_axis: 0, 1 or 2.
        slice_range: two rising shares from 0 to 1.

    Raises:
        SaganError: naming the value that is something else.
    """
    if isinstance(slice_axis, bool) or not isinstance(slice_axis, int) or slice_axis not in (0, 1, 2):
        raise SaganError(f"slice_axis is {slice_axis!r}; it is 0, 1 or 2")
    try:
        first, last = (float(share) for share in slice_range)  # type: ignore[attr-defined]  # what is no pair raises
    except (TypeError, ValueError):
        first = last = math.nan
    if isinstance(slice_range, str) or not 0 <= first < last <= 1:
        raise SaganError(f"slice_range is {slice_range!r}; it is two shares from 0 to 1, for example [0.2, 0.8]")
    return slice_axis, (first, last)


def report_left_out(
    dataset_dir: Path, found: Mapping[str, int], left_out: LeftOut | None, level: int = logging.INFO
) -> None:
    """Log which images a reader left out, and add them to ``left_out``.

    Args:
        dataset_dir: of the images, for the log.
        found: how many images, by the reason.
        left_out: what is added to, or None.
        level: of the log: a warning where it may be a mistake.
    """
    found = {reason: count for reason, count in found.items() if count}
    for reason, count in found.items():
        logger.log(level, f"left out of {dataset_dir}: {count} images, {reason}")
    if left_out is not None:
        left_out.update(found)
