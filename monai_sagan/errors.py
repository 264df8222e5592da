"""The error for invalid user input, and its display in one line without a stack trace."""

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

__all__ = ["SaganError"]

Hook = Callable[[type[BaseException], BaseException, TracebackType | None], object]

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)
TRACEBACK_VARIABLE = "MONAI_SAGAN_TRACEBACK"
MONAI_FAILURE = re.compile(
    r"Failed to instantiate component '(?P<name>.+?)' with|Failed to evaluate \w+: \n(?P<code>.+)", re.DOTALL
)
# From a worker process of torch's DataLoader only the text of the stack trace arrives.
WORKER_FAILURE = re.compile(rf"^{re.escape(__name__)}\.SaganError: (.+)$", re.MULTILINE)


class SaganError(ValueError):
    """Invalid input; the message names the value or file, and the fix.

    >>> raise SaganError("anomaly_ratio is 2; it is a share from 0 to 1")
    Traceback (most recent call last):
    monai_sagan.errors.SaganError: anomaly_ratio is 2; it is a share from 0 to 1
    """


def no_room(error: BaseException, place: object = None) -> str | None:
    """The message for an error of a full or read-only disk; None for any other error."""
    if not isinstance(error, OSError) or error.errno not in NO_ROOM:
        return None
    path = error.filename or place
    what = "cannot write" if path is None else f"cannot write {path}"
    return f"{what} ({error.strerror}); make room, then give the same command again"


def show_errors_in_one_line() -> None:
    """Install a hook that shows an error of the user's input as one line on stderr, without a stack trace.

    That is a `SaganError`, also as the cause of another error; a full disk; MONAI's nested errors about a component
    or an expression of a config; and an interruption. The environment variable ``MONAI_SAGAN_TRACEBACK=1`` shows the
    complete trace. Ignite's log of the same error is not repeated on the console, but kept in a run's ``log.txt``.

    >>> show_errors_in_one_line()
    """
    for handler in logging.getLogger().handlers:
        if type(handler) is logging.StreamHandler and _is_not_repeated not in handler.filters:
            handler.addFilter(_is_not_repeated)
    installed = isinstance(sys.excepthook, functools.partial) and sys.excepthook.func is _one_line_hook
    if not installed:
        sys.excepthook = functools.partial(_one_line_hook, sys.excepthook)
    if threading.excepthook is not _thread_hook:
        threading.excepthook = _thread_hook


def _is_not_repeated(record: logging.LogRecord) -> bool:
    return not (record.name.startswith("ignite.") and record.getMessage().startswith("Engine run is terminating due"))


def _thread_hook(failed: threading.ExceptHookArgs) -> None:
    """Ignore disk errors in threads: TensorBoard's are raised again in the main thread at the next write."""
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
    """The line to print for an error, or None to show its stack trace."""
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
    return f"error: {_place(failures[-1])}: {cause} ({TRACEBACK_VARIABLE}=1 shows the complete trace)"


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
    """The first paragraph of an error's message, without advice and traces of optional imports."""
    return " ".join(str(error).strip().split("\n\n")[0].split())


def _place(failure: BaseException) -> str:
    """The config id of a MONAI error, with its component or expression."""
    match = MONAI_FAILURE.match(str(failure))
    assert match is not None
    what = match["name"] or re.sub(r"__local_refs\['(.+?)'\]", r"@\1", match["code"].strip().strip('"'))
    # MONAI's message lacks the id; the function that resolves it has it.
    frames = (frame for frame, _ in traceback.walk_tb(failure.__traceback__))
    ids = [frame.f_locals.get("id") for frame in frames if frame.f_code.co_name == "_resolve_one_item"]
    return (f"{ids[-1]} ({what})" if ids else what).replace("::", "#")
