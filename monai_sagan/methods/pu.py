"""PU: a classifier of normal against unlabeled images, the row that every other method has to beat.

It is not in SAGAN's paper. Unlabeled images are a mixture of normal and abnormal ones, so the optimal classifier's
logit grows with the probability of being abnormal: no share of normal images is needed to rank images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from monai.engines.utils import IterationEvents
from monai.utils.enums import CommonKeys as Keys
from torch import Tensor, nn
from torch.nn import functional as F

from monai_sagan.methods.method import Computing, Detection, EventOutput, Method, Stage
from monai_sagan.methods.updates import average_statistics, descend, draw_uniform, of_all_processes
from monai_sagan.networks.classifier import LocationClassifier
from monai_sagan.options import option
from monai_sagan.settings import Settings

__all__ = ["Pu", "PuOptions", "PuStage", "logistic_loss", "nnpu_loss", "vpu_loss"]

MIXUP = 0.3  # both parameters of the Beta distribution that mixing weights come from, as in VPU's published code
WARM_UP = 0.3  # share of the run in which the learning rate rises, as in torch's OneCycleLR

RECOMMENDED: dict[str, Any] = {
    "preparation": "display",
    "batch_size": 32,
    "max_iterations": 80,
    "iterations_per_epoch": 4,
    "ema_decay": 0.9,
}


@dataclass(frozen=True)
class PuOptions(Settings):
    """Settings of a PU run; there is no paper, the defaults are ours."""

    batch_size: int = option(64, "images of each stream in an iteration", low=1)
    max_iterations: int = option(280, "updates", low=1)
    iterations_per_epoch: int = option(14, "updates between validations and checkpoints", low=1)
    learning_rate: float = option(2e-3, "of AdamW, at its highest", low=1e-12, high=1)
    augment: bool = option(True, "rotate, scale and shift the training images a little")
    channels: int = option(16, "width of the first of four levels; each further one has twice that", low=1)
    dropout: float = option(0.3, "share of the last features that is dropped while training", low=0, high=1 - 1e-9)
    brightness: float = option(0.2, "greatest change of a training image's brightness, of [-1, 1]", low=0, high=2)
    weight_decay: float = option(0.01, "of AdamW", low=0, high=1)
    loss: str = option("logistic", "normal against unlabeled, or one for PU data", choices=("logistic", "vpu", "nnpu"))
    normal_fraction: float = option(
        0.4, "share of normal images among the unlabeled ones; for nnpu only; 0.4 fits anomaly_ratio 0.6", low=0, high=1
    )
    mixup_weight: float = option(0.03, "weight of the MixUp term; for vpu only", low=0, high=1e3)


def logistic_loss(normal: Tensor, unlabeled: Tensor) -> Tensor:
    """Binary cross-entropy of the logits (B,) of normal against unlabeled images, each half with equal weight."""
    return (F.softplus(normal).mean() + F.softplus(-unlabeled).mean()) / 2


def nnpu_loss(normal: Tensor, unlabeled: Tensor, normal_fraction: float) -> Tensor:
    """Non-negative PU risk with the sigmoid loss of logits (B,), a scalar (https://arxiv.org/abs/1703.00593).

    Where the estimated risk of abnormal images is negative, a sign of overfitting, a step raises that estimate alone.

    Args:
        normal: logits of being abnormal, of normal images.
        unlabeled: the same of unlabeled images.
        normal_fraction: share of normal images among the unlabeled ones.
    """
    of_normal = normal_fraction * torch.sigmoid(normal).mean()
    of_abnormal = torch.sigmoid(-unlabeled).mean() - normal_fraction * torch.sigmoid(-normal).mean()
    return torch.where(of_abnormal < 0, -of_abnormal, of_normal + of_abnormal)


def vpu_loss(normal: Tensor, unlabeled: Tensor, mixed: Tensor, weight: Tensor, mixup_weight: float = 0.03) -> Tensor:
    """Variational PU loss of logits (B,), a scalar, with its MixUp term (https://arxiv.org/abs/1906.00642).

    Args:
        normal: logits of being abnormal, of normal images.
        unlabeled: the same of unlabeled images.
        mixed: likewise, of ``weight * unlabeled image + (1 - weight) * normal image``.
        weight: (), in [0, 1].
        mixup_weight: of the MixUp term.
    """
    log_unlabeled = F.logsigmoid(-unlabeled)  # logarithms of the probability of being normal
    variational = log_unlabeled.logsumexp(0) - math.log(len(unlabeled)) - F.logsigmoid(-normal).mean()
    target = weight * log_unlabeled.exp() + (1 - weight)
    # The logarithm's gradient is infinite at 0, where a target may be when the weight is 1.
    consistency = (target.clamp(min=1e-6).log() - F.logsigmoid(-mixed)).square().mean()
    return variational + mixup_weight * consistency


class PuStage(Stage):
    """One update of a classifier in each iteration.

    Args:
        network: gives logits (B, 1, h, w) of images and, where it is given ``uniform`` (B, width), drops features.
        optimizer: of its parameters.
        computing: where and how to compute.
        settings: of the run.
    """

    def __init__(
        self, network: LocationClassifier, optimizer: torch.optim.Optimizer, computing: Computing, settings: PuOptions
    ) -> None:
        self.network, self.optimizer = network, optimizer
        self.modules = {"network": network}
        self.optimizers = {"optimizer": optimizer}
        self.computing, self.settings = computing, settings
        self._classify: Callable[..., Tensor] = computing.compile(network)

    def learning_rate(self, done: int, total: int, epoch_length: int) -> float:
        """One cycle: from a 25th up along a cosine, and down along a cosine."""
        top, place = self.settings.learning_rate, done / total
        if place < WARM_UP:
            return top * (1 - 0.96 * (1 + math.cos(math.pi * place / WARM_UP)) / 2)
        return top * (1 + math.cos(math.pi * (place - WARM_UP) / (1 - WARM_UP))) / 2

    def draw(self, batch: Mapping[str, Tensor], iteration: int) -> tuple[None, list[Tensor]]:
        """The images, their change of brightness, which features they keep; for VPU the mixing weight, too."""
        images = [batch["normal"], batch["unlabeled"]]
        streams = [*images, images[0]] if self.settings.loss == "vpu" else images
        brightness = [draw_uniform(image[:, :1, :1, :1]) for image in images]
        keep = [draw_uniform(image.new_empty(len(image), self.network.width)) for image in streams]
        shape = images[0].new_tensor(MIXUP)
        weight = [torch.distributions.Beta(shape, shape).sample()] if self.settings.loss == "vpu" else []
        return None, [*images, torch.cat(brightness), torch.cat(keep), *weight]

    def step(self, variant: None, *inputs: Tensor) -> Iterator[EventOutput]:
        """One iteration on given images and draws."""
        normal, unlabeled, brightness, keep, *weight = inputs
        images = torch.cat([normal, unlabeled]) + self.settings.brightness * (2 * brightness - 1)
        yield IterationEvents.FORWARD_COMPLETED, {Keys.IMAGE: images}
        logits = list(self._logits(images, keep[: len(images)]).chunk(2))
        if weight:
            clean, mixed_in = images.chunk(2)
            mixed = torch.lerp(clean, mixed_in, weight[0])
            logits += [self._logits(mixed, keep[len(images) :])]
        loss = self._loss(*logits, *weight)
        shown = of_all_processes(loss=loss, separation=logits[1].mean() - logits[0].mean())
        yield IterationEvents.LOSS_COMPLETED, {Keys.LOSS: shown.pop("loss")}
        descend(self.optimizer, loss)
        average_statistics(self.network)
        yield IterationEvents.BACKWARD_COMPLETED, {}
        yield IterationEvents.MODEL_COMPLETED, shown

    def _logits(self, images: Tensor, keep: Tensor) -> Tensor:
        with self.computing.precision():
            found: Tensor = self.computing.inferer(images, self._classify, uniform=keep)
        return found.float().mean((1, 2, 3))

    def _loss(self, *parts: Tensor) -> Tensor:
        settings, (normal, unlabeled, *mixture) = self.settings, parts
        if settings.loss == "nnpu":
            return nnpu_loss(normal, unlabeled, settings.normal_fraction)
        if settings.loss == "vpu":
            mixed, weight = mixture
            return vpu_loss(normal, unlabeled, mixed, weight, settings.mixup_weight)
        return logistic_loss(normal, unlabeled)


class Pu(Method):
    """A classifier of normal against unlabeled images: its logit is the score, those of locations make the map."""

    title = "PU classifier"
    Options = PuOptions
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {},  # there is no paper: the recipe that was tried first
        # Steadier with a few hundred images; with thousands raise max_iterations, and iterations_per_epoch with it.
        "recommended": RECOMMENDED,
        "quick": RECOMMENDED,
    }
    streams = ("normal", "unlabeled")

    def network(self, settings: PuOptions) -> LocationClassifier:
        """The classifier."""
        return LocationClassifier(settings.in_channels, settings.channels, settings.dropout)

    def detect(self, network: nn.Module, image: Tensor) -> Detection:
        """The mean logit of being abnormal, and the probability at each location, interpolated to the image's size."""
        logits = network(image).float()
        of_pixels = F.interpolate(logits, image.shape[-2:], mode="bilinear", align_corners=False)
        return Detection(of_pixels.sigmoid(), logits.mean((1, 2, 3)))

    def stages(self, network: Any, settings: PuOptions, computing: Computing) -> Sequence[PuStage]:
        """The one stage, with AdamW."""
        optimizer = torch.optim.AdamW(
            network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )
        return [PuStage(network, optimizer, computing, settings)]
