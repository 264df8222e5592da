"""Records of a run, kept until all checks have passed, then written together."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from monai_sagan.errors import SaganError
from monai_sagan.files import take_place, write_atomic
from monai_sagan.output_folder import DRAFT

__all__: list[str] = []

Write = Callable[[Path], None]


class _Kept(NamedTuple):
    records: dict[str, Write]
    begin: Callable[[], None]


_kept: dict[Path, _Kept] = {}  # by the folder of a run of this process that has not begun


def keep_records(folder: str | Path, begin: Callable[[], None]) -> None:
    """Keep the records of a folder until they are written together, after a call of ``begin``."""
    _kept[Path(folder).resolve()] = _Kept({}, begin)


def drop_records(folder: str | Path) -> None:
    """Discard the records kept for a folder, and stop keeping them."""
    _kept.pop(Path(folder).resolve(), None)


def write_records(folder: str | Path) -> None:
    """Write the records kept for a folder, all or none, and stop keeping them.

    Raises:
        SaganError: when they cannot be written.
    """
    if Path(folder).resolve() in _kept:
        with replace_together(folder):
            pass


def record(path: str | Path, write: Write) -> None:
    """Let ``write`` fill a file now, or later if `keep_records` was called for its folder."""
    path = Path(path)
    kept = _kept.get(path.parent.resolve())
    if kept is None:
        write_atomic(path, write)
    else:
        kept.records[path.name] = write


def record_text(path: str | Path, text: str) -> None:
    """Record UTF-8 text, see `record` and `monai_sagan.files.write_text`."""
    record(path, lambda target: _write_text(target, text))


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", errors="backslashreplace")


@contextmanager
def replace_together(folder: str | Path) -> Iterator[Path]:
    """Give a draft to fill; its entries, and the records kept for ``folder``, then replace those of ``folder``.

    An error, such as a full disk, leaves ``folder`` as it is.

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
                write_atomic(draft / name, write)
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
