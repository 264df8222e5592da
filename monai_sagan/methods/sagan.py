"""SAGAN: restores images by a spatial-aware attention GAN (https://arxiv.org/abs/2405.12872)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from monai_sagan.errors import SaganError
from monai_sagan.methods.gan import GanStage, make_gan_stage
from monai_sagan.methods.method import Computing, Detection, Method
from monai_sagan.networks import SaganGenerator
from monai_sagan.networks.patches import check_grid
from monai_sagan.options import option
from monai_sagan.settings import Settings
from monai_sagan.transforms.functional import anomaly_map

RECOMMENDED: dict[str, Any] = {
    "preparation": "display",
    "learning_rate": 2e-4,
    "learning_rate_decay": 0.0,
    "critic_betas": (0.5, 0.99),
    "critic_init": "he",
    "lambda_id": 10.0,
    "lambda_rec": 10.0,
    "augment": True,
    "map_smoothing": "gaussian",
}
QUICK = {  # minutes on two CPU cores
    "output": "sum",
    "channels": 8,
    "num_res_blocks": 2,
    "batch_size": 16,
    "max_iterations": 900,
    "iterations_per_epoch": 75,
    "learning_rate": 5e-4,
    "ema_decay": 0.99,
}


@dataclass(frozen=True)
class SaganOptions(Settings):
    """Settings of a SAGAN run.

    The defaults are the paper's. Where it is silent the values are those of its published code; docs/differences.md
    lists each difference.

    Example:
        >>> SaganOptions(channels=8).generator()["channels"]
        8
    """

    grid: tuple[int, int] = option((2, 2), "rows and columns of patches", low=1)
    channels: int = option(64, "width of both networks' first level", low=1)
    num_res_blocks: int = option(6, "residual blocks in the generator's bottleneck", low=0, high=1000)
    anatomical_consistency: bool = option(True, "patches and position codes; false is an ablation")
    abnormal_region_restoration: bool = option(True, "gates, skips and fusion; false is an ablation")
    gate_norm: str | None = option(None, "norm in the attention gates, see `AttentionGate`", choices=("instance", None))
    position_norm: str | None = option(
        "instance", "norm behind the position code, see `PositionBlock`", choices=("instance", None)
    )
    position_bits: str = option("ceil", "rounding of the code's bits, see `position_code`", choices=("ceil", "floor"))
    keep_prob: float = option(0.95, "probability that a pixel keeps its restoration while training", low=1e-9, high=1)
    output: str = option(
        "tanh", "restored images: tanh(image + change), or the sum alone, see `SaganGenerator`", choices=("tanh", "sum")
    )
    learning_rate_decay: float = option(
        0.5, "share of the run, at its end, over which the learning rate falls linearly to 0", low=0, high=1
    )
    critic_betas: tuple[float, float] = option(
        (0.5, 0.999),
        "of the critic's Adam; a critic whose gradient has died recovers ten times sooner with a second one of 0.99",
        low=0,
        high=1 - 1e-9,
    )
    critic_init: str = option("torch", "initial weights, see `SaganDiscriminator`", choices=("torch", "he"))
    n_critic: int = option(2, "critic updates for each generator update", low=1)
    lambda_id: float = option(1.0, "weight of the identity loss", low=0, high=1e9)
    lambda_rec: float = option(1.0, "weight of the reconstruction loss", low=0, high=1e9)
    lambda_gp: float = option(10.0, "weight of the gradient penalty", low=0, high=1e9)
    fake_source: str = option(
        "unlabeled",
        "the critic's fakes: pseudo trains without unlabeled images (Table 4, row 0_u)",
        choices=("unlabeled", "pseudo"),
    )
    mask_at_test: bool = option(False, "also report scores with the training mask left on, as the published code tests")

    def generator(self) -> dict[str, Any]:
        """The arguments of `SaganGenerator`."""
        names = (
            *("in_channels", "channels", "num_res_blocks", "grid", "keep_prob", "gate_norm"),
            *("position_norm", "position_bits", "anatomical_consistency", "abnormal_region_restoration"),
            "output",
        )
        return {name: getattr(self, name) for name in names}


def detect_by_restoration(network: nn.Module, image: Tensor) -> Detection:
    """Restore images (B, C, H, W) in [-1, 1]; the map is half the absolute difference."""
    restored = network(image)
    return Detection(anomaly_map(image, restored), None, restored)


class Sagan(Method):
    """Spatial-aware attention GAN: restored unlabeled images pass for normal ones, pseudo-anomalies vanish."""

    title = "SAGAN"
    Options = SaganOptions
    presets = {
        "paper": {},
        "official": {
            "batch_size": 32,
            "gate_norm": "instance",
            "position_bits": "floor",
            "learning_rate_decay": 0.0,
            "paired": True,
            "mask_at_test": True,
        },
        "recommended": RECOMMENDED,
        "quick": RECOMMENDED | QUICK,
    }
    streams = ("normal", "unlabeled", "pseudo")

    def check(self, settings: SaganOptions) -> None:
        """Check that the grid cuts images into patches that fit the network's strides."""
        grid = settings.grid if settings.anatomical_consistency else (1, 1)
        try:
            check_grid(grid, *settings.image_size, stride=8)
        except ValueError as error:
            raise SaganError(str(error)) from None

    def network(self, settings: SaganOptions) -> SaganGenerator:
        """Build the generator."""
        return SaganGenerator(**settings.generator(), checks_range=False)

    def detect(self, network: nn.Module, image: Tensor) -> Detection:
        """Map the difference between image and restored image."""
        return detect_by_restoration(network, image)

    def stages(self, network: nn.Module, settings: SaganOptions, computing: Computing) -> Sequence[GanStage]:
        """Train the generator and the critic together, in a single stage."""
        more = {"lambda_rec": settings.lambda_rec, "fake_source": settings.fake_source}
        return [make_gan_stage(network, settings, computing, decay=settings.learning_rate_decay, **more)]
