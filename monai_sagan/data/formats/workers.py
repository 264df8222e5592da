"""Decoding in separate processes: a decoder that crashes, panics or hangs costs one file and not the run.

Native decoders end their process on some broken files, and those written in Rust raise a `BaseException`. So a worker
process runs one function on one task at a time; when it dies, that task has failed and another worker takes its place.
The processes import only what the function needs: neither torch nor the caller's script.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from monai_sagan.errors import SaganError

__all__: list[str] = []

LIMIT = 120.0  # seconds that a task may take
AHEAD = 64  # tasks for each worker that are handed out at a time: results wait in memory until their turn
SERVE = f"import json, sys; sys.path[:] = json.loads(sys.argv[1]); from {__name__} import serve; serve()"


@dataclass(frozen=True)
class Failure:
    """Why a task has no result: its ``reason``, in one line."""

    reason: str


def one_line(text: str) -> str:
    """Replace line ends and control characters, which broken headers contain, by single blanks."""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())


def run_in_workers(
    function: Callable[..., Any], tasks: Sequence[Any], jobs: int | None = None, limit: float = LIMIT
) -> Iterator[Any]:
    """Yield ``function(task)`` of each task, in order, or a `Failure` where it raised or its process died.

    Args:
        function: of a module's top level; it and its results are picklable.
        tasks: picklable arguments.
        jobs: processes at a time; None takes one for each core.
        limit: seconds after which a task counts as hanging.

    Raises:
        SaganError: for a number of ``jobs`` below 1.
    """
    if jobs is not None and jobs < 1:
        raise SaganError(f"jobs is {jobs}; it is a number of processes, 1 or more")
    jobs = min(jobs or os.cpu_count() or 1, len(tasks))
    if not jobs:
        return
    crew = _Crew(function, jobs, limit)
    pool = ThreadPoolExecutor(jobs)
    try:
        waiting: queue.SimpleQueue[Future[Any]] = queue.SimpleQueue()
        for done, task in enumerate(tasks):
            if done >= AHEAD * jobs:
                yield waiting.get().result()
            waiting.put(pool.submit(crew.call, task))
        while not waiting.empty():
            yield waiting.get().result()
    finally:
        crew.stop()
        pool.shutdown(cancel_futures=True)


class _Crew:
    """Workers, one for each thread that calls, and a watch over those that take too long."""

    def __init__(self, function: Callable[..., Any], jobs: int, limit: float) -> None:
        self.name = (function.__module__, function.__qualname__)
        self.limit = limit
        self.idle: queue.SimpleQueue[_Worker | None] = queue.SimpleQueue()
        for _ in range(jobs):
            self.idle.put(None)
        self.busy: dict[_Worker, float] = {}
        self.stopping = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def call(self, task: Any) -> Any:
        worker = self.idle.get() or _Worker(*self.name)
        self.busy[worker] = time.monotonic() + self.limit
        try:
            result = worker.call(task)
        except Exception:  # anything but an answer
            late = time.monotonic() > self.busy[worker]
            result = Failure(f"the decoder took longer than {self.limit:g} s" if late else worker.last_words())
        finally:
            self.busy.pop(worker)
            if worker.dead or self.stopping.is_set():
                worker.end()
                self.idle.put(None)
            else:
                self.idle.put(worker)
        return result

    def stop(self) -> None:
        self.stopping.set()
        for worker in list(self.busy):
            worker.kill()
        while not self.idle.empty():
            if spare := self.idle.get():
                spare.end()

    def _watch(self) -> None:
        while not self.stopping.wait(min(self.limit / 4, 1.0)):
            for worker, end in list(self.busy.items()):
                if time.monotonic() > end:
                    worker.kill()


class _Worker:
    def __init__(self, module: str, name: str) -> None:
        self.dead = False
        # A session of its own: Ctrl-C is for the run, which then ends its workers.
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVE, json.dumps(sys.path), module, name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.tasks, self.answers = self.process.stdin, self.process.stdout

    def call(self, task: Any) -> Any:
        try:
            pickle.dump(task, self.tasks)
            self.tasks.flush()
            return pickle.load(self.answers)
        except BaseException:
            self.dead = True
            raise

    def last_words(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(2)
        self.kill()
        code = self.process.wait()
        return f"the decoder died ({signal.Signals(-code).name if code < 0 else f'exit code {code}'})"

    def kill(self) -> None:
        self.dead = True
        self.process.kill()

    def end(self) -> None:
        if self.dead:
            self.process.kill()
        for pipe in (self.tasks, self.answers):
            with contextlib.suppress(OSError):
                pipe.close()  # the worker's loop ends with its input
        self.process.wait()


def serve() -> None:
    """Run a worker process: answer the tasks that arrive on stdin until it closes."""
    module, name = sys.argv[2:4]
    function = getattr(importlib.import_module(module), name)
    tasks = sys.stdin.buffer
    # Whatever a decoder prints must not get between the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    while True:
        try:
            task = pickle.load(tasks)
        except EOFError:
            return
        try:
            answer = function(task)
        except BaseException as error:  # a panic in Rust is a BaseException
            answer = Failure(one_line(str(error)) or type(error).__name__)
        pickle.dump(answer, answers)
        answers.flush()
