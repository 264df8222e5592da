"""Images that stay on the disk until they are asked for: rows of one array file, read batch by batch."""

from __future__ import annotations

import io
import math
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from monai_sagan.data.formats.scaling import Pixels
from monai_sagan.errors import SaganError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__: list[str] = []

AT_A_TIME = 2**24  # values that go to a GPU at a time


class ArrayFile:
    """A ``.npy`` file that is read, and in mode "r+" written, row by row; it may be replaced meanwhile.

    It is not mapped: pages of a mapping that were read once count as memory of the process.
    """

    def __init__(self, path: str | Path, mode: str = "r") -> None:
        array = np.load(path, mmap_mode="r")
        self.shape, self.dtype, self.offset = tuple(array.shape), array.dtype, int(array.offset)
        self._row_size = array.nbytes // max(len(array), 1)
        self._file = io.FileIO(path, mode)
        self._lock = threading.Lock()  # place and reading belong together

    def read(self, rows: Pixels) -> Pixels:
        """Read rows by their indices (B,).

        Raises:
            SaganError: when the file has become shorter meanwhile.
        """
        found = np.empty((len(rows), *self.shape[1:]), self.dtype)
        with self._lock:
            for row, place in zip(rows.tolist(), found, strict=True):
                self._file.seek(self.offset + row * self._row_size)
                if self._file.readinto(place) != self._row_size:
                    raise SaganError(f"{self._file.name} was cut off while it was read; give the same command again")
        return found

    def write(self, row: int, values: Pixels) -> None:
        """Write values of the array's type into a row."""
        with self._lock:
            self._file.seek(self.offset + row * self._row_size)
            self._file.write(np.ascontiguousarray(values, self.dtype).data)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            self.close()


class StoredImages:
    """Images uint8 (N, C, H, W) in ``rows`` of a file, read when they are indexed like a tensor's."""

    def __init__(self, file: ArrayFile, rows: Sequence[int] | Pixels) -> None:
        self.file = file
        self.rows = np.asarray(rows, np.int64).reshape(-1)

    @property
    def shape(self) -> tuple[int, ...]:
        """N, C, H and W."""
        return len(self.rows), *self.file.shape[1:]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, which: Any) -> Tensor:
        """The images of a slice or of indices (B,), a tensor uint8 (B, C, H, W); of one index (C, H, W)."""
        import torch

        rows = self.rows[which if isinstance(which, slice) else np.asarray(which, np.int64)]
        return torch.from_numpy(self.file.read(rows)) if rows.ndim else torch.from_numpy(self.file.read(rows[None])[0])


def in_parts(count: int, shape: Sequence[int], values: int = AT_A_TIME) -> Iterator[slice]:
    """Slices that cut images of ``shape`` (N, C, H, W) into parts of so many ``values``, but at least one image."""
    step = max(values // max(math.prod(shape[1:]), 1), 1)
    return (slice(start, start + step) for start in range(0, count, step))


def join_images(
    one: Tensor | StoredImages, other: Tensor | StoredImages, which: slice = slice(None)
) -> Tensor | StoredImages:
    """Join images uint8 (N, C, H, W) and (M, C, H, W), and cut out ``which``; those of one file stay stored."""
    import torch

    if isinstance(one, StoredImages) and isinstance(other, StoredImages) and one.file is other.file:
        return StoredImages(one.file, np.concatenate([one.rows, other.rows])[which])
    return torch.cat([one[:], other[:]])[which]


def move_images(images: Tensor | StoredImages, device: torch.device) -> Tensor | StoredImages:
    """Move images to a GPU as uint8; on the CPU stored ones stay on the disk until they are needed."""
    if not isinstance(images, StoredImages):
        return images.to(device)
    if device.type == "cpu":
        return images
    import torch

    resident = torch.empty(images.shape, dtype=torch.uint8, device=device)
    for part in in_parts(len(images), images.shape):
        resident[part] = images[part].to(device)
    return resident
