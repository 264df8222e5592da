"""Files and folders that are either complete or not there, whenever the process dies; file names that fit anywhere."""

from __future__ import annotations

import errno
import io
import os
import pickle
import pickletools
import re
import sys
import tempfile
import uuid
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from monai_sagan.distributed import is_main

ESCAPED = re.compile(r"\\u(dc[89a-f][0-9a-f])")  # how `write_text` writes a byte of a name that is not UTF-8
PLAIN = re.compile(  # what pickles of tensors and plain values name
    r"torch\.(\w+|(_utils|_tensor|storage)\.\w+|serialization\._get_layout|nn\.parameter\.Parameter)|"
    r"collections\.OrderedDict|_codecs\.encode"
)


def write_atomic(path: str | Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, sync it to the disk, and rename it to ``path``.

    Whenever the process dies, ``path`` holds its old content or all of the new one. Of several processes that train
    one model only the main one writes.

    Raises:
        OSError: naming ``path``, when it cannot be written, as on a full disk.
    """
    if not is_main():
        return
    path = Path(path)
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(unfinished)
        _to_disk(unfinished)
        os.replace(unfinished, path)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from None
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
    _to_disk(path.parent)  # the new name


def _to_disk(path: Path) -> None:
    if path.is_dir() and os.name == "nt":  # Windows syncs no folders
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def build_folder(path: str | Path, replace: bool = False) -> Iterator[Path]:
    """Give a folder to fill beside ``path``; filled, it becomes ``path``, while any failure leaves ``path`` as it was.

    >>> folder = Path(tempfile.mkdtemp(), "results")
    >>> with build_folder(folder) as draft:
    ...     _ = (draft / "a.txt").write_text("a")
    ...     folder.exists()
    False
    >>> [file.name for file in folder.iterdir()]
    ['a.txt']

    Args:
        path: of the folder; those above it are made, too.
        replace: what ``path`` holds by then; False leaves it alone.

    Raises:
        OSError: when it cannot be written; of errno ENOTEMPTY, when ``path`` holds anything and is not to be replaced.
    """
    path = Path(path).absolute()
    made = [parent for parent in path.parents if not parent.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{shorten_name(path.name)}-") as scratch:
            draft = Path(scratch, "new")
            draft.mkdir()
            yield draft
            if path.exists() and not replace and (not path.is_dir() or any(path.iterdir())):
                raise OSError(errno.ENOTEMPTY, "it is not empty", str(path))
            if path.is_dir() and path.samefile(os.curdir) and not replace:  # a shell may stand in it: it stays
                for entry in draft.iterdir():
                    entry.rename(path / entry.name)
            else:
                take_place(draft, path, Path(scratch, "old"))
    except BaseException:
        for parent in made:
            with suppress(OSError):
                parent.rmdir()
        raise


def take_place(new: Path, place: Path, old: Path) -> None:
    """Move a file or folder to ``place``; a filled folder, which no system replaces, becomes ``old``."""
    try:
        os.replace(new, place)
    except OSError:
        if not place.is_dir():
            raise
        place.rename(old)
        try:
            os.replace(new, place)
        except OSError:
            old.rename(place)
            raise


def shorten_name(name: str, most: int = 180) -> str:
    """Cut a file's name to ``most`` bytes of UTF-8: systems allow 255, with what is added before and behind."""
    stored = name.encode("utf-8", "surrogatepass")
    return name if len(stored) <= most else stored[:most].decode("utf-8", "ignore")


def name_on_disk(text: str) -> str:
    """The name on disk for a UTF-8 text, such as `write_text` wrote it, whatever the locale."""
    stored = ESCAPED.sub(lambda escape: chr(int(escape[1], 16)), text)
    return os.fsdecode(stored.encode("utf-8", "surrogateescape"))


def print_any_name() -> None:
    """Print characters that the output's encoding lacks as escapes, such as those of a name that is not UTF-8."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text atomically; bytes of file names that are not UTF-8 are written as escapes."""

    def write(unfinished: Path) -> None:
        unfinished.write_text(text, encoding="utf-8", errors="backslashreplace")

    write_atomic(path, write)


def save_tensors(content: dict[str, Any], path: str | Path) -> None:
    """Save tensors and plain values atomically, such that ``torch.load(weights_only=True)`` reads them.

    >>> import torch
    >>> save_tensors({"weights": torch.ones(2), "epoch": 3}, "model.pt")
    >>> load_tensors("model.pt")["epoch"]
    3

    Args:
        content: tensors, numbers, texts, and lists and dictionaries of them.
        path: of the file; it keeps its old content until the new one is complete.
    """
    import torch

    def write(unfinished: Path) -> None:
        with unfinished.open("wb") as file:
            try:
                torch.save(content, file)
            except RuntimeError as error:  # of torch's own bookkeeping, where the file took no more
                raise error.__context__ if isinstance(error.__context__, OSError) else error from None

    write_atomic(path, write)


def load_tensors(path: str | Path, mmap: bool = False) -> dict[str, Any]:
    """Load tensors and plain values onto the CPU; code in the file is never executed.

    >>> load_tensors("none.pt")
    Traceback (most recent call last):
    monai_sagan.errors.SaganError: no file none.pt; give a trained model's path, as by --model runs/rsna/model.pt

    Args:
        path: of the file.
        mmap: read a tensor from the file when it is used: for plain values beside large tensors.

    Raises:
        SaganError: naming the file when it is missing, broken, or holds anything but tensors and plain values.
    """
    import torch

    from monai_sagan.errors import SaganError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of pickles that other programs wrote: an error follows
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap and zipfile.is_zipfile(path))
    except FileNotFoundError:
        raise SaganError(f"no file {path}; give a trained model's path, as by --model runs/rsna/model.pt") from None
    except Exception as error:
        if _is_cut(Path(path)):
            fix = "train again, or give another model file, such as model_last.pt beside it"
            raise SaganError(f"{path} is cut or damaged; {fix}") from None
        if code := _code_in(Path(path)):
            fix = "nothing was executed, get a file of tensors and plain values"
            raise SaganError(f"{path} holds code ({code}) where weights should be; {fix}") from None
        # Of a pickle torch's own words end in advice to load it with its code.
        unknown = isinstance(error, pickle.UnpicklingError)
        reason = "no file that torch saved" if unknown else (str(error).splitlines() or [type(error).__name__])[0]
        raise SaganError(f"{path} does not hold plain weights ({reason}); nothing was loaded") from None
    if not isinstance(content, dict):
        raise SaganError(f"{path} holds a {type(content).__name__}, not a dictionary of weights")
    return content


def _code_in(path: Path) -> str | None:
    """The first function or class in a pickle that is not torch's, found without executing anything."""
    texts: list[str] = []
    try:
        for operation, value, _ in pickletools.genops(_pickled(path)):
            if isinstance(value, str):
                texts.append(value)
            named = str(value).replace(" ", ".") if operation.name == "GLOBAL" else ".".join(texts[-2:])
            if operation.name in ("GLOBAL", "STACK_GLOBAL") and not PLAIN.fullmatch(named):
                return named
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        pass
    return None


def _pickled(path: Path) -> bytes:
    if not zipfile.is_zipfile(path):
        return path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        return b"".join(archive.read(name) for name in archive.namelist() if name.endswith("/data.pkl"))


def _is_cut(path: Path) -> bool:
    """Whether a file begins like one that torch saved, or is empty, and does not end like one."""
    begin = b"PK"  # torch saves ZIP archives, which have their table of contents at the end
    try:
        with path.open("rb") as file:
            return begin.startswith(file.read(len(begin))) and not zipfile.is_zipfile(path)
    except OSError:
        return False
