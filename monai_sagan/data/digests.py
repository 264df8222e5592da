"""The images that a model has seen: their digests are in its file, so that no evaluation scores it on them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch

from monai_sagan.data.datalist import Datalist

if TYPE_CHECKING:
    from torch import Tensor

__all__: list[str] = []

SIDES = {"train_normal": "training", "train_unlabeled": "training", "valid_normal": "validation",
         "valid_unlabeled": "validation", "test": "test"}  # fmt: skip


def splits_digest(splits: Datalist) -> str:
    """Digest of the pixels of all images but the test's, in order: everything that decides a training."""
    pixels = [[item["digest"] for item in splits[name]] for name, side in SIDES.items() if side != "test"]
    return hashlib.sha256(json.dumps(pixels).encode()).hexdigest()[:16]


def describe_run(splits: Datalist, seed: int) -> dict[str, Any]:
    """The entry ``run`` of a model file: ``seed``, ``splits`` (see `splits_digest`), and the images that it has seen.

    These are ``training`` and ``validation``: the digests of these images, sorted, uint8 (N, 12).
    """
    images = {
        side: _as_tensor(item["digest"] for name in SIDES if SIDES[name] == side for item in splits[name])
        for side in ("training", "validation")
    }
    return {"seed": seed, "splits": splits_digest(splits), **images}


def seen_images(run: Mapping[str, Any], side: str) -> set[str]:
    """The digests of images on a ``side``, "training" or "validation", that a model has seen."""
    return {bytes(row).hex() for row in run[side].tolist()}


def _as_tensor(digests: Iterable[str]) -> Tensor:
    rows = [list(bytes.fromhex(digest)) for digest in sorted(set(digests))]
    return torch.tensor(rows, dtype=torch.uint8)
