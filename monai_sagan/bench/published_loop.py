"""The published training loop in our own code, to measure against.

Three generator passes one after another; the generator's graph is built in the critic step and thrown away; the
critic's weights get gradients in the generator step that are never used; pseudo-anomalies are made image by image in
NumPy; losses are read by the host at every update; contiguous float32; Adam's default loop; instance norm with
running statistics, as `nn.InstanceNorm2d` computes it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from monai_sagan.networks.blocks import InstanceNorm

Image = np.ndarray[Any, Any]


def as_published(network: nn.Module) -> nn.Module:
    """Put the published normalization layers, instance norm with running statistics, into ``network``."""
    width = 0
    for name, child in network.named_children():
        width = getattr(child, "out_channels", width)  # of the convolution in front of a norm
        if isinstance(child, InstanceNorm):
            affine = child.weight is not None
            setattr(network, name, nn.InstanceNorm2d(width, affine=affine, track_running_stats=affine))
        else:
            as_published(child)
    return network


class PublishedLoop:
    """Trains networks on uint8 images (N, 1, H, W) as the published code does; `step` is one iteration."""

    def __init__(
        self, generator: nn.Module, critic: nn.Module, normal: Tensor, unlabeled: Tensor, batch_size: int, device: str
    ) -> None:
        self.generator = as_published(generator).to(device).train()
        self.critic = critic.to(device).train()
        self.normal, self.unlabeled = normal.numpy(), unlabeled.numpy()
        self.batch_size, self.device = batch_size, device
        self.random = np.random.RandomState(0)
        self.optimizers = [
            torch.optim.Adam(net.parameters(), 5e-5, (0.5, 0.999)) for net in (self.generator, self.critic)
        ]
        self.iteration = 0

    def _to_device(self, images: list[Image]) -> Tensor:
        scaled = [torch.from_numpy(image).float().div(255).sub(0.5).div(0.5) for image in images]
        return torch.stack(scaled).to(self.device)

    def _pseudo(self, image: Image, source: Image) -> Image:
        side = image.shape[-1]
        row, col = self.random.randint(int(0.2 * side), int(0.8 * side), size=2)
        half = self.random.randint(int(0.05 * side), int(0.2 * side) + 1)
        alpha = self.random.uniform()
        pseudo = image.astype(np.float32)
        box = np.s_[:, max(row - half, 0) : row + half, max(col - half, 0) : col + half]
        pseudo[box] = (1 - alpha) * pseudo[box] + alpha * source[box]
        return pseudo

    def step(self) -> dict[str, float]:
        """One critic update, and every second time a generator update; returns the losses."""
        chosen = self.random.randint(len(self.normal), size=self.batch_size)
        sources = self.random.randint(len(self.normal), size=self.batch_size)
        normal = self._to_device([self.normal[i] for i in chosen])
        unlabeled = self._to_device([self.unlabeled[i % len(self.unlabeled)] for i in chosen])
        pseudo = self._to_device(
            [self._pseudo(self.normal[i], self.normal[j]) for i, j in zip(chosen, sources, strict=True)]
        )
        return self.iterate(normal, unlabeled, pseudo)

    def iterate(
        self,
        normal: Tensor,
        unlabeled: Tensor,
        pseudo: Tensor,
        alpha: Tensor | None = None,
        uniform: tuple[Tensor | None, Tensor | None, Tensor | None] = (None, None, None),
    ) -> dict[str, float]:
        """One iteration on images (B, 1, H, W) in [-1, 1], which `step` draws.

        ``alpha`` (B, 1, 1, 1) is the share of ``normal`` in the penalty's images; ``uniform`` decides the Bernoulli
        gate of unlabeled, normal and pseudo images. None draws them.
        """
        self.iteration += 1
        alpha = torch.rand(len(normal), 1, 1, 1, device=self.device) if alpha is None else alpha
        losses = self._critic_step(normal, unlabeled, alpha, uniform[0])
        if self.iteration % 2 == 0:
            losses |= self._generator_step(normal, unlabeled, pseudo, uniform)
        return losses

    def _critic_step(
        self, normal: Tensor, unlabeled: Tensor, alpha: Tensor, uniform: Tensor | None
    ) -> dict[str, float]:
        real = -self.critic(normal).mean()
        restored = self.generator(unlabeled, uniform)
        fake = self.critic(restored.detach()).mean()
        mixed = (alpha * normal + (1 - alpha) * restored.detach()).requires_grad_(True)
        score = self.critic(mixed)
        (gradient,) = torch.autograd.grad(score, mixed, torch.ones_like(score), create_graph=True, retain_graph=True)
        penalty = ((gradient.flatten(1).pow(2).sum(1).sqrt() - 1) ** 2).mean()
        self._descend(real + fake + 10 * penalty, 1)
        return {"critic": real.item() + fake.item(), "gradient_penalty": penalty.item()}

    def _generator_step(
        self, normal: Tensor, unlabeled: Tensor, pseudo: Tensor, uniform: tuple[Tensor | None, ...]
    ) -> dict[str, float]:
        adversarial = -self.critic(self.generator(unlabeled, uniform[0])).mean()
        identity = (normal - self.generator(normal, uniform[1])).abs().mean()
        reconstruction = ((normal - self.generator(pseudo, uniform[2])) ** 2).mean()
        self._descend(adversarial + identity + reconstruction, 0)
        return {
            "adversarial": adversarial.item(),
            "identity": identity.item(),
            "reconstruction": reconstruction.item(),
        }

    def _descend(self, loss: Tensor, which: int) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        loss.backward()
        self.optimizers[which].step()
