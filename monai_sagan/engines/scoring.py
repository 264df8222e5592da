"""Restoring and scoring many images in large batches."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from monai_sagan.data.batches import to_unit_range
from monai_sagan.transforms.functional import anomaly_map, anomaly_score

__all__ = ["restore", "score"]


@torch.inference_mode()
def restore(
    network: nn.Module, images: Tensor, batch_size: int = 256, mask_seed: int | None = None
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Batches of images, their restored versions and anomaly maps, on the network's device.

    Args:
        network: the generator.
        images: uint8 (N, C, H, W).
        batch_size: images at a time; the results do not depend on it.
        mask_seed: leave the training mask on, drawn by this seed, as the published code tests; None turns it off.
    """
    device = next(network.parameters()).device
    network.train(mask_seed is not None)
    if mask_seed is not None:
        torch.manual_seed(mask_seed)
    for start in range(0, len(images), batch_size):
        image = to_unit_range(images[start : start + batch_size].to(device))
        restored = network(image)
        yield image, restored, anomaly_map(image, restored)


def score(network: nn.Module, images: Tensor, batch_size: int = 256, mask_seed: int | None = None) -> Tensor:
    """Anomaly scores (N,) in [0, 1] of uint8 images (N, C, H, W), float32 on the CPU; higher is more abnormal."""
    scores = [anomaly_score(maps).cpu() for _, _, maps in restore(network, images, batch_size, mask_seed)]
    return torch.cat(scores) if scores else torch.zeros(0)
