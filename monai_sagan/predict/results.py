"""The results of a folder: a journal to resume from, and the tables and pictures that people read."""

from __future__ import annotations

import csv
import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

from monai_sagan import run_files
from monai_sagan.data.unreadable import write_skipped
from monai_sagan.files import write_atomic
from monai_sagan.predict.journal import Entry, Journal, Row
from monai_sagan.runs.score_table import FLAG, IMAGE, P_VALUE, SCORE, WARNING

OUR_PICTURES = re.compile(r"-[0-9a-f]{10}\.png")  # in the name of an overlay, finished or not
OVERLAY, STATUS = "overlay", "status"
COLUMNS = (IMAGE, SCORE, P_VALUE, FLAG, WARNING, OVERLAY, STATUS)
PRESENT, GONE = "present", "gone"  # the status of an image: whether its file is still in the folder


def file_state(file: str) -> list[int]:
    """Size and modification time of a file, to detect changes; empty if the file is missing."""
    try:
        stat = os.stat(file)
    except OSError:
        return []
    return [stat.st_size, stat.st_mtime_ns]


def overlay_name(image: str) -> str:
    """The file name of an image's overlay: readable, and unique to the image."""
    slug = re.sub(r"[^\w.-]+", "_", image, flags=re.ASCII)[-80:].lstrip("._-") or "image"
    return f"{slug}-{hashlib.sha256(os.fsencode(image)).hexdigest()[:10]}.png"


def wants_overlay(row: Row, overlays: str) -> bool:
    """Whether an image gets an overlay.

    Args:
        row: of the image, with its ``flag`` and its ``warning``.
        overlays: ``"all"`` images get one, ``"flagged"`` ones and those with a warning, or ``"none"``.
    """
    return overlays == "all" or (overlays == "flagged" and bool(row["flag"] or row["warning"]))


class Results:
    """The results of a folder, kept as they come; leaving the context writes the tables in the files' order.

    Results of files that have left the folder stay, after those of the others. Rows are read from the journal when
    they are needed, so memory holds the names of files only.

    Attributes:
        files: the files to score, with the names of their images.
        done: those whose images earlier calls scored as they are now, with all overlays that are wanted.
        gone: files of the journal that have left the folder.

    Args:
        folder: the images' folder, as the user names it: so do the tables.
        output: where the results go.
        files: the files of images, relative to the folder, in the tables' order, with the names of their images.
        overlays: which are wanted, see `wants_overlay`.
    """

    def __init__(self, folder: Path, output: Path, files: Mapping[str, Sequence[str]], overlays: str) -> None:
        self.folder, self.output, self.overlays = folder, output, overlays
        self.files = dict(files)
        self.done: set[str] = set()
        self.gone: set[str] = set()
        self._changed: set[str] = set()
        self._journal = Journal(output / run_files.JOURNAL)
        self._table: IO[str]
        for entry in self._journal.scan():
            self._sort(entry)
        for file in self.gone:  # it may have left while the folder was listed
            self.files.pop(file, None)

    def _sort(self, entry: Entry) -> None:
        """Find out whether an entry of an earlier call still holds."""
        file = entry["file"]
        for files in (self.done, self.gone, self._changed):
            files.discard(file)
        state = file_state(self.path(file))
        if not state:
            self.gone.add(file)
        elif state != entry["state"]:
            self._changed.add(file)
        elif file in self.files and self._is_complete(entry):
            self.done.add(file)

    def _is_complete(self, entry: Entry) -> bool:
        file, rows = entry["file"], entry["rows"]
        names, listed = [row["image"] for row in rows], list(self.files[file])
        drawn = [row for row in rows if "score" in row and wants_overlay(row, self.overlays)]
        return (
            (names == listed or (listed == [file] and len(names) > 1))  # frames are found when it is decoded
            and not any(row.get("again") for row in rows)
            and all((self.output / run_files.OVERLAYS / overlay_name(row["image"])).is_file() for row in drawn)
        )

    def __enter__(self) -> Results:
        """Forget entries of files that changed, and open the journal and the table for new ones."""
        self._journal.open(without=self._changed)
        self._write([file for file in self._ordered() if file in self.done or file not in self.files])
        self._table = (self.output / run_files.SCORES).open(
            "a", newline="", encoding="utf-8", errors="backslashreplace"
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._journal.close()
        self._table.close()
        self._write(self._ordered())
        self._remove_unused_overlays()

    def add(self, entries: Sequence[Entry]) -> None:
        """Keep the results of some files, such that they are not lost whatever happens next.

        Args:
            entries: of each: ``file``, relative to the folder; its ``state``; ``rows``, of each image `COLUMNS`, or
                ``image`` and the ``reason`` why it has no score, and ``again``, true where another try may help.
        """
        self._journal.append(entries)
        self.gone.update(entry["file"] for entry in entries if not entry["state"])
        table = csv.writer(self._table, lineterminator="\n")
        for entry in entries:
            table.writerows(self._cells(entry))
        self._table.flush()  # the journal is what resuming relies on

    def entries(self) -> Iterator[Entry]:
        """The entries of all files, in the tables' order."""
        return self._journal.read(self._ordered())

    def path(self, image: str) -> str:
        """The image as the user would name it."""
        return str(self.folder / image)

    def _ordered(self) -> list[str]:
        there = [file for file in self.files if file in self._journal]
        return there + [file for file in self._journal.files() if file not in self.files]

    def _write(self, files: Sequence[str]) -> None:
        """Write ``scores.csv`` and ``skipped.csv`` of some files."""

        def write_table(unfinished: Path) -> None:
            with unfinished.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
                table = csv.writer(file, lineterminator="\n")
                table.writerow(COLUMNS)
                for entry in self._journal.read(files):
                    table.writerows(self._cells(entry))

        write_atomic(self.output / run_files.SCORES, write_table)
        self._write_skipped(self._journal.read(files))

    def _write_skipped(self, entries: Iterable[Entry]) -> None:
        reasons: tuple[dict[str, str], dict[str, str]] = ({}, {})
        status: dict[str, str] = {}
        for entry in entries:
            for row in entry["rows"]:
                if "reason" in row:
                    reasons[row.get("again", False)][self.path(row["image"])] = row["reason"]
                    status |= dict.fromkeys(map(self.path, (row["image"], entry["file"])), self._status(entry))
        left_out, unreadable = reasons
        write_skipped(self.output / run_files.SKIPPED, unreadable, left_out, status)

    def _remove_unused_overlays(self) -> None:
        kept = {row.get(OVERLAY) for entry in self.entries() for row in entry["rows"]}
        for path in (self.output / run_files.OVERLAYS).glob("*"):
            if path.name not in kept and OUR_PICTURES.search(path.name):
                path.unlink()

    def _status(self, entry: Entry) -> str:
        return GONE if entry["file"] in self.gone else PRESENT

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
