"""Many runs on one machine: each in its own process, several at once, independent of each other's failures."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from monai_sagan.errors import SaganError

OUTPUT = "output.txt"
PATIENCE = 20.0  # seconds until an interrupted process is killed

Environment = Mapping[str, str]


@dataclass(frozen=True)
class Job:
    """A command to run in its own process."""

    name: str  # for people
    command: tuple[str, ...]
    folder: Path  # keeps what it prints, in ``output.txt``


@dataclass(frozen=True)
class Outcome:
    """How a job ended."""

    job: Job
    code: int
    seconds: float
    last_line: str


def available_cores() -> int:
    """The number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def slots(device: str, runs: int, jobs: int | None = None) -> list[Environment]:
    """The environment variables of each concurrent run, at most ``runs``.

    By default as many as CPU cores, since two runs of one thread are faster than one of two, or one per GPU; more
    ``jobs`` share the GPUs in turn. A numbered GPU such as ``cuda:1`` is left as it is.
    """
    if jobs is not None and jobs < 1:
        raise SaganError(f"jobs is {jobs}; give 1 or more runs at a time")
    gpus = _gpus() if device == "cuda" else []
    usual = available_cores() if device == "cpu" else max(len(gpus), 1)
    count = max(min(jobs or usual, runs), 1)
    most = int(os.environ.get("OMP_NUM_THREADS") or available_cores())  # what the user allows each process
    threads = {"OMP_NUM_THREADS": str(max(min(available_cores() // count, most), 1))}
    return [threads | ({"CUDA_VISIBLE_DEVICES": gpus[place % len(gpus)]} if gpus else {}) for place in range(count)]


def _gpus() -> list[str]:
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip()]
    return [str(index) for index in range(torch.cuda.device_count())]


def run_jobs(
    jobs: Sequence[Job],
    places: Sequence[Environment],
    say: Callable[[str], object] = print,
    keep_open: Sequence[int] = (),
) -> list[Outcome]:
    """Run all jobs, one at a time in each of `slots`; a failure does not stop the others.

    An interruption of this process (Ctrl-C, SIGTERM, a closed terminal) interrupts the jobs too, and waits for them.
    They inherit the file descriptors ``keep_open``.
    """
    waiting, free = list(enumerate(jobs)), list(places)
    running: dict[Future[Outcome], tuple[int, Environment, subprocess.Popen[bytes]]] = {}
    outcomes: dict[int, Outcome] = {}
    with _interruptible(), ThreadPoolExecutor(len(places)) as threads:
        try:
            while waiting or running:
                while waiting and free:
                    (index, job), place = waiting.pop(0), free.pop(0)
                    process = _start(job, place, keep_open)
                    running[threads.submit(_outcome, job, process)] = index, place, process
                    say(f"{job.name}: started, see {job.folder / OUTPUT}")
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    index, place, _ = running.pop(future)
                    free.append(place)
                    outcomes[index] = outcome = future.result()
                    say(_ended(outcome, len(outcomes), len(jobs), _time_left(outcomes, len(jobs), len(places))))
        finally:
            _stop(running, [process for _, _, process in running.values()])
    return [outcomes[index] for index in range(len(jobs))]


def _start(job: Job, environment: Environment, keep_open: Sequence[int]) -> subprocess.Popen[bytes]:
    job.folder.mkdir(parents=True, exist_ok=True)
    with (job.folder / OUTPUT).open("ab") as output:  # a resumed run appends
        return subprocess.Popen(
            job.command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
            pass_fds=tuple(keep_open),
            start_new_session=True,  # Ctrl-C reaches this process alone, which then stops the others
        )


def _outcome(job: Job, process: subprocess.Popen[bytes]) -> Outcome:
    begun = time.monotonic()
    code = process.wait()
    return Outcome(job, code, time.monotonic() - begun, _last_line(job.folder / OUTPUT))


def _stop(running: Iterable[Future[Outcome]], processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Interrupt the processes; kill those that do not end in time, or all at a second interruption."""
    for process in processes:
        process.terminate() if os.name == "nt" else process.send_signal(signal.SIGINT)
    try:
        wait(running, PATIENCE)
    finally:
        for process in processes:
            process.kill()  # does nothing to an ended one


@contextmanager
def _interruptible() -> Iterator[None]:
    """Handle the signals that end a process as Ctrl-C, so that no run is left behind."""
    names = [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    try:
        before = {name: signal.signal(getattr(signal, name), _interrupt) for name in names}
    except ValueError:  # not in the main thread, where signals do not come
        before = {}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _last_line(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - 4096, 0))
        lines = file.read().decode("utf-8", errors="replace").replace("\r", "\n").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "it printed nothing")


def _ended(outcome: Outcome, done: int, total: int, left: float) -> str:
    how = "finished" if outcome.code == 0 else describe_failure(outcome)
    more = f", about {_clock(left)} left" if done < total else ""
    return f"[{done}/{total}] {outcome.job.name}: {how} after {_clock(outcome.seconds)}{more}"


def describe_failure(outcome: Outcome) -> str:
    """Why a job failed, in one line."""
    if outcome.code == -9:
        return "killed, perhaps out of memory: lower the number of jobs"
    return f"failed ({outcome.last_line})"


def _time_left(outcomes: Mapping[int, Outcome], total: int, places: int) -> float:
    mean = sum(outcome.seconds for outcome in outcomes.values()) / len(outcomes)
    return mean * (total - len(outcomes)) / places


def _clock(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}"
