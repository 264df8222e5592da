"""The task of worker processes: decode the images of a file.

Each image becomes a `DecodedImage`, an `Unreadable` or a `LeftOut`, for the cache, `monai-sagan prepare`, the overview
of a dataset and the scoring of a folder.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from monai_sagan.data.formats.decode import (
    count_frames,
    decode_file,
    describe_file,
    lacks_foreground,
    split_fragment,
)
from monai_sagan.data.formats.scaling import Pixels
from monai_sagan.data.formats.workers import LIMIT, Failure, run_in_workers
from monai_sagan.errors import SaganError

SECONDS_AN_IMAGE = 2.0  # added to a task's time limit for each of its images
MANY = 10_000  # frames; a header that promises more is broken


@dataclass(frozen=True)
class HowToDecode:
    """How files become pixels: everything that changes them.

    >>> HowToDecode((64, 64), channels=3).preparation
    'display'

    Args:
        image_size: height and width, reached by Pillow's antialiased bilinear filter.
        channels: 1 converts to grey, 3 to color.
        preparation: of DICOM, see `monai_sagan.data.formats.dicom`.
        min_foreground: an image with a smaller share of pixels above its background is left out, as the empty ends of
            a volume are.
    """

    image_size: tuple[int, int]
    channels: int = 1
    preparation: str = "display"
    min_foreground: float = 0.0


@dataclass(frozen=True)
class DecodeTask:
    """Images to decode, and the results asked for.

    Args:
        images: names; those of one file follow each other.
        preparation: of DICOM, see `monai_sagan.data.formats.dicom`.
        min_foreground: share of pixels, 0 to 1, below which an image is left out.
        headers_only: describe the images without decoding them.
        fit: size and channels of `DecodedImage.pixels`; None makes none.
        shown_side: longest side of `DecodedImage.picture`; 0 makes none.
        digest: add a ``digest`` of the decoded pixels to the description.
        targets: the PNG file to write, by the image.
        target_side: of the written pictures, which are square.
        every_frame: a file of several frames that is named without one gives all: ``cine.dcm#0``, ``cine.dcm#1``, ...
    """

    images: Sequence[str]
    preparation: str = "display"
    min_foreground: float = 0.0
    headers_only: bool = False
    fit: HowToDecode | None = None
    shown_side: int = 0
    digest: bool = False
    targets: Mapping[str, str] = field(default_factory=dict)
    target_side: int = 0
    every_frame: bool = False


@dataclass(frozen=True)
class DecodedImage:
    """A readable image: its name, its description, and what its task asks for.

    Args:
        image: its name.
        description: see `monai_sagan.data.formats.decode.Decoded`.
        pixels: as training sees them, uint8 (C, h, w), or None.
        picture: to show, uint8 (H, W) or (H, W, 3), or None.
        not_written: why its file could not be written, or "".
    """

    image: str
    description: dict[str, Any]
    pixels: Pixels | None = None
    picture: Pixels | None = None
    not_written: str = ""


@dataclass(frozen=True)
class Unreadable:
    """An image that could not be read, and the reason in one line that names it or its file."""

    image: str
    reason: str


@dataclass(frozen=True)
class LeftOut:
    """A readable image that is skipped, and the reason, such as too little foreground."""

    image: str
    reason: str


Result = DecodedImage | Unreadable | LeftOut


def group_by_file(images: Sequence[str]) -> list[list[str]]:
    """Group the names of images by their file; the files keep their order."""
    groups: dict[str, list[str]] = {}
    for image in images:
        groups.setdefault(split_fragment(image)[0], []).append(image)
    return list(groups.values())


def run_tasks(tasks: Sequence[DecodeTask], jobs: int | None = None) -> Iterator[list[Result]]:
    """Yield the results of each task, in order, decoded in worker processes.

    A task whose process dies or hangs has unreadable images.

    Args:
        tasks: to run.
        jobs: processes at a time; None takes one for each core.

    Raises:
        SaganError: for a number of ``jobs`` below 1.
    """
    limit = LIMIT + SECONDS_AN_IMAGE * max((len(task.images) for task in tasks), default=0)
    for task, found in zip(tasks, run_in_workers(run_task, tasks, jobs, limit), strict=True):
        if isinstance(found, Failure):
            found = [Unreadable(image, _named(image, found.reason)) for image in task.images]
        yield found


def run_task(task: DecodeTask) -> list[Result]:
    """Decode the images of a task in this process; the results have their order."""
    files = [list(names) for _, names in groupby(task.images, lambda image: split_fragment(image)[0])]
    return [result for names in files for result in _of_file(names, task)]


def _of_file(images: list[str], task: DecodeTask) -> list[Result]:
    results = list(_results(images, task))
    if task.every_frame and len(images) == 1 and isinstance(results[0], Unreadable):
        frames = count_frames(images[0])
        if 1 < frames <= MANY:
            return list(_results([f"{images[0]}#{index}" for index in range(frames)], task))
    return results


def _results(images: list[str], task: DecodeTask) -> Iterator[Result]:
    if task.headers_only:
        for image, described in zip(images, describe_file(images), strict=True):
            if isinstance(described, SaganError):
                yield Unreadable(image, str(described))
            else:
                yield DecodedImage(image, described)
        return
    for image, decoded in zip(images, decode_file(images, task.preparation), strict=True):
        if isinstance(decoded, SaganError):
            yield Unreadable(image, str(decoded))
        elif empty := lacks_foreground(decoded.image, task.min_foreground):
            yield LeftOut(image, empty)
        else:
            yield _made(image, decoded.image, decoded.description, task)


def _made(name: str, image: Image.Image, description: dict[str, Any], task: DecodeTask) -> DecodedImage:
    """Everything that a task asks for of a decoded image."""
    if task.digest:
        digest = hashlib.blake2b(image.tobytes(), digest_size=12, key=f"{image.size} {image.mode}".encode())
        description = description | {"digest": digest.hexdigest()}
    return DecodedImage(
        name,
        description,
        # Resized here, also for a graph that resizes: 2048 x 2048 pixels take it as long as the network.
        pixels=fit_image(image, task.fit) if task.fit else None,
        picture=_shown(image, task) if task.shown_side else None,
        not_written=_write(image, Path(task.targets[name]), task.target_side) if name in task.targets else "",
    )


def fit_image(image: Image.Image, how: HowToDecode) -> Pixels:
    """Resize a picture for the network: uint8 (C, H, W), grey or color, by Pillow's bilinear filter."""
    image = image.convert("L" if how.channels == 1 else "RGB")
    resized = np.asarray(image.resize((how.image_size[1], how.image_size[0]), Image.Resampling.BILINEAR))
    return resized[None] if how.channels == 1 else np.ascontiguousarray(np.moveaxis(resized, -1, 0))


def _shown(image: Image.Image, task: DecodeTask) -> Pixels:
    shown = image.convert("L" if task.fit and task.fit.channels == 1 else "RGB")
    shown.thumbnail((task.shown_side, task.shown_side))
    return np.asarray(shown)


def _write(image: Image.Image, path: Path, side: int) -> str:
    """Write a square PNG, grey or in color; return why it could not be written, or ""."""
    image = image.convert("L" if image.mode in ("1", "L", "LA", "I", "F") else "RGB")
    try:
        # Radiographs come out as small as at Pillow's own level 6, and three times as soon.
        save_png(image.resize((side, side), Image.Resampling.BILINEAR), path, compress_level=4)
    except OSError as error:
        return error.strerror or str(error)
    return ""


def save_png(image: Image.Image, path: Path, **options: Any) -> None:
    """Write a PNG file under a hidden name, then rename it."""
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        image.save(unfinished, "PNG", **options)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def _named(image: str, reason: str) -> str:
    return reason if image in reason else f"{image} is not a readable image ({reason}); replace it or leave it out"
