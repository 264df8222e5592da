"""Decode the images of many files, a bounded number ahead of the network."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator

from monai_sagan.data.formats.tasks import DecodeTask, HowToDecode, Result, run_tasks

WAVE = 1024  # images that workers may be ahead of the network: each waits with its picture in memory


def decode_all(
    files: Iterable[list[str]], how: HowToDecode, side: int, jobs: int | None = None, wave: int = WAVE
) -> Generator[list[Result], None, None]:
    """Decode files in separate processes; yield the results of each file's images, in order.

    A file of several frames named without a frame gives all of them, ``cine.dcm#0``, ``cine.dcm#1``, ...

    Args:
        files: the names of the images of each file; consumed as far ahead as files are decoded.
        how: as in training.
        side: longest side of the pictures to show, in pixels; 0 for none.
        jobs: processes at a time; None for one per core.
        wave: images that are decoded ahead of the network.
    """
    tasks = (
        DecodeTask(names, how.preparation, how.min_foreground, fit=how, shown_side=side, every_frame=True)
        for names in files
    )
    for some in _waves(tasks, wave):
        yield from run_tasks(some, jobs)


def _waves(tasks: Iterable[DecodeTask], size: int) -> Iterator[list[DecodeTask]]:
    wave: list[DecodeTask] = []
    images = 0
    for task in tasks:
        wave.append(task)
        images += len(task.images)
        if images >= size:
            yield wave
            wave, images = [], 0
    if wave:
        yield wave
