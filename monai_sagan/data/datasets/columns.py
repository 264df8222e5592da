"""The meaning of the columns of a user's table: the image, the patient, and others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from monai_sagan.data.datasets.patient_ids import clean_id
from monai_sagan.data.datasets.rows import find_column, read_header, read_rows
from monai_sagan.errors import SaganError

__all__: list[str] = []

IMAGE = ("image", "path", "file")
# Used without any of those, if there is exactly one of these.
OR_IMAGE = ("image_path", "file_path", "file_name", "image_file", "image_name")
PATIENT = ("patient", "patient_id", "subject", "subject_id", "participant", "participant_id")
OTHERS = ("split", "label", "view", "sex", "site", "age", "mask")

Rows = list[dict[str, str]]


class KnownRows(NamedTuple):
    """A table by the meaning of its columns.

    Args:
        rows: cells by meaning: "image", "patient" and so on.
        columns: the column's own name by its meaning; without "patient" where no column names any.
        unread: names of all other columns.
    """

    rows: Rows
    columns: dict[str, str]
    unread: list[str]

    def in_words(self) -> str:
        """List the columns that were read, each with its own name, and those that were not."""
        read = [name if name == own else f"{name} ({own})" for name, own in self.columns.items()]
        return ", ".join(read) + (f"; not read: {', '.join(self.unread)}" if self.unread else "")


def read_known_rows(path: Path, image_column: str | None = None) -> KnownRows:
    """Read a table by the meaning of its columns; their names are found by `find_column`.

    The column ``patient`` names patients; without it one called patient, subject or participant, with or without id.

    Raises:
        SaganError: naming the table when it has no rows or no column of images, or when the column is ambiguous.
    """
    header = read_header(path)
    images = (image_column,) if image_column else IMAGE if _among(path, header, IMAGE) else OR_IMAGE
    names = _among(path, header, [*images, *PATIENT, *OTHERS])
    rows = read_rows(path, (), list(names))
    image = _image(path, images, names, header if rows else [])
    patient = _patient(path, rows)
    known = (
        {"image": image} | {name: name for name in OTHERS if name in names} | ({"patient": patient} if patient else {})
    )
    columns = {meaning: names[name] for meaning, name in known.items()}
    return KnownRows(
        [{meaning: row[name] for meaning, name in known.items()} for row in rows],
        columns,
        [name for name in header if name and name not in columns.values()],
    )


def _among(path: Path, header: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    """Those of the names that the header has, as it spells them."""
    places = {name: find_column(path, header, name) for name in names}
    return {name: header[place] for name, place in places.items() if place is not None}


def _image(path: Path, images: Sequence[str], names: Mapping[str, str], header: Sequence[str]) -> str:
    there = [name for name in images if name in names] if header else []
    if not there:
        wanted = " or ".join(IMAGE if images is OR_IMAGE else images)
        has = f" (it has {', '.join(header)})" if header else ""
        raise SaganError(f"{path} has no row or no column {wanted}{has}; it names the image of each row")
    if images is OR_IMAGE and len(there) > 1:
        raise SaganError(f"{path} has no column image, but {' and '.join(there)}; rename the right one to image")
    return there[0]


def _patient(path: Path, rows: Rows) -> str | None:
    ids = {name: [clean_id(row[name]) for row in rows] for name in PATIENT if rows and name in rows[0]}
    there = [name for name in ids if any(ids[name])]
    for other in there[1:] if there[:1] != ["patient"] else []:
        pairs = {pair for pair in zip(ids[there[0]], ids[other], strict=True) if pair[1]}
        groups = [{pair[side] for pair in pairs} for side in (0, 1)]
        if "" in groups[0] or {len(pairs)} != set(map(len, groups)):
            raise SaganError(
                f"{path} groups its images otherwise by {there[0]} than by {other}; rename the column of patients to "
                f"patient"
            )
    return there[0] if there else None
