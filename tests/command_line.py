"""Commands as a user types them, carried out in this process: the imports of a new one would take most of the time."""

from __future__ import annotations

import logging
import runpy
import shlex
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from monai_sagan.cli import main
from monai_sagan.runs.start import end_run


def carry_out(words: Sequence[str]) -> int:
    """Do what ``python -m monai.bundle ...``, ``python FILE ...`` or ``monai-sagan ...`` does; return the exit code.

    An error that nobody catches is shown by ``sys.excepthook``, as at the end of a process.
    """
    words = list(words)
    assert words[0] in ("monai-sagan", "python"), f"do not know how to carry out {shlex.join(words)}"
    with _own_process_state():
        try:
            if words[0] == "monai-sagan":
                return main(words[1:])
            if words[1] == "-m":
                sys.argv = words[2:]  # runpy puts the module's file in the first place
                runpy.run_module(words[2], run_name="__main__", alter_sys=True)
            else:
                sys.argv = words[1:]
                runpy.run_path(words[1], run_name="__main__")
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else int(end.code is not None)
        except Exception as error:
            sys.excepthook(type(error), error, error.__traceback__)
            return 1
    return 0


@contextmanager
def _own_process_state() -> Iterator[None]:
    """What a command may change of a process, put back."""
    root = logging.getLogger()
    argv, path, hook, level, handlers = sys.argv, sys.path[:], sys.excepthook, root.level, root.handlers[:]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # as the first lines of MONAI's own do; a user reads past them
            yield
    finally:
        sys.argv, sys.path[:], sys.excepthook = argv, path, hook
        end_run()  # as the process itself would
        for handler in set(root.handlers) - set(handlers):
            root.removeHandler(handler)
            handler.close()
        root.setLevel(level)
