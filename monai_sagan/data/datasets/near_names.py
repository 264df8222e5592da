"""Misspelled folders: which name was meant, and what to do about it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

__all__: list[str] = []

TOP = ("normal", "unlabeled", "test")  # the folders of a dataset
KINDS = ("normal", "abnormal", "unlabeled")  # of a test
ELSEWHERE = {
    r"abnormals?": "abnormal images belong in test/abnormal/ to measure, or among those in unlabeled/",
    r"val(id(ation)?)?": "validation is carved out of normal/ and unlabeled/ (--valid_fraction), put its images there",
    r"train(ing)?": "normal/ and unlabeled/ belong in the dataset's folder itself",
}


def guess_name(name: str, names: Sequence[str] = TOP) -> str | None:
    """The one of ``names`` that a folder's name nearly is; None if it is exact or not close to any.

    >>> guess_name("Normal"), guess_name("unlabelled"), guess_name("abnormal")
    ('normal', 'unlabeled', None)
    """
    if name in names or _elsewhere(name, names):
        return None
    near = get_close_matches(name.lower(), names, 1, 0.82)
    return near[0] if near else None


def suggest_place(place: str) -> str:
    """What to do about images in a folder that is not part of the layout; "" where its name says nothing."""
    above, _, name = place.rpartition("/")
    names = KINDS if above == "test" else TOP
    if meant := guess_name(name, names):
        return f"if {f'{above}/{meant}'.lstrip('/')}/ is meant, its images belong there"
    return _elsewhere(name, names) or ""


def _elsewhere(name: str, names: Sequence[str]) -> str | None:
    if name.lower() in names:
        return None
    return next((words for called, words in ELSEWHERE.items() if re.fullmatch(called, name.lower())), None)


def near_folders(folder: Path, name: str, names: Sequence[str] = TOP) -> list[str]:
    """Folders in ``folder`` whose names are nearly ``name``, one of ``names``, sorted."""
    return sorted(path.name for path in folder.glob("*") if path.is_dir() and guess_name(path.name, names) == name)
