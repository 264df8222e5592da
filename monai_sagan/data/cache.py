"""Decode each image once, into a uint8 array on disk that any number of runs share."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from monai_sagan import run_files
from monai_sagan.data.array_store import ArrayFile, StoredImages
from monai_sagan.data.datalist import Datalist, Item
from monai_sagan.data.formats.decode import split_fragment
from monai_sagan.data.formats.scaling import Pixels
from monai_sagan.data.formats.tasks import (
    DecodedImage,
    DecodeTask,
    HowToDecode,
    LeftOut,
    Result,
    Unreadable,
    group_by_file,
    run_task,
    run_tasks,
)
from monai_sagan.distributed import is_main, main_first
from monai_sagan.errors import SaganError
from monai_sagan.files import build_folder

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ImageCache"]

logger = logging.getLogger(__name__)

FORMAT = 4  # part of every key; raise it when the same files would be decoded to other pixels


def load_image(path: str | Path, how: HowToDecode) -> Pixels:
    """Decode one image in this process: uint8 (C, H, W).

    >>> from PIL import Image
    >>> Image.new("L", (3, 2), 7).save("a.png")
    >>> load_image("a.png", HowToDecode((4, 4))).shape
    (1, 4, 4)

    Args:
        path: of an image file, with its fragment if it has one.
        how: how it becomes pixels.

    Raises:
        SaganError: naming the file, when it is unreadable or has too little foreground.
    """
    (result,) = run_task(_task([str(path)], how))
    if isinstance(result, DecodedImage):
        assert result.pixels is not None
        return result.pixels
    raise SaganError(result.reason if isinstance(result, Unreadable) else f"{path} has {result.reason}")


def decode_images(paths: Sequence[str], how: HowToDecode, jobs: int | None = None) -> Iterator[Result]:
    """Yield the result of each image: its pixels, uint8 (C, H, W), and its description, or why there are none.

    Worker processes decode, a file of many slices once; images of one file follow each other, the files keep their
    order.
    """
    for results in run_tasks([_task(group, how) for group in group_by_file(paths)], jobs):
        yield from results


def _task(images: list[str], how: HowToDecode) -> DecodeTask:
    return DecodeTask(images, how.preparation, how.min_foreground, fit=how, digest=True)


def _take_space(path: Path) -> None:
    """Fail now where the disk is too full, and not after an hour of decoding."""
    if not hasattr(os, "posix_fallocate"):
        return
    size = path.stat().st_size
    with path.open("r+b") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            raise SaganError(
                f"no room for {size} bytes in {path.parent} ({error.strerror}); give another --cache_dir"
            ) from None


class ImageCache:
    """All images of a datalist, decoded and resized once.

    They are in a folder of ``cache_dir`` whose name is a hash of its content: the files' paths, sizes and times, and
    how they are decoded. It holds an array with a row for each image, and each image's description or why it is
    unreadable or left out. The folder appears when it is complete, so two runs that start at once both succeed and
    an interrupted one leaves nothing. Unreadable images are tried again each time: a decoder may have been
    installed.

    >>> from PIL import Image
    >>> Image.new("L", (3, 2), 7).save("a.png")
    >>> items = [{"image": "a.png", "label": 0}]
    >>> images = ImageCache({"normal": items}, HowToDecode((4, 4)), "cache", jobs=1)
    >>> images.pixels(items).shape, images.images["a.png"]["width"]
    (torch.Size([1, 1, 4, 4]), 3)

    Args:
        datalist: lists of items; those passed to `stored` and `pixels` later must be among them.
        how: how files become pixels.
        cache_dir: where the folder is.
        mixed_images: accept images of different sizes or color modes; False names the first that differs: where
            images
            were prepared alike a difference is a mistake, and where it goes with the label it is a leak.
        jobs: decoding processes at a time; None takes one for each core.

    Raises:
        SaganError: naming an image that differs from the first, or a folder that is damaged and cannot be replaced.
    """

    def __init__(
        self,
        datalist: Datalist,
        how: HowToDecode,
        cache_dir: str | Path,
        mixed_images: bool = False,
        jobs: int | None = None,
    ) -> None:
        self.how = how
        self.mixed_images = mixed_images
        self._first: tuple[str, str] | None = None
        paths = sorted({item["image"] for items in datalist.values() for item in items})
        self._row = {path: row for row, path in enumerate(paths)}
        self.folder = Path(cache_dir) / f"images-{self._key(paths)}"
        with main_first():
            if self._opened(len(paths)) is None or (is_main() and self._readable_now(paths, jobs)):
                self._write(paths, jobs)
        opened = self._opened(len(paths))
        if opened is None:
            raise SaganError(f"{self.folder} is damaged and cannot be replaced; remove it")
        self._file, notes = opened
        self.images: dict[str, dict[str, Any]] = {
            path: note for path, note in zip(paths, notes["images"], strict=True) if note is not None
        }
        self.unreadable: dict[str, str] = {paths[int(row)]: reason for row, reason in notes["unreadable"].items()}
        self.left_out: dict[str, str] = {paths[int(row)]: reason for row, reason in notes["left_out"].items()}
        for path, image in self.images.items():
            self._check_alike(path, image)

    def stored(self, items: Sequence[Item]) -> StoredImages:
        """The images of ``items``, uint8 (N, C, H, W), read from the disk when they are indexed."""
        return StoredImages(self._file, [self._row[item["image"]] for item in items])

    def pixels(self, items: Sequence[Item]) -> Tensor:
        """The images of ``items``, uint8 (N, C, H, W), in memory."""
        return self.stored(items)[:]

    def _opened(self, count: int) -> tuple[ArrayFile, dict[str, Any]] | None:
        """The array and the notes of the folder; None if it is missing or damaged."""
        if not self.folder.is_dir():
            return None
        try:
            file, notes = ArrayFile(self.folder / run_files.CACHED_PIXELS), self._notes()
            shape = (count, self.how.channels, *self.how.image_size)
            complete = file.shape == shape and file.dtype == np.uint8 and len(notes["images"]) == count
            rows = [int(row) for name in ("unreadable", "left_out") for row, _ in notes[name].items()]
            if complete and all(0 <= row < count for row in rows):
                return file, notes
            reason = "its files do not match"
        except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
        logger.warning(f"{self.folder} is damaged ({reason}): all images are decoded again")
        return None

    def _notes(self) -> dict[str, Any]:
        return dict(json.loads((self.folder / run_files.CACHED_IMAGES).read_text(encoding="utf-8")))

    def _readable_now(self, paths: list[str], jobs: int | None) -> bool:
        """Whether an unreadable image can be read now; then all are decoded again."""
        bad = [paths[int(row)] for row in self._notes()["unreadable"]]
        return any(not isinstance(result, Unreadable) for result in decode_images(bad, self.how, jobs))

    def _key(self, paths: Iterable[str]) -> str:
        files: dict[str, tuple[str, int, int]] = {}
        for path in paths:
            name = split_fragment(path)[0]
            if name not in files:
                try:
                    stat = os.stat(name)
                    files[name] = os.path.abspath(name), stat.st_size, stat.st_mtime_ns
                except OSError:  # one that is not there counts as unreadable
                    files[name] = os.path.abspath(name), -1, -1
        names = [os.path.abspath(path) for path in paths]
        content = json.dumps([FORMAT, asdict(self.how), names, list(files.values())])
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def _write(self, paths: list[str], jobs: int | None) -> None:
        shape = (len(paths), self.how.channels, *self.how.image_size)
        try:
            with build_folder(self.folder, replace=self.folder.exists()) as draft:
                np.lib.format.open_memmap(draft / run_files.CACHED_PIXELS, mode="w+", dtype=np.uint8, shape=shape)
                _take_space(draft / run_files.CACHED_PIXELS)
                with closing(ArrayFile(draft / run_files.CACHED_PIXELS, "r+")) as pixels:
                    notes = self._decode(paths, pixels, jobs)
                (draft / run_files.CACHED_IMAGES).write_text(json.dumps(notes), encoding="utf-8")
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:  # else another run was first: its folder is as good
                raise SaganError(
                    f"cannot write to {self.folder.parent} ({error.strerror or error}); give another --cache_dir"
                ) from None
        bad = len(notes["unreadable"]) + len(notes["left_out"])
        logger.info(f"decoded {len(paths) - bad} images into {self.folder}")

    def _decode(self, paths: list[str], pixels: ArrayFile, jobs: int | None) -> dict[str, Any]:
        """Fill ``pixels``; the rows of unreadable and skipped images stay black."""
        images: list[dict[str, Any] | None] = [None] * len(paths)
        notes: dict[str, Any] = {"images": images, "unreadable": {}, "left_out": {}}
        results = decode_images(paths, self.how, jobs)
        for result in tqdm(results, "decoding", len(paths), unit="image", disable=None):
            row = self._row[result.image]
            if isinstance(result, Unreadable):
                notes["unreadable"][row] = result.reason
            elif isinstance(result, LeftOut):
                notes["left_out"][row] = result.reason
            else:
                assert result.pixels is not None
                pixels.write(row, result.pixels)
                images[row] = result.description
                self._check_alike(result.image, result.description)
        return notes

    def _check_alike(self, path: str, image: dict[str, Any]) -> None:
        kind = f"{image['width']} x {image['height']} {image['mode']}"
        first, first_path = self._first = self._first or (kind, path)
        if kind != first and not self.mixed_images:
            raise SaganError(
                f"{path} is {kind} (width x height, mode) while {first_path} is {first}; prepare all images alike, or "
                f"add --mixed_images true to resize and convert them"
            )
