"""Two masked autoencoders whose restorations differ where an image is abnormal, and what labels images for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from monai_sagan.networks.masked_autoencoder import MaskedAutoencoder

__all__ = ["PairedAutoencoders", "fixed_masks", "visible"]

MASK_SEED = 0  # of the masks at test: the same for every run


class PairedAutoencoders(nn.Module):
    """Everything that AMAE-style training makes: three autoencoders, a classifier, thresholds and masks.

    Args:
        autoencoder: the arguments of `MaskedAutoencoder`.
        masks: that a score averages.
        mask_ratio: share of the patches that they hide.
        score: ``"discrepancy"``: the absolute difference of both restorations; ``"error"``: how much larger the
            normative one's squared error is, which may be negative.

    Example:
        >>> small = {"in_channels": 1, "image_size": (64, 64), "patch": 8, "width": 16, "depth": 1, "heads": 2}
        >>> network = PairedAutoencoders(small | {"decoder_width": 16, "decoder_depth": 1, "decoder_heads": 2})
        >>> [found.shape for found in network(torch.zeros(2, 1, 64, 64))]
        [torch.Size([2, 1, 64, 64]), torch.Size([2])]
    """

    kept: Tensor

    def __init__(
        self,
        autoencoder: Mapping[str, Any],
        masks: int = 16,
        mask_ratio: float = 0.75,
        score: str = "discrepancy",
    ) -> None:
        super().__init__()
        self.score = score
        self.pretrained = MaskedAutoencoder(**autoencoder)
        self.normative = MaskedAutoencoder(**autoencoder)
        self.abnormal = MaskedAutoencoder(**autoencoder)
        self.classifier = PseudoLabels(self.pretrained.norm.weight.shape[0])
        self.register_buffer("kept", fixed_masks(masks, self.pretrained.patches, mask_ratio))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Anomaly map (B, 1, H, W) and score (B,) of images (B, C, H, W) in [-1, 1]."""
        masks = self.kept.shape[0]  # those of one image follow each other
        kept = self.kept.expand(image.shape[0], -1, -1).flatten(0, 1)
        copies = image[:, None].expand(-1, masks, -1, -1, -1).flatten(0, 1)
        normative, abnormal = self.normative(copies, kept).float(), self.abnormal(copies, kept).float()
        if self.score == "error":
            difference = (copies - normative).square() - (copies - abnormal).square()
        else:
            difference = (normative - abnormal).abs()
        hidden = self.normative.hidden(self.kept)
        difference = difference.mean(1, keepdim=True).unflatten(0, (-1, masks)) * hidden
        # Each mask hides as many pixels, so the mean over all is the mean of the masks' means.
        return difference.sum(1) / hidden.sum(0).clamp(min=1), difference.sum((1, 2, 3, 4)) / hidden.sum()


class PseudoLabels(nn.Module):
    """A linear classifier of features (B, width), and its thresholds for pseudo-labels.

    Args:
        width: of the features.
    """

    low: Tensor
    high: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 1)
        self.register_buffer("low", torch.zeros(()))
        self.register_buffer("high", torch.zeros(()))

    def forward(self, features: Tensor) -> Tensor:
        """Logits (B,) of being abnormal."""
        logits: Tensor = self.linear(features)[:, 0]
        return logits


def fixed_masks(count: int, patches: int, mask_ratio: float) -> Tensor:
    """Numbers of the visible patches (count, K) of random masks, the same at each call.

    Args:
        count: of masks.
        patches: of an image.
        mask_ratio: share of the patches that are hidden.
    """
    draw = torch.Generator().manual_seed(MASK_SEED)
    return visible(torch.rand(count, patches, generator=draw, device="cpu"), mask_ratio)


def visible(uniform: Tensor, mask_ratio: float) -> Tensor:
    """The visible patches (B, K) of uniform numbers (B, N): those with the lowest; at least one is, and not all are."""
    patches = uniform.shape[1]
    count = min(max(round(patches * (1 - mask_ratio)), 1), patches - 1)
    return uniform.argsort(dim=1)[:, :count]
