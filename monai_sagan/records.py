"""What a run records about itself: kept until everything is checked, then written together."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from monai_sagan.errors import SaganError
from monai_sagan.files import take_place, write_whole
from monai_sagan.output_folder import DRAFT

__all__ = ["drop_records", "keep_records", "record", "record_text", "replace_together", "write_records"]

Write = Callable[[Path], None]


class _Kept(NamedTuple):
    records: dict[str, Write]
    begin: Callable[[], None]


_kept: dict[Path, _Kept] = {}  # by the folder of a run of this process that has not begun


def keep_records(folder: str | Path, begin: Callable[[], None]) -> None:
    """From now on keep what is recorded in ``folder``, until `write_records` or `replace_together` writes it.

    Args:
        folder: of a run that is not checked yet.
        begin: called when all that was kept can be written, right before it takes its places.
    """
    _kept[Path(folder).resolve()] = _Kept({}, begin)


def drop_records(folder: str | Path) -> None:
    """Forget what was kept of ``folder``, and keep no more of it."""
    _kept.pop(Path(folder).resolve(), None)


def write_records(folder: str | Path) -> None:
    """Write what was kept of ``folder``, all of it or nothing, and keep no more of it.

    Raises:
        SaganError: when it cannot be written.
    """
    if Path(folder).resolve() in _kept:
        with replace_together(folder):
            pass


def record(path: str | Path, write: Write) -> None:
    """Write a file, or keep it until the run that `keep_records` was called for begins.

    Args:
        path: of the file.
        write: fills the file of the path that it is given.
    """
    path = Path(path)
    kept = _kept.get(path.parent.resolve())
    if kept is None:
        write_whole(path, write)
    else:
        kept.records[path.name] = write


def record_text(path: str | Path, text: str) -> None:
    """As `record`, of UTF-8 text.

    Args:
        path: of the file.
        text: of any length; what is no UTF-8 in a file's name is written as an escape.
    """
    record(path, lambda target: _write_text(target, text))


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", errors="backslashreplace")


@contextmanager
def replace_together(folder: str | Path) -> Iterator[Path]:
    """Give a draft to fill; then what is in it, and what was kept of ``folder``, replaces what ``folder`` has.

    An error, such as a full disk, leaves ``folder`` as it is.

    Args:
        folder: it is made if it is not there.

    Raises:
        SaganError: when it cannot be written.
    """
    folder = Path(folder).resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=DRAFT) as temporary:
            draft = Path(temporary, "new")
            draft.mkdir()
            yield draft
            kept = _kept.get(folder)
            for name, write in kept.records.items() if kept else ():
                write_whole(draft / name, write)
            places = {entry: folder / entry.name for entry in sorted(draft.iterdir())}
            _check_places(places)
            if kept:
                kept.begin()
                drop_records(folder)
            _replace(places, Path(temporary, "old"))
    except OSError as error:
        reason = error.strerror or error
        raise SaganError(f"cannot write to {folder} ({reason}); make room, then give the same command again") from None


def _check_places(places: Mapping[Path, Path]) -> None:
    for entry, place in places.items():
        if place.exists() and place.is_dir() != entry.is_dir():
            raise FileExistsError(errno.EEXIST, f"{place.name} is of another kind")


def _replace(places: Mapping[Path, Path], replaced: Path) -> None:
    replaced.mkdir()
    for entry, place in places.items():
        take_place(entry, place, replaced / place.name)
