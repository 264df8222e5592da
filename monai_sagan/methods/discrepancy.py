"""The network of DDAD: two ensembles of autoencoders, how far they disagree about an image, and a net that refines it.

Ensemble A has seen normal and unlabeled images, ensemble B normal images alone: where they disagree there is something
that only unlabeled images have; where B's members disagree among themselves there is something that none has seen.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from monai_sagan.networks.autoencoder import Autoencoders, Reconstruction, RefinementNetwork

__all__ = ["DISCREPANCIES", "DiscrepancyNetwork", "Maps", "discrepancy_maps", "focal_loss"]

DISCREPANCIES = {"intra": ("intra",), "inter": ("inter",), "dual": ("inter", "intra"), "rec": ("rec",)}
LEAST_VARIANCE = 1e-12  # that maps of AE-U are divided by, so that they are finite
CLAMP = 1e-5  # of targets and probabilities in the focal loss


class Maps(NamedTuple):
    """Discrepancy maps (B, 1, H, W), 0 or more, means over the images' channels.

    Args:
        rec: squared difference of the image from the mean reconstruction of ensemble B.
        inter: absolute difference of the mean reconstructions of both ensembles.
        intra: standard deviation (unbiased) of the reconstructions of ensemble B.
        restored: (B, C, H, W), the mean reconstruction of ensemble B, about [-1, 1].
    """

    rec: Tensor
    inter: Tensor
    intra: Tensor
    restored: Tensor


def discrepancy_maps(image: Tensor, found: Reconstruction) -> Maps:
    """The maps of images (B, C, H, W) in [-1, 1], of what 2 K autoencoders made of them.

    With predicted variances, the mean of exp(log-variance) over ensemble B divides the squared difference, and its
    square root the others: what is uncertain in every normal image counts less.

    Args:
        image: (B, C, H, W) in [-1, 1].
        found: of the K members of ensemble A, then the K of ensemble B.
    """
    a, b = found.mean.float().chunk(2, dim=1)
    mean_b = b.mean(1)
    rec, inter = (image - mean_b).square(), (a.mean(1) - mean_b).abs()
    intra = ((b - mean_b[:, None]).square().sum(1) / (b.shape[1] - 1)).sqrt()
    if found.log_variance is not None:
        variance = found.log_variance.float().chunk(2, dim=1)[1].exp().mean(1).clamp(min=LEAST_VARIANCE)
        rec, inter, intra = rec / variance, inter / variance.sqrt(), intra / variance.sqrt()
    rec, inter, intra = (found_map.mean(1, keepdim=True) for found_map in (rec, inter, intra))
    return Maps(rec, inter, intra, restored=mean_b)


def focal_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Focal loss with exponent 2 of abnormal pixels against normal ones, a scalar.

    Args:
        logits: (B, 2, H, W), of normal and abnormal.
        mask: (B, 1, H, W), 1 for abnormal pixels and 0 elsewhere.
    """
    target = torch.cat([1 - mask, mask], dim=1).clamp(CLAMP, 1 - CLAMP)
    likelihood = (target * logits.softmax(1)).sum(1) + CLAMP
    return -((1 - likelihood) ** 2 * likelihood.log()).mean()


class DiscrepancyNetwork(nn.Module):
    """Images (B, C, H, W) in [-1, 1] to anomaly maps (B, 1, H, W) and mean reconstructions (B, C, H, W) in [-1, 1].

    Args:
        autoencoders: 2 K of them: ensemble A, then ensemble B.
        discrepancy: the maps that are refined: ``"inter"``, ``"intra"``, or both, ``"dual"``; unrefined one of
            ``"inter"``, ``"intra"`` and ``"rec"``.
        refine: the anomaly map is the probability of an abnormal pixel; without it the discrepancy itself.
    """

    def __init__(self, autoencoders: Autoencoders, discrepancy: str = "dual", refine: bool = True) -> None:
        super().__init__()
        self.autoencoders = autoencoders
        self.names = DISCREPANCIES[discrepancy]
        self.refinement = RefinementNetwork(len(self.names)) if refine else None

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        selected, restored = self.discrepancy(image)
        if self.refinement is not None:
            selected = self.refinement(selected).float().softmax(1)[:, 1:]
        return selected, restored.clamp(-1, 1)

    def discrepancy(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """The selected maps (B, maps, H, W), and the mean reconstruction (B, C, H, W) of ensemble B.

        Args:
            image: (B, C, H, W) in [-1, 1].
        """
        maps = discrepancy_maps(image, self.autoencoders.reconstruct(image))
        return torch.cat([getattr(maps, name) for name in self.names], dim=1), maps.restored
