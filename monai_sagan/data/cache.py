"""Decode each image once: a uint8 array on disk, memory-mapped, that any number of runs share."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from monai_sagan.data.datalist import Datalist, Item
from monai_sagan.data.decode import Pixels, decode_file, foreground_share, split_fragment
from monai_sagan.data.workers import Failure, run_in_workers
from monai_sagan.errors import SaganError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["HowToDecode", "ImageCache", "decode_images", "load_image"]

logger = logging.getLogger(__name__)

FORMAT = 2  # part of every key; raise it when the same files would be decoded to other pixels


@dataclass(frozen=True)
class HowToDecode:
    """How files become pixels; whatever changes the pixels is here.

    Args:
        image_size: height and width, reached by Pillow's antialiased bilinear filter.
        channels: 1 converts to grey, 3 to color.
        preparation: of DICOM, see `monai_sagan.data.dicom`.
        min_foreground: an image whose share of pixels above its background is smaller is left out, as the empty ends
            of a volume are.
    """

    image_size: tuple[int, int]
    channels: int = 1
    preparation: str = "display"
    min_foreground: float = 0.0


def load_image(path: str | Path, how: HowToDecode) -> Pixels:
    """One image as uint8 (C, H, W), decoded in this process.

    Raises:
        SaganError: naming the file, when it is unreadable or has too little foreground.
    """
    (result,) = _decode(([str(path)], how))
    if isinstance(result, tuple):
        pixels: Pixels = result[0]
        return pixels
    raise SaganError(result.reason if isinstance(result, Failure) else f"{path} has {result}")


def decode_images(paths: Sequence[str], how: HowToDecode, jobs: int | None = None) -> Iterator[tuple[str, Any]]:
    """Each path with its pixels, uint8 (C, H, W), and description; or with a `Failure`; or with why it is left out.

    Worker processes decode, a file of many slices once; those of one file come together, the files in their order.
    """
    files: dict[str, list[str]] = {}
    for path in paths:
        files.setdefault(split_fragment(path)[0], []).append(path)
    tasks = [(group, how) for group in files.values()]
    for (group, _), found in zip(tasks, run_in_workers(_decode, tasks, jobs), strict=True):
        for path, result in zip(group, [found] * len(group) if isinstance(found, Failure) else found, strict=True):
            yield path, Failure(_named(path, result.reason)) if isinstance(result, Failure) else result


def _named(path: str, reason: str) -> str:
    return reason if path in reason else f"{path} is not a readable image ({reason}); replace it or leave it out"


def _decode(task: tuple[list[str], HowToDecode]) -> list[Any]:
    """What a worker does with the images of one file."""
    paths, how = task
    results: list[Any] = []
    for decoded in decode_file(paths, how.preparation):
        if isinstance(decoded, SaganError):
            results.append(Failure(str(decoded)))
            continue
        image, description = decoded
        share = foreground_share(image) if how.min_foreground else 1.0
        if share < how.min_foreground:
            results.append(f"foreground {share:.3f} of the image, below {how.min_foreground:g}")
            continue
        digest = hashlib.blake2b(image.tobytes(), digest_size=12, key=f"{image.size} {image.mode}".encode())
        results.append((_fit(image, how), description | {"digest": digest.hexdigest()}))
    return results


def _fit(image: Image.Image, how: HowToDecode) -> Pixels:
    image = image.convert("L" if how.channels == 1 else "RGB")
    resized = np.asarray(image.resize((how.image_size[1], how.image_size[0]), Image.Resampling.BILINEAR))
    return resized[None] if how.channels == 1 else np.ascontiguousarray(np.moveaxis(resized, -1, 0))


def _take_space(path: Path) -> None:
    """Fail now, by an error, where the disk is too full: writing to a hole of a mapped file would end the process."""
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

    The file's name is a hash of what it holds: the files' paths, sizes and times, and how they are decoded. It is
    written under another name and renamed when complete, so that two runs that start at once both succeed and a
    broken one leaves nothing that looks whole. Beside it a JSON file says what was met: each image's description, and
    which ones are unreadable or left out, and why.

    Args:
        datalist: lists of items; what `pixels` is asked for later must be among them.
        how: how files become pixels.
        cache_dir: folder for the files.
        mixed_images: accept images of different sizes or color modes; False names the first that differs, for where
            images were prepared alike a difference is a mistake, and where it goes with the label it is a leak.
        jobs: decoding processes at a time; None takes one for each core.

    Raises:
        SaganError: naming an image that is not there or differs from the first.
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
        self.path = Path(cache_dir) / f"images-{self._key(paths)}.npy"
        if not self.path.is_file():
            self._write(paths, jobs)
        self._array: Pixels = np.load(self.path, mmap_mode="r")
        found = json.loads(self._descriptions.read_text(encoding="utf-8"))
        self.images: dict[str, dict[str, Any]] = found["images"]
        self.unreadable: dict[str, str] = found["unreadable"]
        self.left_out: dict[str, str] = found["left_out"]
        self._row = {path: row for row, path in enumerate(self.images)}
        for path, image in self.images.items():
            self._check_alike(path, image)

    @property
    def _descriptions(self) -> Path:
        return self.path.with_suffix(".json")

    def pixels(self, items: Sequence[Item]) -> Tensor:
        """The images of ``items``, uint8 (N, C, H, W)."""
        import torch

        rows = [self._row[item["image"]] for item in items]
        return torch.from_numpy(np.ascontiguousarray(self._array[rows]))

    def _key(self, paths: Iterable[str]) -> str:
        files: dict[str, tuple[int, int]] = {}
        for path in paths:
            name = split_fragment(path)[0]
            if name not in files:
                try:
                    stat = os.stat(name)
                except OSError:
                    raise SaganError(f"{name} is not there; restore it or leave it out") from None
                files[name] = stat.st_size, stat.st_mtime_ns
        content = json.dumps([FORMAT, asdict(self.how), list(paths), list(files.items())])
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def _write(self, paths: list[str], jobs: int | None) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        mark = uuid.uuid4().hex
        array, notes = (path.with_name(f".{path.name}.{mark}") for path in (self.path, self._descriptions))
        shape = (len(paths), self.how.channels, *self.how.image_size)
        try:
            pixels = np.lib.format.open_memmap(array, mode="w+", dtype=np.uint8, shape=shape)
            _take_space(array)
            found = self._decode(paths, pixels, jobs)
            pixels.flush()
            notes.write_text(json.dumps(found), encoding="utf-8")
            os.replace(notes, self._descriptions)
            os.replace(array, self.path)  # last: where it is, all is
        finally:
            array.unlink(missing_ok=True)
            notes.unlink(missing_ok=True)
        logger.info(f"decoded {len(found['images'])} images into {self.path}")

    def _decode(self, paths: list[str], pixels: Pixels, jobs: int | None) -> dict[str, dict[str, Any]]:
        """Fill ``pixels`` from the top; rows of unreadable images stay empty at its end."""
        found: dict[str, dict[str, Any]] = {"images": {}, "unreadable": {}, "left_out": {}}
        results = decode_images(paths, self.how, jobs)
        for path, result in tqdm(results, "decoding", len(paths), unit="image", disable=None):
            if isinstance(result, Failure):
                found["unreadable"][path] = result.reason
            elif isinstance(result, str):
                found["left_out"][path] = result
            else:
                pixels[len(found["images"])], found["images"][path] = result
                self._check_alike(path, found["images"][path])
        return found

    def _check_alike(self, path: str, image: dict[str, Any]) -> None:
        kind = f"{image['width']} x {image['height']} {image['mode']}"
        first, first_path = self._first = self._first or (kind, path)
        if kind != first and not self.mixed_images:
            raise SaganError(
                f"{path} is {kind} (width x height, mode) while {first_path} is {first}; prepare all images alike, or "
                f"add --mixed_images true to resize and convert them"
            )
