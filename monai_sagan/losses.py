"""The paper's losses (Eq. 3 to 7), each a function of tensors that returns a scalar."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["adversarial", "critic", "gradient_penalty", "identity", "reconstruction"]


def identity(restored: Tensor, normal: Tensor) -> Tensor:
    """Eq. 4: a normal image stays as it is: mean absolute difference of two tensors (B, C, H, W)."""
    return (restored - normal).abs().mean()


def reconstruction(restored: Tensor, normal: Tensor) -> Tensor:
    """Eq. 5: a pseudo-anomaly is restored to the normal image it was made of: mean squared difference.

    The paper writes an L2 norm; its published code takes the mean square, and so does this.
    """
    return (restored - normal).square().mean()


def adversarial(scores: Tensor) -> Tensor:
    """Eq. 3: the critic takes restored images for normal ones; ``scores`` are its scores of them."""
    return -scores.mean()


def critic(normal_scores: Tensor, restored_scores: Tensor) -> Tensor:
    """Eq. 7, first two terms: the critic tells normal images from restored ones (normal ones score higher)."""
    return restored_scores.mean() - normal_scores.mean()


def gradient_penalty(critic: Callable[[Tensor], Tensor], normal: Tensor, restored: Tensor, alpha: Tensor) -> Tensor:
    """Eq. 7, last term: the critic's gradient has norm 1 between ``normal`` and ``restored`` images (B, C, H, W).

    Args:
        critic: maps images to scores.
        alpha: (B, 1, 1, 1) in [0, 1], the share of ``normal`` in each mixed image.
    """
    mixed = torch.lerp(restored, normal, alpha).requires_grad_()
    (gradient,) = torch.autograd.grad(critic(mixed).sum(), mixed, create_graph=True)
    return (gradient.flatten(1).norm(dim=1) - 1).square().mean()
