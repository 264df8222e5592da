"""All images of many files, as the network sees them and as they are shown, decoded a bounded number ahead."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence

from monai_sagan.data.formats.tasks import DecodeTask, HowToDecode, Result, run_tasks

__all__ = ["decode_all"]

WAVE = 1024  # images that workers may be ahead of the network: each waits with its picture in memory


def decode_all(
    files: Sequence[list[str]], how: HowToDecode, side: int, jobs: int | None = None
) -> Generator[list[Result], None, None]:
    """The results of each file's images, in order, decoded in processes of their own.

    A file of several frames that is named without one gives them all, ``cine.dcm#0``, ``cine.dcm#1``, ...

    Args:
        files: names of images, those of one file together.
        how: as in training.
        side: longest side of the shown pictures in pixels; 0 makes none.
        jobs: processes at a time; None takes one for each core.
    """
    for wave in _waves(files):
        yield from run_tasks([_task(names, how, side) for names in wave], jobs)


def _task(images: list[str], how: HowToDecode, side: int) -> DecodeTask:
    """The task that decodes all frames of a file's images.

    Args:
        images: names of images of one file.
        how: as in training.
        side: longest side of the shown pictures in pixels; 0 makes none.
    """
    return DecodeTask(images, how.preparation, how.min_foreground, fit=how, shown_side=side, every_frame=True)


def _waves(files: Sequence[list[str]]) -> Iterator[list[list[str]]]:
    wave: list[list[str]] = []
    images = 0
    for names in files:
        wave.append(names)
        images += len(names)
        if images >= WAVE:
            yield wave
            wave, images = [], 0
    if wave:
        yield wave
