"""What worker processes do: all images of a file, as the network sees them and as they are shown."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from monai_sagan.data.cache import HowToDecode, fit_image
from monai_sagan.data.formats.decode import NIFTI_SUFFIXES, decode_file, foreground_share, is_dicom
from monai_sagan.data.formats.pillow import FORMATS
from monai_sagan.data.formats.scaling import Pixels
from monai_sagan.data.formats.workers import Failure, run_in_workers
from monai_sagan.errors import SaganError

__all__ = ["Look", "decode_all"]

WAVE = 1024  # images that workers may be ahead of the network: each waits with its picture in memory
SECONDS, SECONDS_AN_IMAGE = 120.0, 2.0  # that a file may take
MANY = 10_000  # frames; a header that promises more is broken


class Look(NamedTuple):
    """A decoded image.

    Args:
        pixels: what the network sees, as in training, uint8 (C, h, w).
        picture: what is shown, no larger than needed, uint8 (H, W) or (H, W, 3); None where nothing is.
    """

    pixels: Pixels
    picture: Pixels | None


Results = list[tuple[str, "Look | Failure | str"]]  # a text says why an image is left out
Task = tuple[list[str], HowToDecode, int]


def decode_all(
    files: Sequence[list[str]], how: HowToDecode, side: int, jobs: int | None = None
) -> Generator[tuple[list[str], Results], None, None]:
    """Each file's names with its images, by name; in order, decoded in processes of their own.

    A file of several frames that is named without one gives them all, ``cine.dcm#0``, ``cine.dcm#1``, ...

    Args:
        files: names of images, those of one file together.
        how: as in training.
        side: longest side of the shown pictures in pixels; 0 makes none.
        jobs: processes at a time; None takes one for each core.
    """
    for wave in _waves(files):
        limit = SECONDS + SECONDS_AN_IMAGE * max(map(len, wave))
        found = run_in_workers(decode_one, [(names, how, side) for names in wave], jobs, limit)
        for names, results in zip(wave, found, strict=True):
            if isinstance(results, Failure):  # of the whole file
                reason = results.reason
                results = [(name, Failure(f"{name} is not a readable image ({reason})")) for name in names]
            yield names, results


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


def decode_one(task: Task) -> Results:
    """The images of one file."""
    names, how, side = task
    decoded = list(_decoded(names, how, side))
    if len(names) == 1 and isinstance(decoded[0][1], Failure) and 1 < (frames := _count_frames(names[0])) <= MANY:
        return list(_decoded([f"{names[0]}#{i}" for i in range(frames)], how, side))
    return decoded


def _decoded(names: list[str], how: HowToDecode, side: int) -> Iterator[tuple[str, Look | Failure | str]]:
    for name, decoded in zip(names, decode_file(names, how.preparation), strict=True):
        if isinstance(decoded, SaganError):
            yield name, Failure(str(decoded))
            continue
        share = foreground_share(decoded.image) if how.min_foreground else 1.0
        if share < how.min_foreground:
            yield name, f"foreground {share:.3f} of the image, below {how.min_foreground:g}"
            continue
        picture = None
        if side:
            shown = decoded.image.convert("L" if how.channels == 1 else "RGB")
            shown.thumbnail((side, side))
            picture = np.asarray(shown)
        # Resized here, as for training, and the graph then finds nothing to do: its own resizing of 2048 x 2048 pixels
        # takes as long as the network, and a thousand images wait for it in memory.
        yield name, Look(fit_image(decoded.image, how), picture)


def _count_frames(name: str) -> int:
    """Of a file that cannot be decoded as it is named: the frames of a DICOM or of a picture file, or 1."""
    path = Path(name)
    try:
        if is_dicom(path):
            from pydicom import dcmread

            header = dcmread(path, force=True, stop_before_pixels=True, specific_tags=["NumberOfFrames"])
            return int(header.get("NumberOfFrames") or 1)
        if path.name.lower().endswith(NIFTI_SUFFIXES):
            return 1
        with Image.open(path, formats=FORMATS) as image:
            return getattr(image, "n_frames", 1)
    except Exception:  # whatever is wrong with it has been said
        return 1
