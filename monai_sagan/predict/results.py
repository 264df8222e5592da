"""What is kept of a prediction: a journal for going on, and the tables and pictures for the eye."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from monai_sagan.data.unreadable import write_skipped
from monai_sagan.errors import SaganError
from monai_sagan.files import write_text, write_whole

__all__ = ["COLUMNS", "OVERLAYS", "Results", "begin", "check_output", "overlay_name", "state_of", "wants_overlay"]

Row = dict[str, Any]  # of an image: COLUMNS, or "image" and "reason"; "again" where another try may help
Entry = dict[str, Any]  # of a file: "file", "state", "rows"

NOTE, JOURNAL, TABLE, OVERLAYS = "predict.json", "predicted.jsonl", "scores.csv", "overlays"
OURS = re.compile(r"-[0-9a-f]{10}\.png")  # in the name of an overlay, finished or not
COLUMNS = ("image", "score", "p_value", "flag", "warning", "overlay", "status")
PRESENT, GONE = "present", "gone"  # the status of an image: whether its file is still in the folder


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
    """Size and time of a file, by which one that changed is scored again; empty if there is none."""
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

    Results of files that have left the folder stay, after those of the others.

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
        self.folder, self.output, self.overlays = folder, output, overlays
        before = _read(output / JOURNAL)
        self.states = {file: state_of(self.path(file)) for file in [*files, *before]}
        # A file that earlier calls saw may leave while the folder is listed.
        self.files = {file: names for file, names in files.items() if self.states[file] or file not in before}
        kept = {file: entry for file, entry in before.items() if self.states[file] in ([], entry["state"])}
        self.done = {file for file in self.files if file in kept and self._is_complete(kept[file])}
        self.entries = {file: entry for file, entry in kept.items() if file in self.done or file not in self.files}
        self._replaced = {file: entry for file, entry in kept.items() if file not in self.entries}  # once scored again
        self._journal: IO[str]
        self._table: IO[str]

    def _is_complete(self, entry: Entry) -> bool:
        file, rows = entry["file"], entry["rows"]
        names, listed = [row["image"] for row in rows], list(self.files[file])
        drawn = [row for row in rows if "score" in row and wants_overlay(row, self.overlays)]
        return (
            (names == listed or (listed == [file] and len(names) > 1))  # frames are found when it is decoded
            and not any(row.get("again") for row in rows)
            and all((self.output / OVERLAYS / overlay_name(row["image"])).is_file() for row in drawn)
        )

    def __enter__(self) -> Results:
        """Forget what no longer holds, and open the journal and the table for what comes."""
        self.write()
        lines = "".join(json.dumps(entry) + "\n" for entry in self._all())
        write_text(self.output / JOURNAL, lines)
        self._journal = (self.output / JOURNAL).open("a", encoding="utf-8")
        self._table = (self.output / TABLE).open("a", newline="", encoding="utf-8", errors="backslashreplace")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._journal.close()
        self._table.close()
        self.entries, self._replaced = self._replaced | self.entries, {}
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

    def rows(self, files: Iterable[str] | None = None) -> list[Row]:
        """Of all images, scored or not, in order; or of those of some files."""
        chosen = self._ordered() if files is None else files
        return [row for file in chosen if file in self.entries for row in self.entries[file]["rows"]]

    def _ordered(self) -> list[str]:
        return [*self.files, *(file for file in self.entries if file not in self.files)]

    def write(self) -> None:
        """Write ``scores.csv`` and ``skipped.csv``, complete and in order; remove overlays that no row names."""
        write_whole(self.output / TABLE, self._write_table)
        found = [(entry, row) for entry in self.entries.values() for row in entry["rows"] if "reason" in row]
        names = ((name, entry) for entry, row in found for name in (row["image"], entry["file"]))
        status = {self.path(name): self._status(entry) for name, entry in names}
        unreadable, left_out = (
            {self.path(row["image"]): row["reason"] for _, row in found if row.get("again", False) is again}
            for again in (True, False)
        )
        write_skipped(self.output / "skipped.csv", unreadable, left_out, status)
        kept = {row.get("overlay") for entry in self._all() for row in entry["rows"]}
        for path in (self.output / OVERLAYS).glob("*"):
            if path.name not in kept and OURS.search(path.name):
                path.unlink()

    def _all(self) -> list[Entry]:
        return [*self.entries.values(), *self._replaced.values()]

    def _write_table(self, unfinished: Path) -> None:
        with unfinished.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(COLUMNS)
            for name in self._ordered():
                table.writerows(self._cells(self.entries[name]) if name in self.entries else [])

    def path(self, image: str) -> str:
        """The image as the user would name it."""
        return str(self.folder / image)

    def _status(self, entry: Entry) -> str:
        return PRESENT if self.states[entry["file"]] else GONE

    def _cells(self, entry: Entry) -> list[list[str]]:
        return [
            [
                self.path(row["image"]),
                f"{row['score']:.8f}",
                f"{row['p_value']:.6f}",
                "" if row["flag"] is None else str(int(row["flag"])),
                row["warning"],
                row["overlay"],
                self._status(entry),
            ]
            for row in entry["rows"]
            if "score" in row
        ]


def wants_overlay(row: Row, overlays: str) -> bool:
    """Whether an image gets an overlay.

    Args:
        row: of the image, with its ``flag`` and its ``warning``.
        overlays: ``"all"`` images get one, ``"flagged"`` ones and those unlike the training images, or ``"none"``.
    """
    return overlays == "all" or (overlays == "flagged" and bool(row["flag"] or row["warning"]))


def _read(journal: Path) -> dict[str, Entry]:
    """What earlier calls kept; a line that was cut off in its middle is lost.

    Earlier versions flagged images that are unlike the training images.
    """
    if not journal.is_file():
        return {}
    lines = journal.read_text(encoding="utf-8").rpartition("\n")[0].splitlines()
    try:
        entries = {entry["file"]: entry for entry in map(json.loads, lines)}
        for row in (row for entry in entries.values() for row in entry["rows"] if row.get("warning")):
            row["flag"] = None
        return entries
    except (ValueError, KeyError, TypeError):
        raise SaganError(f"{journal} is broken; name a new folder") from None
