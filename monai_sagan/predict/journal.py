"""The journal of a scored folder: the results of each file, on disk as soon as they are known."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from monai_sagan.errors import SaganError
from monai_sagan.files import write_atomic

Row = dict[str, Any]  # an image: its score and what belongs to it, or the reason why it has none
Entry = dict[str, Any]  # a file: "file", "state" and "rows"


class Journal:
    """Entries of files, one line each; a later entry of a file replaces the earlier one.

    Only the positions of the entries are held in memory. A last line that was cut off by an interruption is ignored.

    Args:
        path: the journal's file; it may be missing.

    Raises:
        SaganError: on reading, when the file is broken.

    Example:
        >>> from tempfile import mkdtemp
        >>> journal = Journal(Path(mkdtemp(), "predicted.jsonl"))
        >>> journal.open()
        >>> journal.append([{"file": "a.png", "state": [512, 0], "rows": []}])
        >>> journal.close()
        >>> [entry["file"] for entry in journal.read(journal.files())]
        ['a.png']
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._positions: dict[str, int] = {}
        self._end = 0
        self._appended: IO[bytes]

    def scan(self) -> Iterator[Entry]:
        """All entries in the order in which they were written, replaced ones included; notes their positions."""
        self._positions, self._end = {}, 0
        if not self.path.is_file():
            return
        with self.path.open("rb") as lines:
            for line in lines:
                if not line.endswith(b"\n"):
                    return
                entry = self._parse(line)
                self._note(entry["file"], len(line))
                yield entry

    def files(self) -> list[str]:
        """The files that have an entry."""
        return list(self._positions)

    def __contains__(self, file: str) -> bool:
        return file in self._positions

    def read(self, files: Iterable[str]) -> Iterator[Entry]:
        """The entries of some files, in the order of these."""
        return map(self._parse, self._lines([self._positions[file] for file in files]))

    def open(self, without: Collection[str] = ()) -> None:
        """Drop replaced entries and those of the files ``without``; then accept new ones until `close`."""
        kept = {file: position for file, position in self._positions.items() if file not in without}

        def copy(unfinished: Path) -> None:
            with unfinished.open("wb") as target:
                for file, line in zip(kept, self._lines(list(kept.values())), strict=True):
                    target.write(line)
                    self._note(file, len(line))

        self._positions, self._end = {}, 0
        write_atomic(self.path, copy)
        self._appended = self.path.open("ab")

    def append(self, entries: Sequence[Entry]) -> None:
        """Add entries, such that an interruption right after the call does not lose them."""
        for entry in entries:
            line = json.dumps(entry).encode("ascii") + b"\n"
            self._appended.write(line)
            self._note(entry["file"], len(line))
        self._appended.flush()
        os.fsync(self._appended.fileno())

    def close(self) -> None:
        """Close the file."""
        self._appended.close()

    def _lines(self, positions: Sequence[int]) -> Iterator[bytes]:
        if not positions:
            return
        with self.path.open("rb") as lines:
            for position in positions:
                lines.seek(position)
                yield lines.readline()

    def _note(self, file: str, length: int) -> None:
        self._positions[file] = self._end
        self._end += length

    def _parse(self, line: bytes) -> Entry:
        """The entry of a line; earlier versions flagged images that are outside the training range."""
        try:
            entry = json.loads(line)
            if not isinstance(entry["file"], str) or not isinstance(entry["state"], list):
                raise TypeError
            for row in entry["rows"]:
                if row.get("warning"):
                    row["flag"] = None
            return dict(entry)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise SaganError(f"{self.path} is broken; name a new folder") from None
