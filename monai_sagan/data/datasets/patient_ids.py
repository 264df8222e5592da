"""Patients' ids in tables and file names, and the source that an image's patient comes from."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from os import PathLike
from typing import Any

from monai_sagan.data.datasets.items import Item

__all__: list[str] = []

# BIDS: sub-<label>, a label of letters and digits, as a folder or as a part of a file's name.
SUBJECT = re.compile(r"(?:^|[/\\_])(?i:sub)-([0-9A-Za-z+]+)(?=[/\\_.#]|$)")
NOBODY = re.compile(r"nan|none|null|n/?a|<na>|unknown", re.IGNORECASE)
DECIMALS = re.compile(r"(\d+)\.0+")  # a column of whole numbers with an empty cell is often saved as 1.0
SUBJECT_NAME, HEADER, VOLUME, DATASET = (
    "the file name (sub-...)",
    "the DICOM header",
    "the volume (each counts as a patient)",
    "the dataset's own table or list",
)


def subject_of(path: str | PathLike[str]) -> str | None:
    """The last subject that a path names by the rules of BIDS, ``sub-01``; None without one.

    Sessions, contrasts and runs of a subject belong to one patient, and so do subjects of one name in two datasets.

    >>> subject_of("normal/sub-01/ses-2/anat/sub-01_ses-2_T1w.nii.gz")
    'sub-01'
    """
    labels = SUBJECT.findall(str(path))
    return f"sub-{labels[-1]}" if labels else None


def name_subjects(items: Iterable[Item], folder: str | PathLike[str]) -> list[Item]:
    """The items, each with the patient that its path below ``folder`` names, unless it has one."""
    above = os.path.normpath(folder) + os.sep
    subjects = ((item, subject_of(os.path.normpath(item["image"]).removeprefix(above))) for item in items)
    return [{"patient": subject} | item if subject else item for item, subject in subjects]


def clean_id(text: str) -> str:
    """An id without surrounding blanks and a spreadsheet's decimals; "" where it names nobody.

    ``1``, ``1.0`` and `` 1`` are one patient. ``01`` and ``1`` are two, as are ``a`` and ``A``; `alike_ids` finds them.

    >>> clean_id(" 12.0 "), clean_id("NaN")
    ('12', '')
    """
    text = text.strip()
    whole = DECIMALS.fullmatch(text)
    return "" if NOBODY.fullmatch(text) else whole[1] if whole else text


def alike_ids(ids: Collection[str]) -> list[tuple[str, str]]:
    """Pairs of ids that differ only in leading zeros or in case."""
    first: dict[str, str] = {}
    pairs = ((first.setdefault(re.sub(r"(?<!\d)0+(?=\d)", "", one.lower()), one), one) for one in sorted(ids))
    return [(a, b) for a, b in pairs if a != b]


def patient_sources(items: Iterable[Item], described: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """The number of images by the source of their patient, the most frequent first."""
    sources = (_source(item, described.get(item["image"], {}).get("patient")) for item in items)
    return dict(Counter(source for source in sources if source).most_common())


def _source(item: Item, in_header: str | None) -> str | None:
    patient = item.get("patient", in_header)
    if patient is None:
        return None
    if "patient_column" in item:
        return f"the column {item['patient_column']}"
    if patient == in_header:
        return HEADER
    if patient == subject_of(item["image"]):
        return SUBJECT_NAME
    return VOLUME if str(patient).lower().endswith((".nii", ".nii.gz")) else DATASET
