"""What CutPaste, FPI, PII and NSA share: a network learns to find synthetic anomalies in normal images."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from monai.engines.utils import IterationEvents
from monai.utils.enums import CommonKeys as Keys
from torch import Tensor, nn
from torch.nn import functional as F

from monai_sagan.errors import SaganError
from monai_sagan.methods.method import Computing, Detection, EventOutput, Method, Stage
from monai_sagan.methods.updates import descend, draw_uniform, of_all_processes
from monai_sagan.networks.dense_predictor import DensePredictor
from monai_sagan.options import option
from monai_sagan.settings import Settings
from monai_sagan.transforms.synthesis import UNIFORM_NUMBERS, Recipe, synthesize

__all__ = ["SyntheticAnomalies", "SyntheticOptions", "SyntheticStage"]

RECOMMENDED: dict[str, Any] = {
    "image_size": (64, 64),
    "preparation": "display",
    "batch_size": 32,
    "max_iterations": 5000,
    "iterations_per_epoch": 500,
}


@dataclass(frozen=True)
class SyntheticOptions(Settings):
    """Settings of a run that learns from synthetic anomalies; the defaults are those of the published comparison.

    Example:
        >>> SyntheticOptions().learning_rate
        0.001
    """

    image_size: tuple[int, int] = option((224, 224), "height and width, in pixels, multiples of 32", low=64)
    batch_size: int = option(64, "normal images of an iteration", low=1)
    max_iterations: int = option(15_000, "updates of the network", low=1)
    iterations_per_epoch: int = option(60, "updates between validations and checkpoints", low=1)
    learning_rate: float = option(1e-3, "of Adam, at first", low=1e-12, high=1)
    final_learning_rate: float = option(1e-6, "to which it falls, along half a cosine", low=0, high=1)
    augment: bool = option(True, "rotate, scale and shift the training images a little")
    object_level: int = option(
        20, "grey level, of 255, above which a pixel belongs to the body, on which patches lie", low=0, high=254
    )


class SyntheticStage(Stage):
    """Each iteration makes anomalies in a batch of normal images, and a network predicts the labels of their pixels.

    The source of an image's patches is the image before it in the batch.

    Args:
        network: predicts a logit for each pixel of images (B, C, H, W) in [0, 1].
        optimizer: of its parameters.
        recipe: the kind of anomaly.
        computing: where and how to compute.
        object_level: see `synthesize`.
        rates: of learning, at first and at the end; None leaves the optimizer's alone.
        within_step: make anomalies in `step`, so that a GPU replays it with the rest, and not in `draw`, which may use
            shapes that depend on what is drawn; None does so on a GPU.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        recipe: Recipe,
        computing: Computing,
        *,
        object_level: int = 20,
        rates: tuple[float, float] | None = None,
        within_step: bool | None = None,
    ) -> None:
        self.network, self.optimizer = network, optimizer
        self.modules, self.optimizers = {"network": network}, {"optimizer": optimizer}
        self.recipe, self.object_level = recipe, object_level
        self.computing, self.rates = computing, rates
        self.within_step = computing.device.type == "cuda" if within_step is None else within_step
        self._predict = computing.compile(network)

    def learning_rate(self, done: int, total: int, epoch_length: int) -> float | None:
        """Half a cosine from the first rate to the last, a step at each iteration."""
        if self.rates is None:
            return None
        first, last = self.rates
        return last + (first - last) * (1 + math.cos(math.pi * done / total)) / 2

    def draw(self, batch: Mapping[str, Tensor], iteration: int) -> tuple[None, list[Tensor]]:
        """Normal images with synthetic anomalies, and their labels; or all that decides these."""
        normal = batch["normal"]
        inputs = [normal, draw_uniform(normal.new_empty(len(normal), UNIFORM_NUMBERS))]
        return None, inputs if self.within_step else self._synthesize(*inputs)

    def step(self, variant: None, *inputs: Tensor) -> Iterator[EventOutput]:
        """One update of the network."""
        image, label = self._synthesize(*inputs) if self.within_step else inputs
        with self.computing.precision():
            logits = self.computing.inferer((image + 1) / 2, self._predict).float()
        yield IterationEvents.FORWARD_COMPLETED, {Keys.IMAGE: image, Keys.LABEL: label, Keys.PRED: logits.detach()}
        loss = F.binary_cross_entropy_with_logits(logits, label)
        yield IterationEvents.LOSS_COMPLETED, of_all_processes(loss=loss)
        descend(self.optimizer, loss)
        yield IterationEvents.BACKWARD_COMPLETED, {}
        yield IterationEvents.MODEL_COMPLETED, {}

    @torch.no_grad()
    def _synthesize(self, normal: Tensor, uniform: Tensor) -> list[Tensor]:
        fixed = self.within_step or None
        return [*synthesize(normal, None, uniform, self.recipe, self.object_level, fixed=fixed)]


class SyntheticAnomalies(Method):
    """Base of the methods that learn to find synthetic anomalies: a subclass names its title, presets and recipe."""

    Options = SyntheticOptions
    restores = False
    map_words = "probability of a synthetic anomaly"
    streams = ("normal",)
    recipe: ClassVar[Recipe]

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {},
        "recommended": RECOMMENDED,
        "quick": RECOMMENDED | {"batch_size": 16, "max_iterations": 300, "iterations_per_epoch": 50},
    }

    def check(self, settings: Any) -> None:
        """The network halves images five times."""
        if any(side % 32 for side in settings.image_size):
            raise SaganError(f"image_size is {settings.image_size}; 32 must divide both sides, as 64 and 224")

    def network(self, settings: Any) -> DensePredictor:
        """The encoder-decoder that all four share."""
        return DensePredictor(settings.in_channels)

    def detect(self, network: nn.Module, image: Tensor) -> Detection:
        """The probability of each pixel to be part of an anomaly; the score is its mean."""
        return Detection(network((image + 1) / 2).float().sigmoid())

    def stages(self, network: nn.Module, settings: Any, computing: Computing) -> Sequence[SyntheticStage]:
        """One stage, for the whole run."""
        stage = SyntheticStage(
            network,
            torch.optim.Adam(network.parameters(), settings.learning_rate, fused=True),
            self.recipe,
            computing,
            object_level=settings.object_level,
            rates=(settings.learning_rate, settings.final_learning_rate),
        )
        return [stage]
