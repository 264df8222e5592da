"""Iterations per second of `SaganTrainer` beside a plain transcription of the published loop.

    python benchmarks/training_speed.py [--channels 16] [--batch_size 16] [--rounds 10] [--threads 2]

Both train the published network on the same random images, each in a process of its own, in turn: one measures while
the other waits. Printed are medians and the ratio of each round.
"""

from __future__ import annotations

import argparse
import multiprocessing as mp
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

import torch
from published_loop import PublishedLoop

from monai_sagan.data.batches import TrainingBatches
from monai_sagan.engines import SaganTrainer
from monai_sagan.engines.memory import keep_freed_memory
from monai_sagan.networks import SaganDiscriminator, SaganGenerator


def published_step(channels: int, batch_size: int) -> Callable[[], object]:
    normal, unlabeled, generator, critic = _ingredients(channels)
    return PublishedLoop(generator, critic, normal, unlabeled, batch_size, "cpu").step


def sagan_step(channels: int, batch_size: int) -> Callable[[], object]:
    keep_freed_memory()  # as every bundle does
    normal, unlabeled, generator, critic = _ingredients(channels)
    generator, critic = (net.to(memory_format=torch.channels_last) for net in (generator, critic))
    batches = TrainingBatches(normal, unlabeled, batch_size, length=1000)
    optimizers = [torch.optim.Adam(n.parameters(), 5e-5, (0.5, 0.999), fused=True) for n in (generator, critic)]
    trainer = SaganTrainer("cpu", 1, batches, generator, optimizers[0], critic, optimizers[1])
    stream = iter(batches)

    def step() -> None:
        trainer.state.iteration += 1
        trainer._iteration(trainer, next(stream))

    return step


def _ingredients(channels: int) -> tuple[torch.Tensor, torch.Tensor, SaganGenerator, SaganDiscriminator]:
    torch.manual_seed(0)
    images = torch.randint(0, 256, (400, 1, 64, 64), dtype=torch.uint8)
    return images[:200], images[200:], SaganGenerator(channels=channels), SaganDiscriminator(channels=channels)


def worker(make: Callable[..., Callable[[], object]], pipe: Connection, threads: int, **sizes: int) -> None:
    torch.set_num_threads(threads)
    step = make(**sizes)
    while (iterations := pipe.recv()) is not None:
        start = time.perf_counter()
        for _ in range(iterations):
            step()
        pipe.send((time.perf_counter() - start) / iterations)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("channels", 16), ("batch_size", 16), ("rounds", 10), ("iterations", 4), ("threads", 2)):
        parser.add_argument(f"--{name}", type=int, default=value)
    args = parser.parse_args()
    context = mp.get_context("spawn")
    pipes = {}
    for name, make in (("published loop", published_step), ("SaganTrainer", sagan_step)):
        pipes[name], other = context.Pipe()
        sizes = {"channels": args.channels, "batch_size": args.batch_size}
        context.Process(target=worker, args=(make, other, args.threads), kwargs=sizes, daemon=True).start()
    times: dict[str, list[float]] = {name: [] for name in pipes}
    for number in range(args.rounds + 1):
        for name, pipe in pipes.items():
            pipe.send(args.iterations)
            seconds = pipe.recv()
            if number:  # the first round warms up
                times[name].append(seconds)
    for pipe in pipes.values():
        pipe.send(None)
    for name, seconds in times.items():
        print(f"{name:16} {1 / statistics.median(seconds):.2f} it/s (median of {args.rounds} rounds)")
    ratios = sorted(a / b for a, b in zip(*times.values(), strict=True))
    print(f"ratio            {statistics.median(ratios):.2f} (median; {ratios[0]:.2f} to {ratios[-1]:.2f})")


if __name__ == "__main__":
    main()
