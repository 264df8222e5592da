"""Decode each image once: a uint8 array on disk, memory-mapped, that any number of runs share."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import uuid
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from monai_sagan.data.datalist import Datalist, Item
from monai_sagan.data.readers import Pixels, read_image
from monai_sagan.errors import SaganError

__all__ = ["ImageCache", "load_image"]

logger = logging.getLogger(__name__)

FORMAT = 1  # part of every key; raise it when the same files would be decoded to other pixels


def load_image(path: str | Path, image_size: tuple[int, int], channels: int = 1) -> Pixels:
    """One image as uint8 (channels, height, width), resized by Pillow's antialiased bilinear filter.

    Args:
        path: of any format that `read_image` knows.
        image_size: height and width.
        channels: 1 converts to grey, 3 to color.
    """
    return _fit(read_image(path), image_size, channels)


def _fit(image: Image.Image, image_size: tuple[int, int], channels: int) -> Pixels:
    image = image.convert("L" if channels == 1 else "RGB")
    resized = np.asarray(image.resize((image_size[1], image_size[0]), Image.Resampling.BILINEAR))
    return resized[None] if channels == 1 else np.moveaxis(resized, -1, 0)


class ImageCache:
    """All images of a datalist, decoded and resized once.

    The file's name is a hash of what it holds: the files' paths, sizes and times, and how they are decoded. It is
    written under another name and renamed when complete, so that two runs that start at once both succeed and a
    broken one leaves nothing that looks whole.

    Args:
        datalist: lists of items; what `pixels` is asked for later must be among them.
        image_size: height and width.
        cache_dir: folder for the file.
        channels: 1 for grey, 3 for color.
        mixed_images: accept images of different sizes or color modes; False names the first that differs, for where
            images were prepared alike a difference is a mistake, and where it goes with the label it is a leak.

    Raises:
        SaganError: naming an image that is unreadable or differs from the first; nothing is left on disk then.
    """

    def __init__(
        self,
        datalist: Datalist,
        image_size: tuple[int, int],
        cache_dir: str | Path,
        channels: int = 1,
        mixed_images: bool = False,
    ) -> None:
        if channels not in (1, 3):
            raise SaganError(f"in_channels is {channels}; images are read in grey (1) or in color (3)")
        self.image_size = (int(image_size[0]), int(image_size[1]))
        self.channels = channels
        self.mixed_images = mixed_images
        paths = sorted({item["image"] for items in datalist.values() for item in items})
        self._row = {path: row for row, path in enumerate(paths)}
        self.path = Path(cache_dir) / f"images-{self._key(paths)}.npy"
        if not self.path.is_file():
            self._write(paths)
        self._array: Pixels = np.load(self.path, mmap_mode="r")

    def pixels(self, items: Sequence[Item]) -> Tensor:
        """The images of ``items``, uint8 (N, C, H, W)."""
        rows = [self._row[item["image"]] for item in items]
        return torch.from_numpy(np.ascontiguousarray(self._array[rows]))

    def _key(self, paths: Iterable[str]) -> str:
        files = []
        for path in paths:
            try:
                stat = os.stat(path)
            except OSError:
                raise SaganError(f"{path} is not there; restore it or leave it out") from None
            files.append((path, stat.st_size, stat.st_mtime_ns))
        content = json.dumps([FORMAT, self.image_size, self.channels, self.mixed_images, files])
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def _write(self, paths: list[str]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self.path.with_name(f".{self.path.name}.{uuid.uuid4().hex}")
        shape = (len(paths), self.channels, *self.image_size)
        try:
            pixels = np.lib.format.open_memmap(unfinished, mode="w+", dtype=np.uint8, shape=shape)
            kinds = self._decode(paths, pixels)
            pixels.flush()
            os.replace(unfinished, self.path)
        finally:
            unfinished.unlink(missing_ok=True)
        logger.info(f"decoded {len(paths)} images ({', '.join(kinds)}) into {self.path}")

    def _decode(self, paths: list[str], pixels: Pixels) -> list[str]:
        """Fill ``pixels``; returns the sizes and modes that were met, the first one's first."""
        kinds: dict[tuple[tuple[int, int], str], str] = {}

        def decode(row: int) -> tuple[tuple[int, int], str]:
            image = read_image(paths[row])
            pixels[row] = _fit(image, self.image_size, self.channels)
            return image.size, image.mode

        with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow lets go of the interpreter while it decodes
            try:
                done = pool.map(decode, range(len(paths)))
                for row, kind in enumerate(tqdm(done, "decoding", len(paths), unit="image", disable=None)):
                    kinds.setdefault(kind, paths[row])
                    if len(kinds) > 1 and not self.mixed_images:
                        raise SaganError(_difference(kinds))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        return [_describe(kind) for kind in kinds]


def _describe(kind: tuple[tuple[int, int], str]) -> str:
    (width, height), mode = kind
    return f"{width} x {height} {mode}"


def _difference(kinds: dict[tuple[tuple[int, int], str], str]) -> str:
    (first, first_path), (other, other_path) = list(kinds.items())[:2]
    return (
        f"{other_path} is {_describe(other)} (width x height, mode) while {first_path} is {_describe(first)}; prepare "
        f"all images alike, or add --mixed_images true to resize and convert them"
    )
