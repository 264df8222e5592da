"""Timing of workloads side by side: each in its own process, in turn, round by round."""

from __future__ import annotations

import multiprocessing as mp
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from monai_sagan.bench.method_steps import MethodSize
from monai_sagan.bench.workloads import Size, make
from monai_sagan.engines.captured import WARM_UP
from monai_sagan.errors import SaganError


@dataclass
class Timing:
    """The measurements of a workload."""

    seconds: list[float] = field(default_factory=list)  # of one iteration or batch, one value a round
    images: int = 0  # of each stream in it
    first: float = 0.0  # seconds of the first pair of calls, compiling included
    peak: int = 0  # greatest memory, in bytes: the device's, or on a CPU the process's
    graphs: int = 0  # that were compiled for the first pair of calls
    breaks: int = 0  # places where a graph had to end
    recompiled: int = 0  # graphs that were compiled after the first pair

    @property
    def median(self) -> float:
        """The median of ``seconds``."""
        return statistics.median(self.seconds)


def time_side_by_side(
    workloads: Mapping[str, tuple[str, Size | MethodSize]],
    device: str,
    rounds: int = 5,
    least: float = 0.5,
    threads: int | None = None,
) -> dict[str, Timing]:
    """Time workloads, by `make`'s arguments, in turn, so that other load affects all equally.

    Each of ``rounds`` gives one value per workload, of pairs of calls for ``least`` seconds: every second iteration has
    a generator update.
    """
    context = mp.get_context("spawn")
    pipes: dict[str, Any] = {}
    timings = {label: Timing() for label in workloads}
    processes = []
    try:
        for label, (name, size) in workloads.items():
            pipes[label], other = context.Pipe()
            process = context.Process(target=_serve, args=(other, name, size, device, threads), daemon=True)
            process.start()
            other.close()
            processes.append(process)
            timings[label].images, timings[label].first, timings[label].graphs = _answer(pipes[label], label)
        for _ in range(rounds):
            for label, pipe in pipes.items():
                pipe.send(least)
                timing = timings[label]
                seconds, timing.peak, graphs, timing.breaks = _answer(pipe, label)
                timing.seconds.append(seconds)
                timing.recompiled = graphs - timing.graphs
    finally:
        for pipe in pipes.values():
            pipe.close()
        for process in processes:
            process.join(10)
            process.kill()
            process.join()
    return timings


def _answer(pipe: Any, label: str) -> Any:
    try:
        answer = pipe.recv()
    except EOFError:
        raise SaganError(f"the benchmark of {label!r} ended silently; was there too little memory?") from None
    if isinstance(answer, str):
        raise SaganError(f"the benchmark of {label!r} failed: {answer}")
    return answer


def _serve(pipe: Connection, name: str, size: Size | MethodSize, device: str, threads: int | None) -> None:
    import torch

    from monai_sagan.bench.counts import graphs_and_breaks
    from monai_sagan.engines.memory import keep_freed_memory, peak_memory

    try:
        if threads:
            torch.set_num_threads(threads)
        if name != "published loop":
            keep_freed_memory()  # as every bundle does
        step, images = make(name, size, device)
        first, graphs = seconds_of_pairs(step, 1, device), graphs_and_breaks()[0]
        gpu = torch.device(device).type == "cuda"
        if gpu:
            seconds_of_pairs(step, WARM_UP + 2, device)  # until iterations are captured
        pipe.send((images, first, graphs))
        while True:
            least, pairs = pipe.recv(), 1
            while (seconds := seconds_of_pairs(step, pairs, device)) < least:
                pairs *= 2
            peak = peak_memory(device)
            if gpu:
                torch.cuda.empty_cache()  # the others are on the same GPU
            pipe.send((seconds / (2 * pairs), peak, *graphs_and_breaks()))
    except EOFError:
        return  # there is nothing more to measure
    except Exception as error:
        pipe.send((str(error).splitlines() or [type(error).__name__])[0])


def seconds_of_pairs(step: Callable[[], object], pairs: int, device: str) -> float:
    """Seconds that pairs of calls take, until the device is done."""
    begin = time.perf_counter()
    for _ in range(2 * pairs):
        step()
    _finish(device)
    return time.perf_counter() - begin


def _finish(device: str) -> None:
    import torch

    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()


def matrix_rate(device: str, bfloat16: bool = False, threads: int | None = None, rounds: int = 5) -> float:
    """The FLOP per second of a large matrix product, the best of ``rounds``."""
    import torch

    if threads:
        torch.set_num_threads(threads)
    gpu = torch.device(device).type == "cuda"
    if gpu:
        torch.backends.cuda.matmul.allow_tf32 = True  # as torch has float32 convolutions compute there
    side = 8192 if gpu else 1536
    one = torch.randn(side, side, device=device, dtype=torch.bfloat16 if bfloat16 else torch.float32)
    best = 0.0
    for _ in range(rounds + 1):
        begin = time.perf_counter()
        for _ in range(4):
            one @ one
        _finish(device)
        best = max(best, 4 * 2 * side**3 / (time.perf_counter() - begin))
    return best


def ratio(slow: Sequence[float], fast: Sequence[float]) -> tuple[float, float, float]:
    """The speed-up of ``fast`` over ``slow``, both in seconds, round by round: median, lowest and highest."""
    ratios = sorted(a / b for a, b in zip(slow, fast, strict=True))
    return statistics.median(ratios), ratios[0], ratios[-1]
