"""What all dataset readers share: tables as their owners ship them, listings of folders, and what is left out and why.

Left out is a dictionary ``{reason: number of images}``; every reader logs it, and adds it to the one that it is given.
"""

from __future__ import annotations

import csv
import logging
import math
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from monai_sagan.errors import SaganError

__all__ = ["LeftOut", "check_images", "files_by_stem", "read_box", "read_rows", "report_left_out"]

logger = logging.getLogger(__name__)

LeftOut = dict[str, int]


def read_rows(path: Path, columns: Sequence[str], optional: Collection[str] = ()) -> list[dict[str, str]]:
    """The cells of a table by column, without the blanks around them; a cell that a row lacks is "".

    Any line ends, with or without a byte order mark; separated by commas, semicolons or tabs.

    Args:
        path: a text table in UTF-8 whose first line names the columns.
        columns: those that must be there.
        optional: those that are read where they are there; all others are passed over.

    Raises:
        SaganError: naming the table when it is missing, empty or unreadable, or lacks a column.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            file.seek(0)
            rows = csv.reader(file, delimiter=max(",;\t", key=first.count))
            places = _places(path, next(rows, []), columns, optional)
            width = max(places.values(), default=-1) + 1
            return [_cells(row, places, width) for row in rows if any(row)]
    except FileNotFoundError:
        raise SaganError(f"{path} is missing; put the table there, it holds {', '.join(columns)}") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SaganError(f"{path} is not a readable table ({error}); unpack or save it again as CSV in UTF-8") from None


def _places(path: Path, header: Sequence[str], columns: Sequence[str], optional: Collection[str]) -> dict[str, int]:
    names = [name.strip() for name in header]
    wanted = [*columns, *(name for name in optional if name in names)]
    for name in wanted:
        if name not in names:
            raise SaganError(f"{path} has no column {name}; it holds {', '.join(columns)}")
        if names.count(name) > 1:
            raise SaganError(f"{path} has more than one column {name}; remove one")
    return {name: names.index(name) for name in wanted}


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


def check_images(names: Iterable[str], there: Mapping[str, str], folder: Path, suffix: str, table: str) -> None:
    """Check that the folder has every image that a ``table`` names.

    Args:
        names: of images, as the table names them.
        there: path by name of those in the folder.
        folder: that should have them.
        suffix: of the image files.
        table: its name.

    Raises:
        SaganError: naming the first that is not there, and how many more.
    """
    missing = [name for name in names if name not in there]
    if missing:
        raise SaganError(
            f"{folder / missing[0]}{suffix} and {len(missing) - 1} more images of {table} are not there; "
            f"unpack the archive again"
        )


def report_left_out(dataset_dir: Path, found: Mapping[str, int], left_out: LeftOut | None) -> None:
    """Log which images a reader left out, and add them to ``left_out``.

    Args:
        dataset_dir: of the images, for the log.
        found: how many images, by the reason.
        left_out: what is added to, or None.
    """
    found = {reason: count for reason, count in found.items() if count}
    for reason, count in found.items():
        logger.info(f"left out of {dataset_dir}: {count} images, {reason}")
    if left_out is not None:
        left_out.update(found)
