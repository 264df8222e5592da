"""What is kept of a prediction: a journal for going on, and the tables and pictures for the eye."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from monai_sagan.data.readable import write_skipped
from monai_sagan.errors import SaganError
from monai_sagan.files import write_text, write_whole

__all__ = ["COLUMNS", "OVERLAYS", "Results", "begin", "check_output", "overlay_name", "state_of", "wants_overlay"]

Row = dict[str, Any]  # of an image: COLUMNS, or "image" and "reason"; "again" where another try may help
Entry = dict[str, Any]  # of a file: "file", "state", "rows"

NOTE, JOURNAL, TABLE, OVERLAYS = "predict.json", "predicted.jsonl", "scores.csv", "overlays"
OURS = re.compile(r"-[0-9a-f]{10}\.png")  # in the name of an overlay, finished or not
COLUMNS = ("image", "score", "p_value", "flag", "warning", "overlay")


def check_output(output: Path, recipe: Mapping[str, Any]) -> None:
    """Refuse a folder that holds anything but what a call with the same recipe left there.

    Args:
        output: a folder that is new, empty, or was begun with the same recipe.
        recipe: ``artifact``, its SHA-256, and ``folder``, the images.

    Raises:
        SaganError: for any other folder.
    """
    note = output / NOTE
    if note.is_file():
        try:
            before = json.loads(note.read_text(encoding="utf-8"))
            artifact, folder = before["artifact"], before["folder"]
        except (ValueError, KeyError, TypeError):
            raise SaganError(f"{note} is broken; name a new folder") from None
        if artifact != recipe["artifact"]:
            raise SaganError(f"{output} holds the results of another artifact; name a new folder")
        if folder != recipe["folder"]:
            raise SaganError(f"{output} holds the results of {folder}; name a new folder")
    elif output.exists() and (not output.is_dir() or any(path.name != ".lock" for path in output.iterdir())):
        raise SaganError(f"{output} is not empty; name a new folder")


def begin(output: Path, recipe: Mapping[str, Any]) -> None:
    """As `check_output`; then note down in the folder what its results are made of.

    Args:
        output: as there; it is made if it is not there.
        recipe: as there.
    """
    check_output(output, recipe)
    if not (output / NOTE).is_file():
        write_text(output / NOTE, json.dumps(recipe) + "\n")


def state_of(file: str) -> list[int]:
    """Size and time of a file: one that changed is scored anew."""
    try:
        stat = os.stat(file)
    except OSError:
        return []
    return [stat.st_size, stat.st_mtime_ns]


def overlay_name(image: str) -> str:
    """The file name of an image's overlay: readable, and of this image alone whatever other images there are."""
    slug = re.sub(r"[^\w.-]+", "_", image, flags=re.ASCII)[-80:].lstrip("._-") or "image"
    return f"{slug}-{hashlib.sha256(os.fsencode(image)).hexdigest()[:10]}.png"


class Results:
    """The results of a folder, kept as they come; leaving the context writes the tables in the files' order.

    Attributes:
        states: of the files, see `state_of`.
        done: files of which earlier calls scored all images as they are now, and drew those overlays that are wanted.

    Args:
        folder: of the images, as the user names it: so do the tables.
        output: where the results are.
        files: of the images, relative to the folder, in the tables' order, with the names of their images.
        overlays: which are wanted, see `wants_overlay`.
    """

    def __init__(self, folder: Path, output: Path, files: Mapping[str, Sequence[str]], overlays: str) -> None:
        self.folder, self.output, self.files, self.overlays = folder, output, files, overlays
        self.states = {file: state_of(self.path(file)) for file in files}
        before = _read(output / JOURNAL)
        self.entries = {file: before[file] for file in files if file in before and self._is_valid(before[file])}
        self.done = list(self.entries)
        self._journal: IO[str]
        self._table: IO[str]

    def _is_valid(self, entry: Entry) -> bool:
        file, rows = entry["file"], entry["rows"]
        names, listed = [row["image"] for row in rows], list(self.files[file])
        drawn = [row for row in rows if "score" in row and wants_overlay(row["flag"], self.overlays)]
        return (
            bool(entry["state"])
            and entry["state"] == self.states[file]
            and (names == listed or (listed == [file] and len(names) > 1))  # frames are found when it is decoded
            and not any(row.get("again") for row in rows)
            and all((self.output / OVERLAYS / overlay_name(row["image"])).is_file() for row in drawn)
        )

    def __enter__(self) -> Results:
        """Forget what no longer holds, and open the journal and the table for what comes."""
        self.write()
        lines = "".join(json.dumps(entry) + "\n" for entry in self.entries.values())
        write_text(self.output / JOURNAL, lines)
        kept = {row.get("overlay") for row in self.rows()}
        for path in (self.output / OVERLAYS).glob("*"):
            if path.name not in kept and OURS.search(path.name):
                path.unlink()
        self._journal = (self.output / JOURNAL).open("a", encoding="utf-8")
        self._table = (self.output / TABLE).open("a", newline="", encoding="utf-8", errors="backslashreplace")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._journal.close()
        self._table.close()
        self.write()

    def add(self, entries: Sequence[Entry]) -> None:
        """Keep what became of some files, such that it is not lost whatever happens next.

        Args:
            entries: of each: ``file``, relative to the folder; its ``state``; ``rows``, of each image `COLUMNS`, or
                ``image`` and the ``reason`` why it has no score, and ``again``, true where another try may help.
        """
        self.entries |= {entry["file"]: entry for entry in entries}
        self._journal.writelines(json.dumps(entry) + "\n" for entry in entries)
        self._journal.flush()
        os.fsync(self._journal.fileno())
        for entry in entries:
            csv.writer(self._table, lineterminator="\n").writerows(self._cells(entry))
        self._table.flush()  # it is written again from the journal

    def rows(self) -> list[Row]:
        """Of all images, scored or not, in order."""
        return [row for file in self.files if file in self.entries for row in self.entries[file]["rows"]]

    def write(self) -> None:
        """Write ``scores.csv`` and ``skipped.csv``, whole and in order."""

        def write(unfinished: Path) -> None:
            with unfinished.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
                table = csv.writer(file, lineterminator="\n")
                table.writerow(COLUMNS)
                for name in self.files:
                    table.writerows(self._cells(self.entries[name]) if name in self.entries else [])

        write_whole(self.output / TABLE, write)
        rows = [row for row in self.rows() if "reason" in row]
        unreadable, left_out = (
            {self.path(row["image"]): row["reason"] for row in rows if row.get("again", False) is again}
            for again in (True, False)
        )
        write_skipped(self.output / "skipped.csv", unreadable, left_out)

    def path(self, image: str) -> str:
        """The image as the user would name it."""
        return str(self.folder / image)

    def _cells(self, entry: Entry) -> list[list[str]]:
        return [
            [
                self.path(row["image"]),
                f"{row['score']:.8f}",
                f"{row['p_value']:.6f}",
                "" if row["flag"] is None else str(int(row["flag"])),
                row["warning"],
                row["overlay"],
            ]
            for row in entry["rows"]
            if "score" in row
        ]


def wants_overlay(flag: bool | None, overlays: str) -> bool:
    """Whether an image gets an overlay.

    Args:
        flag: whether it is above the threshold; None where there is none.
        overlays: ``"all"`` images get one, ``"flagged"`` ones or ``"none"``.
    """
    return overlays == "all" or (overlays == "flagged" and bool(flag))


def _read(journal: Path) -> dict[str, Entry]:
    """What earlier calls kept; a line that was cut off in its middle is lost."""
    if not journal.is_file():
        return {}
    lines = journal.read_text(encoding="utf-8").rpartition("\n")[0].splitlines()
    try:
        return {entry["file"]: entry for entry in map(json.loads, lines)}
    except (ValueError, KeyError, TypeError):
        raise SaganError(f"{journal} is broken; name a new folder") from None
