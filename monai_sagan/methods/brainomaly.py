"""Brainomaly: restores images by an additive map that a critic judges (https://arxiv.org/abs/2302.09200)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from monai_sagan.errors import SaganError
from monai_sagan.methods.gan import GanStage, make_gan_stage
from monai_sagan.methods.method import Computing, Detection, Method
from monai_sagan.methods.sagan import detect_by_restoration
from monai_sagan.networks.plain_generator import PlainGenerator
from monai_sagan.options import option
from monai_sagan.settings import Settings

RECOMMENDED: dict[str, Any] = {
    "image_size": (64, 64),
    "in_channels": 1,
    "preparation": "display",
    "max_iterations": 100_000,
    "learning_rate": 2e-4,
    "critic_betas": (0.5, 0.99),
    "critic_init": "he",
    "lambda_id": 10.0,
    "augment": True,
    "map_smoothing": "gaussian",
}


@dataclass(frozen=True)
class BrainomalyOptions(Settings):
    """What a Brainomaly run computes; the defaults are those of its published code."""

    image_size: tuple[int, int] = option((192, 192), "height and width, in pixels", low=64)
    in_channels: int = option(3, "1 for grey, 3 for color", choices=(1, 3))
    batch_size: int = option(16, "images of each stream in an iteration", low=1)
    max_iterations: int = option(400_000, "critic updates", low=1)
    learning_rate: float = option(1e-4, "of Adam, for both networks", low=1e-12, high=1)
    channels: int = option(64, "width of both networks' first level", low=1)
    num_res_blocks: int = option(6, "residual blocks in the generator's bottleneck", low=0, high=1000)
    critic_betas: tuple[float, float] = option((0.5, 0.999), "of the critic's Adam", low=0, high=1 - 1e-9)
    critic_init: str = option("torch", "initial weights, see `SaganDiscriminator`", choices=("torch", "he"))
    n_critic: int = option(2, "critic updates for each generator update", low=1)
    lambda_id: float = option(1.0, "weight of the identity loss", low=0, high=1e9)
    lambda_gp: float = option(10.0, "weight of the gradient penalty", low=0, high=1e9)


class Brainomaly(Method):
    """Restored unlabeled images pass for normal ones, normal images stay as they are; there are no pseudo-anomalies."""

    title = "Brainomaly"
    Options = BrainomalyOptions
    presets = {
        "paper": {},
        "recommended": RECOMMENDED,
        "quick": RECOMMENDED
        | {
            **{"channels": 8, "num_res_blocks": 2, "batch_size": 16, "max_iterations": 900, "iterations_per_epoch": 75},
            **{"learning_rate": 5e-4, "ema_decay": 0.99},
        },
    }
    streams = ("normal", "unlabeled")

    def check(self, settings: BrainomalyOptions) -> None:
        """Sides must be multiples of 4."""
        if any(side % 4 for side in settings.image_size):
            height, width = settings.image_size
            raise SaganError(f"image_size is {height} x {width}; brainomaly takes sides that 4 divides")

    def network(self, settings: BrainomalyOptions) -> PlainGenerator:
        """The generator."""
        return PlainGenerator(settings.in_channels, settings.channels, settings.num_res_blocks)

    def detect(self, network: nn.Module, image: Tensor) -> Detection:
        """The difference between image and restored image."""
        return detect_by_restoration(network, image)

    def stages(self, network: nn.Module, settings: BrainomalyOptions, computing: Computing) -> Sequence[GanStage]:
        """Generator and critic, trained together."""
        return [make_gan_stage(network, settings, computing, lambda_rec=None)]
