"""Restoring and scoring many images in large batches."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from monai_sagan.data.batches import images_at_a_time, to_unit_range
from monai_sagan.errors import SaganError
from monai_sagan.transforms.functional import anomaly_map, anomaly_score, smooth_map

__all__ = ["copy_shifts", "in_precision", "restore", "restored_and_map", "score"]


@contextmanager
def in_precision(device: str | torch.device, amp: bool) -> Iterator[None]:
    """The body runs networks in bfloat16 with ``amp``, and else in float32, on a GPU too.

    There torch rounds the inputs of float32 convolutions to TF32 unless told otherwise: scores would then differ from
    those of a CPU, which may use the thresholds that were found here.

    Args:
        device: where the networks are.
        amp: whether to take bfloat16.
    """
    device = torch.device(device)
    convolutions: Any = torch.backends.cudnn.conv  # type: ignore[attr-defined]  # set at run time
    kept = convolutions.fp32_precision
    if device.type == "cuda" and not amp:
        convolutions.fp32_precision = "ieee"
    try:
        with torch.autocast(device.type, torch.bfloat16, enabled=amp):
            yield
    finally:
        convolutions.fp32_precision = kept


@torch.inference_mode()
def restore(
    network: nn.Module,
    images: Tensor,
    batch_size: int = 256,
    mask_seed: int | None = None,
    passes: int = 1,
    shift: int = 1,
    smooth: Mapping[str, Any] | None = None,
    amp: bool = False,
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Batches of images, their restored versions and anomaly maps, on the network's device.

    Args:
        network: the generator.
        images: uint8 (N, C, H, W).
        batch_size: images of up to 64 x 64 pixels at a time, fewer of larger ones, each pass counted; the results do
            not depend on it.
        mask_seed: leave the training mask on, drawn by this seed, as the published code tests; None turns it off.
        passes: 1, or a square number of copies of each image that are shifted apart, so that the borders of the
            network's patches fall elsewhere; their restored versions and maps are moved back and averaged. With
            ``mask_seed`` each copy has a mask of its own.
        shift: greatest shift up, down, left and right, in pixels; the copies lie evenly between. What comes in repeats
            the border, and counts for nothing when averaging.
        smooth: arguments of `smooth_map`, such as ``{"kind": "gaussian", "sigma": 1}``; None leaves the maps as they
            are.
        amp: run the network in bfloat16; its norms, restored versions, maps and scores stay in float32.

    Raises:
        SaganError: when ``passes`` is no square number, or ``shift`` has no room for as many copies or is more than a
            quarter of the image's side.
    """
    shifts = copy_shifts(passes, shift, min(images.shape[-2:]))
    device = next(network.parameters()).device
    network.train(mask_seed is not None)
    if mask_seed is not None:
        torch.manual_seed(mask_seed)
    step = max(images_at_a_time(batch_size, images.shape) // passes, 1)
    for start in range(0, len(images), step):
        image = to_unit_range(images[start : start + step].to(device))
        with in_precision(device, amp):
            restored, maps = restored_and_map(network, image, shifts)
        yield image, restored, maps if smooth is None else smooth_map(maps, image=image, **smooth)


def copy_shifts(passes: int, shift: int, side: int) -> list[tuple[int, int]]:
    """How far down and to the right, in pixels, each of ``passes`` copies moves: an even lattice, alike for all images.

    Args:
        passes: 1, or a square number.
        shift: greatest shift, in pixels.
        side: the image's shorter one, in pixels.

    Raises:
        SaganError: when ``passes`` is no square number, or ``shift`` does not fit it or ``side``.
    """
    count = math.isqrt(max(passes, 0))
    if count < 1 or count**2 != passes:
        raise SaganError(f"passes is {passes}; it is 1, or a square number of shifted copies: 4, 9, 16, ...")
    if count == 1:
        return [(0, 0)]
    least, most = count // 2, side // 4
    if not least <= shift <= most:
        raise SaganError(f"shift is {shift}; for {passes} passes on this image size it is {least} to {most} pixels")
    steps = [round(shift * (2 * i / (count - 1) - 1)) for i in range(count)]
    return [(down, right) for down in steps for right in steps]


def restored_and_map(
    network: Callable[[Tensor], Tensor], image: Tensor, shifts: Sequence[tuple[int, int]] = ((0, 0),)
) -> tuple[Tensor, Tensor]:
    """The restored images and the anomaly maps (B, 1, H, W) in [0, 1] of images (B, C, H, W) in [-1, 1].

    Args:
        network: the generator.
        image: what it restores.
        shifts: of `copy_shifts`; of several copies both are means, a pixel's over the copies that show it.
    """
    if len(shifts) > 1:
        return _mean_of_shifted(network, image, shifts)
    restored = network(image)
    return restored, anomaly_map(image, restored)


def _mean_of_shifted(
    network: Callable[[Tensor], Tensor], image: Tensor, shifts: Sequence[tuple[int, int]]
) -> tuple[Tensor, Tensor]:
    # The copies of one image follow each other, so that the masks that are drawn do not depend on the batch.
    copies = torch.stack([_moved(image, down, right) for down, right in shifts], dim=1)
    restored = network(copies.flatten(0, 1)).unflatten(0, copies.shape[:2])
    shown = torch.ones_like(image[:1, :1])
    sum_restored, sum_maps, count = torch.zeros_like(image), torch.zeros_like(image[:, :1]), torch.zeros_like(shown)
    for i, (down, right) in enumerate(shifts):
        back, inside = _moved(restored[:, i], -down, -right), _moved(shown, -down, -right, repeat=False)
        sum_restored += inside * back
        # Maps are averaged, not taken of the mean restoration: that would be a little blurred and glow at edges.
        sum_maps += inside * anomaly_map(image, back)
        count += inside
    return sum_restored / count, sum_maps / count


def _moved(image: Tensor, down: int, right: int, repeat: bool = True) -> Tensor:
    """The content of images (B, C, H, W) moved by whole pixels; what comes in repeats the border, or is 0."""
    height, width = image.shape[-2:]
    rows = torch.arange(height, device=image.device)[:, None] - down
    cols = torch.arange(width, device=image.device) - right
    moved = image[..., rows.clamp(0, height - 1), cols.clamp(0, width - 1)]
    inside = (rows >= 0) & (rows < height) & (cols >= 0) & (cols < width)
    return moved if repeat else moved * inside


def score(
    network: nn.Module,
    images: Tensor,
    batch_size: int = 256,
    mask_seed: int | None = None,
    passes: int = 1,
    shift: int = 1,
    smooth: Mapping[str, Any] | None = None,
    amp: bool = False,
) -> Tensor:
    """Anomaly scores (N,) in [0, 1] of uint8 images (N, C, H, W), float32 on the CPU; higher is more abnormal.

    A score is the mean of a map of `restore`, whose arguments are the same: ``batch_size``,
    ``mask_seed``, ``passes``, ``shift``, ``smooth`` and ``amp``.

    Args:
        network: the generator.
        images: uint8 (N, C, H, W).

    Raises:
        SaganError: as `restore`.
    """
    parts = restore(network, images, batch_size, mask_seed, passes, shift, smooth, amp)
    scores = [anomaly_score(maps).cpu() for _, _, maps in parts]
    return torch.cat(scores) if scores else torch.zeros(0)
