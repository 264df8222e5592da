"""The paper's losses (Eq. 3 to 7), each a function of tensors that returns a scalar."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["adversarial", "critic", "gradient_penalty", "identity", "reconstruction"]


def identity(restored: Tensor, normal: Tensor) -> Tensor:
    """Identity loss (Eq. 4): the mean absolute difference of normal images (B, C, H, W) and their restored versions.

    >>> identity(torch.full((2, 1, 8, 8), 0.5), torch.zeros(2, 1, 8, 8))
    tensor(0.5000)
    """
    return (restored - normal).abs().mean()


def reconstruction(restored: Tensor, normal: Tensor) -> Tensor:
    """Reconstruction loss (Eq. 5): the mean squared difference of restored pseudo-anomalies and their normal originals.

    The paper writes an L2 norm; its published code takes the mean square, and so does this. Both are (B, C, H, W).

    >>> reconstruction(torch.full((2, 1, 8, 8), 0.5), torch.zeros(2, 1, 8, 8))
    tensor(0.2500)
    """
    return (restored - normal).square().mean()


def adversarial(scores: Tensor) -> Tensor:
    """Adversarial loss of the generator (Eq. 3): minus the critic's mean score of restored images.

    >>> adversarial(torch.tensor([1.0, 3.0]))
    tensor(-2.)
    """
    return -scores.mean()


def critic(normal_scores: Tensor, restored_scores: Tensor) -> Tensor:
    """Wasserstein loss of the critic (Eq. 7, first two terms): falls as normal images score above restored ones.

    >>> critic(torch.tensor([2.0, 4.0]), torch.tensor([1.0, 1.0]))
    tensor(-2.)
    """
    return restored_scores.mean() - normal_scores.mean()


def gradient_penalty(critic: Callable[[Tensor], Tensor], normal: Tensor, restored: Tensor, alpha: Tensor) -> Tensor:
    """Gradient penalty (Eq. 7, last term): the critic's gradient between normal and restored images should have norm 1.

    ``alpha`` (B, 1, 1, 1) in [0, 1] is the share of ``normal`` in each mixed image.

    >>> normal, restored, alpha = torch.ones(2, 1, 8, 8), torch.zeros(2, 1, 8, 8), torch.rand(2, 1, 1, 1)
    >>> gradient_penalty(lambda image: image.mean((1, 2, 3)), normal, restored, alpha)  # the norm is 1 / 8
    tensor(0.7656)
    """
    mixed = torch.lerp(restored, normal, alpha)
    gradient = input_gradient(critic, mixed)
    wide = gradient.to(torch.promote_types(gradient.dtype, torch.float32))  # a norm in bfloat16 would be too coarse
    return (wide.flatten(1).norm(dim=1) - 1).square().mean()


def input_gradient(critic: Callable[[Tensor], Tensor], image: Tensor) -> Tensor:
    """The differentiable gradient of each image's summed scores with respect to images (B, C, H, W).

    A critic with a method ``input_gradient`` computes it; for any other critic autograd does.
    """
    if hasattr(critic, "input_gradient"):
        gradient: Tensor = critic.input_gradient(image)
        return gradient
    with torch.enable_grad():
        image = image.detach().requires_grad_()
        return torch.autograd.grad(critic(image).sum(), image, create_graph=True)[0]
