"""Rows of a table as its owner ships it: packed or not, in several encodings and with several separators."""

from __future__ import annotations

import csv
import gzip
import io
import os
import re
import zipfile
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from monai_sagan.errors import SaganError

PACKED = (".gz", ".zip")
# By the mark that a text begins with; the mark itself is then removed.
MARKS = {
    b"\xef\xbb\xbf": "UTF-8",
    b"\xff\xfe\x00\x00": "UTF-32-LE",
    b"\xff\xfe": "UTF-16-LE",
    b"\xfe\xff": "UTF-16-BE",
}
SEPARATOR = re.compile(r'"?sep=(.)"?\r?\n')  # Excel's own first line


def find_packed(path: Path) -> Path | None:
    """The file itself, or a packed one beside it, such as ``train.csv.gz``; None without either.

    >>> Path("train.csv.gz").touch()
    >>> find_packed(Path("train.csv")).name
    'train.csv.gz'
    """
    packed = (path.with_name(path.name + suffix) for suffix in PACKED)
    return next((file for file in (path, *packed) if file.is_file()), None)


def read_rows(path: Path, columns: Sequence[str], optional: Collection[str] = ()) -> list[dict[str, str]]:
    r"""Read the cells of a table by column, stripped; a cell that a row lacks is "".

    Any line ends, in UTF-8, or in UTF-16 with its byte order mark; separated by commas, semicolons or tabs. Without the
    table itself a packed one beside it, ``path.gz`` or ``path.zip``, is read.

    >>> _ = Path("a.csv").write_text("Image;Finding\n1.png;none\n")
    >>> read_rows(Path("a.csv"), ["image"], ["finding", "age"])
    [{'image': '1.png', 'finding': 'none'}]

    Args:
        path: a text table whose first line names the columns, see `find_column`.
        columns: those that must be there.
        optional: those that are read if they are there; all others are ignored.

    Raises:
        SaganError: naming the table when it is missing, empty or unreadable, or lacks a column.
    """
    try:
        header, rows = _read(path)
    except FileNotFoundError:
        raise SaganError(f"{path} is missing; put the table there, it holds {', '.join(columns)}") from None
    places = _places(path, header, columns, optional)
    width = max(places.values(), default=-1) + 1
    return [_cells(row, places, width) for row in rows]


def read_header(path: Path) -> list[str]:
    """The names of a table's columns; none if the table is empty."""
    return _read(path)[0]


def _read(path: Path) -> tuple[list[str], list[list[str]]]:
    """The header, and all rows that are not empty."""
    try:
        text = _decoded(path, _content(find_packed(path) or path))
        separator = SEPARATOR.match(text)
        text = text[separator.end() :] if separator else text
        mark = separator[1] if separator else max(",;\t", key=text.partition("\n")[0].count)
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=mark)
        return [name.strip() for name in next(rows, [])], [row for row in rows if any(row)]
    except FileNotFoundError:
        raise
    except (OSError, EOFError, NotImplementedError, csv.Error, zlib.error, zipfile.BadZipFile) as error:
        raise SaganError(f"{path} is not a readable table ({error}); unpack or save it again as CSV in UTF-8") from None


def _content(path: Path) -> bytes:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            return archive.read(_member(path, archive))
    content = path.read_bytes()
    return gzip.decompress(content) if path.suffix == ".gz" else content


def _decoded(path: Path, content: bytes) -> str:
    encoding = next((name for mark, name in MARKS.items() if content.startswith(mark)), "UTF-8")
    if encoding == "UTF-8" and b"\0" in content.partition(b"\n")[0]:
        raise SaganError(f"{path} holds zero bytes, like UTF-16 without its mark; save it again as CSV in UTF-8")
    try:
        return content.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        byte = content[error.start : error.start + 1]
        raise SaganError(
            f"{path} is not in {encoding}: line {line} has the byte 0x{byte.hex()} (in Windows-1252 "
            f"{byte.decode('cp1252', 'replace')!r}); save it again as CSV in UTF-8"
        ) from None


def _member(path: Path, archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    members = [info for info in archive.infolist() if not info.is_dir() and not info.filename.startswith("__MACOSX")]
    named = [info for info in members if os.path.basename(info.filename) == path.stem] or members
    if len(named) != 1 or named[0].flag_bits & 1:
        raise SaganError(f"{path} holds {len(members)} files, or one with a password; unpack the table")
    return named[0]


def _places(path: Path, header: Sequence[str], columns: Sequence[str], optional: Collection[str]) -> dict[str, int]:
    places: dict[str, int] = {}
    for name in [*columns, *optional]:
        place = find_column(path, header, name)
        if place is not None:
            places[name] = place
        elif name in columns:
            raise SaganError(f"{path} has no column {name}; it holds {', '.join(columns)}")
    return places


def find_column(path: Path, header: Sequence[str], name: str) -> int | None:
    """The index of a column in a header, found exactly, else without case, blanks and punctuation; or None.

    >>> find_column(Path("images.csv"), ["Image", "Patient ID"], "patient_id")
    1

    Raises:
        SaganError: when several columns match.
    """
    spellings: tuple[Callable[[str], str], ...] = (str, str.lower, lambda text: re.sub(r"[\W_]+", "", text.lower()))
    for spelled in spellings:
        places = [i for i, found in enumerate(header) if spelled(found) == spelled(name)]
        if len(places) > 1:
            raise SaganError(f"{path} has more than one column {name}; remove one")
        if places:
            return places[0]
    return None


def _cells(row: list[str], places: Mapping[str, int], width: int) -> dict[str, str]:
    row = row + [""] * (width - len(row))
    return {name: row[place].strip() for name, place in places.items()}
