"""Checks of the output folder of scored images, and errors of its disk."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from monai_sagan import run_files
from monai_sagan.errors import SaganError
from monai_sagan.output_folder import LOCK, check_kind
from monai_sagan.records import record_text


def check_output(output: Path, recipe: Mapping[str, Any]) -> None:
    """Raise a SaganError unless a folder is new, empty or holds results of the same recipe: images and model."""
    check_kind(output, "prediction")
    note = output / run_files.PREDICTION
    if note.is_file():
        try:
            before = dict(json.loads(note.read_text(encoding="utf-8")))
            folder = before["folder"]
        except (ValueError, KeyError, TypeError):
            raise SaganError(f"{note} is broken; name a new folder") from None
        if folder != recipe["folder"]:
            raise SaganError(f"{output} holds the results of {folder}; name a new folder")
        if before != recipe:
            raise SaganError(f"{output} holds the results of another model; name a new folder")
    elif output.exists() and (not output.is_dir() or any(path.name != LOCK for path in output.iterdir())):
        raise SaganError(f"{output} is not empty; name a new folder")


def begin(output: Path, recipe: Mapping[str, Any]) -> None:
    """Check a folder by `check_output` and record the recipe in it."""
    check_output(output, recipe)
    if not (output / run_files.PREDICTION).is_file():
        record_text(output / run_files.PREDICTION, json.dumps(recipe) + "\n")


@contextmanager
def one_line_for_disk_errors(output: Path) -> Iterator[None]:
    """Turn an OSError, such as a full disk, into a `SaganError` that names the output and the fix."""
    try:
        yield
    except OSError as error:
        raise SaganError(
            f"cannot write to {output} ({error.strerror or error}); make room or name another folder, then repeat the "
            f"command"
        ) from None
