"""Output folders: their kind of output, and the lock of the process that writes to them."""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from monai_sagan import run_files
from monai_sagan.errors import SaganError
from monai_sagan.files import build_folder

__all__: list[str] = []

LOCK, DRAFT = ".lock", ".draft-"
# Files that identify a kind, the most reliable first: for kinds without a config.json, and older versions.
SIGNS = {
    "training run": (run_files.CHECKPOINT, run_files.MODEL, run_files.LAST_MODEL),
    "prediction": (run_files.PREDICTION,),
    "prepared dataset": (run_files.PREPARED,),
    "exported model": ("artifact.json",),
    "bundle": ("train.json", "configs/train.json"),
    "study": ("table.md",),
}
RESULTS = {"evaluation": run_files.METRICS, "inference run": run_files.SCORES}  # the second of older versions
KEYS = {"run_dir": "evaluation", "model": "prediction", "preset": "training run"}  # of a config.json
BELOW = {"evaluation": "evaluation", "prediction": "inference"}  # where these go below a training run


def folder_kind(folder: str | Path) -> str | None:
    """Detect the kind of output in a folder, such as ``"training run"``; None if unknown."""
    folder = Path(folder)
    for kind, signs in SIGNS.items():
        if any((folder / sign).exists() for sign in signs):
            return kind
    if found := config_kind(_config(folder)):
        return found
    return next((kind for kind, name in RESULTS.items() if (folder / name).exists()), None)


def config_kind(config: Mapping[str, Any]) -> str | None:
    """The kind of output of a run by its config; None if unknown."""
    return config.get("kind") or next((kind for key, kind in KEYS.items() if key in config), None)


def _config(folder: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((folder / run_files.CONFIG).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def check_kind(folder: str | Path, kind: str) -> None:
    """Check that a folder, existing or not, has no outputs of another kind.

    Raises:
        SaganError: if it holds outputs of another kind, which would be mixed or overwritten.
    """
    found = folder_kind(folder)
    if found not in (None, kind):
        below = f", for example {Path(folder) / BELOW[kind]}" if found == "training run" and kind in BELOW else ""
        raise SaganError(f"{folder} holds {_a(found)}, which {_a(kind)} would overwrite; name another folder{below}")


def _a(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


@contextmanager
def new_folder(directory: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a draft folder that becomes ``directory`` when it is complete; a failure leaves nothing.

    Raises:
        SaganError: if ``directory`` is not empty or cannot be written.
    """
    target = Path(directory).absolute()
    try:
        if target.is_dir() and any(target.iterdir()):
            raise SaganError(f"{target} is not empty; name a new folder")
        with build_folder(target) as draft:
            yield draft
    except OSError as error:
        raise SaganError(f"cannot write to {target} ({error.strerror or error}); name another folder") from None


@contextmanager
def hold_folder(folder: str | Path, kind: str) -> Iterator[list[int]]:
    """Lock a folder against other processes; create it, and remove it if it stays empty.

    Yields the handles that child processes must keep open, so that they hold the lock if the parent is killed. The
    system releases the lock of a killed process.

    Raises:
        SaganError: if another process holds the lock, or the folder holds outputs of another kind.
        OSError: if it cannot be written.
    """
    folder = Path(folder)
    check_kind(folder, kind)
    made = [part for part in (folder, *folder.parents) if not part.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with _lock(folder, kind) as handles:
            check_kind(folder, kind)  # another process may have written to it meanwhile
            for draft in folder.glob(f"{DRAFT}*"):  # of a process that was killed
                shutil.rmtree(draft, ignore_errors=True)
            yield handles
    finally:
        for part in made:
            with suppress(OSError):
                part.rmdir()


@contextmanager
def _lock(folder: Path, kind: str) -> Iterator[list[int]]:
    try:
        import fcntl
    except ImportError:  # Windows has no such locks
        yield []
        return
    path = folder / LOCK
    with ExitStack() as stack:
        while True:
            file = stack.enter_context(path.open("a+", encoding="utf-8"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise SaganError(f"{folder} is in use by {_holder(file)}; wait for it or name another folder") from None
            except OSError:  # a file system without locks
                yield []
                return
            if _is_at(path, file):  # not removed, meanwhile, by the process that held it
                break
        stack.callback(path.unlink, missing_ok=True)
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        file.truncate(0)
        json.dump({"pid": os.getpid(), "kind": kind, "host": socket.gethostname(), "since": now}, file)
        file.flush()
        yield [file.fileno()]


def _is_at(path: Path, file: IO[str]) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _holder(file: IO[str]) -> str:
    try:
        file.seek(0)
        found = json.load(file)
        return f"process {found['pid']} on {found['host']} ({found['kind']}, since {found['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
