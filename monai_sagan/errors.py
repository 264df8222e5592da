"""The one error that a user can cause, and how a command shows it: one line, no stack trace."""

from __future__ import annotations

import errno
import functools
import logging
import os
import re
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from types import TracebackType

__all__ = ["SaganError", "no_room", "show_errors_in_one_line"]

Hook = Callable[[type[BaseException], BaseException, TracebackType | None], object]

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)
TRACEBACK_VARIABLE = "MONAI_SAGAN_TRACEBACK"
MONAI_FAILURE = re.compile(
    r"Failed to instantiate component '(?P<name>.+?)' with|Failed to evaluate \w+: \n(?P<code>.+)", re.DOTALL
)
# From a worker process of torch's DataLoader only the text of the stack trace arrives.
WORKER_FAILURE = re.compile(rf"^{re.escape(__name__)}\.SaganError: (.+)$", re.MULTILINE)


class SaganError(ValueError):
    """Bad input: one sentence that names the value or file, and the fix."""


def no_room(error: BaseException, place: object = None) -> str | None:
    """One line for an ``error`` of a disk that takes no more; None for any other error.

    Args:
        error: of any kind.
        place: what was written, for an error that names no file.
    """
    if not isinstance(error, OSError) or error.errno not in NO_ROOM:
        return None
    path = error.filename or place
    what = "cannot write" if path is None else f"cannot write {path}"
    return f"{what} ({error.strerror}); make room, then give the same command again"


def show_errors_in_one_line() -> None:
    """From now on end a command that fails by the user's own input with one line on stderr, without a stack trace.

    That is for a `SaganError`, also as the cause of another error; for a full disk; for MONAI's nested errors about a
    component or an expression of a config; and for an interruption. The environment variable
    ``MONAI_SAGAN_TRACEBACK=1`` brings the whole trace back. What ignite logs of the same error stays out of the
    console, and in a run's ``log.txt``.
    """
    for handler in logging.getLogger().handlers:
        if type(handler) is logging.StreamHandler and _not_said_again not in handler.filters:
            handler.addFilter(_not_said_again)
    installed = isinstance(sys.excepthook, functools.partial) and sys.excepthook.func is _one_line_hook
    if not installed:
        sys.excepthook = functools.partial(_one_line_hook, sys.excepthook)
    if threading.excepthook is not _thread_hook:
        threading.excepthook = _thread_hook


def _not_said_again(record: logging.LogRecord) -> bool:
    return not (record.name.startswith("ignite.") and record.getMessage().startswith("Engine run is terminating due"))


def _thread_hook(failed: threading.ExceptHookArgs) -> None:
    """TensorBoard writes in a thread of its own, whose error the main thread raises again at its next write."""
    if failed.exc_value is None or no_room(failed.exc_value) is None:
        threading.__excepthook__(failed)


def _one_line_hook(
    previous: Hook, kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    line = None if os.environ.get(TRACEBACK_VARIABLE) == "1" else _in_one_line(error)
    if line is None:
        previous(kind, error, trace)
    else:
        print(line, file=sys.stderr)


def _in_one_line(error: BaseException) -> str | None:
    """What to print for an error, or None when its stack trace says more."""
    if isinstance(error, KeyboardInterrupt):
        return "stopped; the same command continues the run"
    for link in _chain(error):
        if message := _sagan_message(link) or no_room(link):
            return f"error: {message}"
    causes = list(_causes(error))
    failures = [cause for cause in causes if MONAI_FAILURE.match(str(cause))]
    if not failures:
        return None
    cause = f"{type(causes[-1]).__name__}: {_message(causes[-1])}"
    return f"error: {_place(failures[-1])}: {cause} ({TRACEBACK_VARIABLE}=1 shows the whole trace)"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _sagan_message(error: BaseException) -> str | None:
    in_worker = WORKER_FAILURE.search(str(error))
    if in_worker:
        return in_worker[1]
    return _message(error) if isinstance(error, SaganError) else None


def _message(error: BaseException) -> str:
    """The first paragraph of what an error says: advice and traces of optional imports come after it."""
    return " ".join(str(error).strip().split("\n\n")[0].split())


def _place(failure: BaseException) -> str:
    """The config id that a MONAI error is about, and the component or the expression there."""
    match = MONAI_FAILURE.match(str(failure))
    assert match is not None
    what = match["name"] or re.sub(r"__local_refs\['(.+?)'\]", r"@\1", match["code"].strip().strip('"'))
    # MONAI's message does not tell the id; the function that resolves it knows.
    frames = (frame for frame, _ in traceback.walk_tb(failure.__traceback__))
    ids = [frame.f_locals.get("id") for frame in frames if frame.f_code.co_name == "_resolve_one_item"]
    return (f"{ids[-1]} ({what})" if ids else what).replace("::", "#")
