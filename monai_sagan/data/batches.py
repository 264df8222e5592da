"""The three streams of training: normal, unlabeled and pseudo-anomaly images, in batches on the device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from monai_sagan.data.array_store import StoredImages, join_images, move_images
from monai_sagan.distributed import rank_and_count
from monai_sagan.errors import SaganError
from monai_sagan.seeds import step_seed
from monai_sagan.transforms.functional import foreign_patch, small_affine

__all__ = ["TrainingBatches", "validation_batches"]

STREAMS = ("normal", "unlabeled", "pseudo")


def to_unit_range(images: Tensor) -> Tensor:
    """Scale uint8 images (B, C, H, W), 0 to 255, to float32 in [-1, 1].

    >>> to_unit_range(torch.tensor([0, 255], dtype=torch.uint8))
    tensor([-1.,  1.])
    """
    return images.float().div_(127.5).sub_(1)


class TrainingBatches:
    """Batches of ``normal``, ``unlabeled`` and ``pseudo`` images (B, C, H, W) in [-1, 1], all drawn by (seed, step).

    Each stream goes through its images in a new random order in each round. A pseudo-anomaly is a normal image of
    the batch with a patch of another normal image. Streams that are not asked for are neither read nor drawn. A GPU
    holds all pixels as uint8; on the CPU stored images are read from the disk when they are needed. Each of several
    processes gives its part of the batch that one process would give.

    >>> images = torch.zeros(4, 1, 8, 8, dtype=torch.uint8)
    >>> batch = TrainingBatches(images, images, batch_size=2, length=10).batch(0)
    >>> {name: tuple(part.shape) for name, part in batch.items()}["normal"]
    (2, 1, 8, 8)

    Args:
        normal: uint8 (N, C, H, W), a tensor or stored images.
        unlabeled: uint8 (M, C, H, W), likewise.
        batch_size: B of this process; B times the number of processes is at most N and at most M.
        length: batches in an epoch.
        seed: of all draws.
        device: where the images are blended.
        augment: rotate, scale and shift every image a little (`small_affine`).
        paired: the i-th unlabeled image always comes with the i-th normal one, as in the published code.
        streams: the streams of a batch.

    Raises:
        SaganError: when there are fewer normal or unlabeled images than a batch takes.
    """

    def __init__(
        self,
        normal: Tensor | StoredImages,
        unlabeled: Tensor | StoredImages,
        batch_size: int,
        length: int,
        seed: int = 0,
        device: str | torch.device = "cpu",
        augment: bool = False,
        paired: bool = False,
        streams: Sequence[str] = STREAMS,
    ) -> None:
        self.rank, self.processes = rank_and_count()
        self.streams = tuple(streams)
        counts = [(len(normal), "normal")] + [(len(unlabeled), "unlabeled")] * ("unlabeled" in self.streams)
        fewest, name = min(counts)
        if batch_size * self.processes > fewest:
            of_all = f" of {self.processes} processes each" if self.processes > 1 else ""
            raise SaganError(
                f"batch_size {batch_size}{of_all} is larger than the {fewest} {name} training images; lower it"
            )
        if "pseudo" in self.streams and len(normal) < 2:
            raise SaganError("pseudo-anomalies need at least two normal training images")
        self.device = torch.device(device)
        self.normal = move_images(normal, self.device)
        self.unlabeled = move_images(unlabeled, self.device) if "unlabeled" in self.streams else None
        self.batch_size = batch_size
        self.length = length
        self.seed = seed
        self.augment = augment
        self.paired = paired
        self._step = 0
        self._orders: dict[int, tuple[int, Tensor]] = {}

    def __len__(self) -> int:
        return self.length

    def set_step(self, step: int) -> None:
        """Continue with the batch of iteration ``step``, counted from 0."""
        self._step = step

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        while True:
            step, self._step = self._step, self._step + 1
            yield self.batch(step)

    def batch(self, step: int) -> dict[str, Tensor]:
        """The batch of iteration ``step``: images (B, C, H, W) in [-1, 1] by stream, and the ``pseudo_mask``."""
        device = self.device
        draw = torch.Generator(device).manual_seed(step_seed(self.seed, step))
        n = self.batch_size * self.processes  # all processes draw for all of them, and each takes its part
        chosen = self._next(len(self.normal), step, stream=0)
        pixels = [self.normal[self._part(chosen)]]
        if self.unlabeled is not None:
            count = len(self.unlabeled)
            pixels.append(self.unlabeled[self._part(chosen % count if self.paired else self._next(count, step, 1))])
        if "pseudo" in self.streams:
            another = torch.randint(1, len(self.normal), (n,), generator=draw, device=device)
            pixels.append(self.normal[self._part((chosen + another) % len(self.normal))])
        moves = torch.rand(len(pixels), n, 4, generator=draw, device=device) if self.augment else None
        images = to_unit_range(torch.cat(pixels))
        if moves is not None:
            images = small_affine(images, torch.cat([self._part(move) for move in moves]))
        parts = list(images.chunk(len(pixels)))
        batch = {"normal": parts[0]} | ({} if self.unlabeled is None else {"unlabeled": parts[1]})
        if "pseudo" in self.streams:
            patch = self._part(torch.rand(n, 4, generator=draw, device=device))
            batch["pseudo"], batch["pseudo_mask"] = foreign_patch(parts[0], parts[-1], patch)
        return batch

    def _part(self, drawn: Tensor) -> Tensor:
        """The part of a common draw that belongs to this process."""
        return drawn[self.rank * self.batch_size : (self.rank + 1) * self.batch_size]

    def _next(self, count: int, step: int, stream: int) -> Tensor:
        """Which of ``count`` images batch ``step`` takes: the next ones of an order drawn again for each round."""
        size = self.batch_size * self.processes
        start = step * size
        places = range(start, start + size)
        rounds = sorted({place // count for place in places})
        parts = [self._order(count, number, stream) for number in rounds]
        return torch.cat(parts)[start - rounds[0] * count :][:size]

    def _order(self, count: int, number: int, stream: int) -> Tensor:
        kept = self._orders.get(stream)
        if kept is None or kept[0] != number:
            draw = torch.Generator().manual_seed(step_seed(self.seed + stream + 1, -number - 1))
            order = torch.randperm(count, generator=draw)
            if self.device.type == "cuda":
                order = order.pin_memory()  # so that copying it waits for nothing
            kept = self._orders[stream] = (number, order.to(self.device, non_blocking=True))
        return kept[1]


def images_at_a_time(batch_size: int, size: Sequence[int]) -> int:
    """The number of images that take the memory of ``batch_size`` images of 64 x 64 pixels."""
    return max(batch_size * 64 * 64 // max(size[-2] * size[-1], 64 * 64), 1)


class EvaluationBatches:
    """Batches of ``image`` (B, C, H, W) in [-1, 1] and, where given, ``label`` (B,), in order.

    >>> batches = EvaluationBatches(torch.zeros(3, 1, 8, 8, dtype=torch.uint8), batch_size=2)
    >>> [len(batch["image"]) for batch in batches]
    [2, 1]

    Args:
        images: uint8 (N, C, H, W), a tensor or stored images.
        labels: int64 (N,), 0 and 1.
        batch_size: B for images of up to 64 x 64 pixels, fewer larger ones; the last batch may be smaller.
    """

    def __init__(self, images: Tensor | StoredImages, labels: Tensor | None = None, batch_size: int = 64) -> None:
        self.images: Any = images  # a tensor or stored images
        self.labels = labels
        self.batch_size = images_at_a_time(batch_size, images.shape)

    def __len__(self) -> int:
        return -(-len(self.images) // self.batch_size)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        for start in range(0, len(self.images), self.batch_size):
            part = slice(start, start + self.batch_size)
            batch = {"image": to_unit_range(self.images[part])}
            yield batch if self.labels is None else batch | {"label": self.labels[part]}


def validation_batches(
    normal: Tensor | StoredImages, unlabeled: Tensor | StoredImages, batch_size: int = 64
) -> EvaluationBatches:
    """Batches for AUCp, the AUC of validation normals (label 0) against validation unlabeled images (label 1).

    See https://github.com/mahfuzmohammad/AUCp. No true label is used; here the normals are kept out of training.

    >>> images = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
    >>> [batch["label"].tolist() for batch in validation_batches(images, images)]
    [[0, 0, 1, 1]]

    Args:
        normal: uint8 (N, C, H, W), a tensor or stored images.
        unlabeled: uint8 (M, C, H, W), likewise.
        batch_size: see `EvaluationBatches`.
    """
    labels = torch.cat([torch.zeros(len(normal)), torch.ones(len(unlabeled))]).long()
    rank, count = rank_and_count()  # a metric gathers what all processes found
    part = slice(rank, None, count)
    return EvaluationBatches(join_images(normal, unlabeled, part), labels[part], batch_size)
