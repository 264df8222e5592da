"""The paper's losses (Eq. 3 to 7), each a function of tensors that returns a scalar."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["adversarial", "critic", "gradient_penalty", "identity", "input_gradient", "reconstruction"]


def identity(restored: Tensor, normal: Tensor) -> Tensor:
    """Eq. 4: a normal image stays as it is: mean absolute difference, a scalar.

    Args:
        restored: what the generator makes of ``normal``, (B, C, H, W) in [-1, 1].
        normal: (B, C, H, W) in [-1, 1].
    """
    return (restored - normal).abs().mean()


def reconstruction(restored: Tensor, normal: Tensor) -> Tensor:
    """Eq. 5: a pseudo-anomaly is restored to the normal image it was made of: mean squared difference, a scalar.

    The paper writes an L2 norm; its published code takes the mean square, and so does this.

    Args:
        restored: what the generator makes of a pseudo-anomaly, (B, C, H, W) in [-1, 1].
        normal: the image that it was made of, alike.
    """
    return (restored - normal).square().mean()


def adversarial(scores: Tensor) -> Tensor:
    """Eq. 3: the critic takes restored images for normal ones: minus their mean score, a scalar.

    Args:
        scores: the critic's, of restored images: (B, 1, h, w), of any range.
    """
    return -scores.mean()


def critic(normal_scores: Tensor, restored_scores: Tensor) -> Tensor:
    """Eq. 7, first two terms: the critic tells normal images from restored ones (normal ones score higher); a scalar.

    Args:
        normal_scores: the critic's, of normal images: (B, 1, h, w), of any range.
        restored_scores: of restored images, alike.
    """
    return restored_scores.mean() - normal_scores.mean()


def gradient_penalty(critic: Callable[[Tensor], Tensor], normal: Tensor, restored: Tensor, alpha: Tensor) -> Tensor:
    """Eq. 7, last term: the critic's gradient has norm 1 between ``normal`` and ``restored`` images (B, C, H, W).

    Args:
        critic: maps images to scores.
        normal: (B, C, H, W) in [-1, 1].
        restored: of the same shape and range.
        alpha: (B, 1, 1, 1) in [0, 1], the share of ``normal`` in each mixed image.
    """
    mixed = torch.lerp(restored, normal, alpha)
    gradient = input_gradient(critic, mixed)
    wide = gradient.to(torch.promote_types(gradient.dtype, torch.float32))  # a norm in bfloat16 would be too coarse
    return (wide.flatten(1).norm(dim=1) - 1).square().mean()


def input_gradient(critic: Callable[[Tensor], Tensor], image: Tensor) -> Tensor:
    """The gradient (B, C, H, W) of each image's summed scores, itself differentiable.

    A critic that has a method ``input_gradient`` computes it itself; of any other autograd does.

    Args:
        critic: maps images to scores.
        image: (B, C, H, W), of any range.
    """
    if hasattr(critic, "input_gradient"):
        gradient: Tensor = critic.input_gradient(image)
        return gradient
    with torch.enable_grad():
        image = image.detach().requires_grad_()
        return torch.autograd.grad(critic(image).sum(), image, create_graph=True)[0]
