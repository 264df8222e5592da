"""The losses of the published loop and of `SaganTrainer` on the same images and draws."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from monai_sagan.bench.published_loop import PublishedLoop
from monai_sagan.data.batches import TrainingBatches
from monai_sagan.engines import SaganTrainer
from monai_sagan.networks import SaganDiscriminator, SaganGenerator
from monai_sagan.seeds import step_seed

LOSSES = ("critic", "gradient_penalty", "adversarial", "identity", "reconstruction")
BATCH = 4

Losses = list[dict[str, float]]


def networks(channels: int = 4) -> tuple[SaganGenerator, SaganDiscriminator]:
    """A generator with one residual block and a critic, always with the same weights."""
    torch.manual_seed(0)
    return SaganGenerator(channels=channels, num_res_blocks=1), SaganDiscriminator(channels=channels, init="he")


def published_losses(
    iterations: int, channels: int = 4, layout: Any = torch.contiguous_format, device: str = "cpu"
) -> Losses:
    """The losses of each iteration of the published loop, on the images and draws of `trainer_losses`."""
    data, pixels = _batches(device)
    loop = PublishedLoop(*_laid_out(channels, layout, device), pixels[:16], pixels[16:], BATCH, device)
    seen = []
    for iteration in range(1, iterations + 1):
        batch = data.batch(iteration - 1)
        torch.manual_seed(step_seed(0, iteration))
        alpha = torch.rand(BATCH, 1, 1, 1, device=device)
        uniform = [torch.rand(BATCH, 1, 64, 64, device=device) for _ in range(3 if iteration % 2 == 0 else 1)]
        gate = (uniform[0], uniform[-2] if len(uniform) > 1 else None, uniform[-1])
        seen.append(loop.iterate(batch["normal"], batch["unlabeled"], batch["pseudo"], alpha, gate))
    return seen


def trainer_losses(
    iterations: int, channels: int = 4, engine: str = "eager", amp: bool = False, device: str = "cpu"
) -> Losses:
    """The losses of each iteration of a `SaganTrainer` with the published loop's optimizers, seed 0."""
    generator, critic = _laid_out(channels, torch.channels_last, device)
    optimizers = [torch.optim.Adam(n.parameters(), 5e-5, (0.5, 0.999), fused=True) for n in (generator, critic)]
    data, _ = _batches(device)
    trainer = SaganTrainer(device, 1, data, generator, optimizers[0], critic, optimizers[1], engine=engine, amp=amp)
    seen = []
    for iteration in range(1, iterations + 1):
        trainer.state.iteration = iteration
        output = trainer._iteration(trainer, data.batch(iteration - 1))
        seen.append({name: output[name].item() for name in LOSSES if name in output})
    return seen


def _laid_out(channels: int, layout: Any, device: str) -> tuple[SaganGenerator, SaganDiscriminator]:
    options: dict[str, Any] = {"memory_format": layout}
    generator, critic = networks(channels)
    return generator.to(device).to(**options), critic.to(device).to(**options)


def _batches(device: str) -> tuple[TrainingBatches, Tensor]:
    pixels = torch.randint(0, 256, (32, 1, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return TrainingBatches(pixels[:16], pixels[16:], BATCH, length=100, device=device, augment=True), pixels
