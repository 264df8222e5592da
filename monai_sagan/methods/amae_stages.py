"""The three stages of AMAE-style training, see `monai_sagan.methods.amae`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from monai.engines.utils import IterationEvents
from monai.utils.enums import CommonKeys as Keys
from torch import Tensor
from torch.nn import functional as F

from monai_sagan.data.batches import EvaluationBatches, TrainingBatches
from monai_sagan.methods.amae_network import PairedAutoencoders, visible
from monai_sagan.methods.method import Computing, EventOutput, Stage
from monai_sagan.methods.updates import descend, draw_uniform, of_all_processes
from monai_sagan.networks.mae_weights import load_mae_weights
from monai_sagan.networks.masked_autoencoder import MaskedAutoencoder

__all__ = ["Adaptation", "Classifying", "Pretraining"]


class _MaeStage(Stage):
    """What pretraining and adaptation share: random masks, the loss of hidden pixels, and the learning rate."""

    def __init__(self, network: PairedAutoencoders, settings: Any, computing: Computing, rate: float) -> None:
        self.network, self.settings, self.computing, self.rate = network, settings, computing, rate
        self._pretrained = computing.compile(network.pretrained)

    def optimizer_of(self, *networks: MaskedAutoencoder) -> torch.optim.Optimizer:
        """AdamW of all parameters of some autoencoders, which leaves biases and norms undecayed."""
        parameters = [parameter for network in networks for parameter in network.parameters()]
        groups = [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": 0.05},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, self.rate, (0.9, 0.95), fused=True)

    def learning_rate(self, done: int, total: int, epoch_length: int) -> float:
        """Linearly up in the first 5 % of the stage, then down along a cosine."""
        place, warm_up = (done + 1) / total, 0.05
        if place < warm_up:
            return self.rate * place / warm_up
        return self.rate * (1 + math.cos(math.pi * (place - warm_up) / (1 - warm_up))) / 2 + 1e-3 * self.rate

    def draw(self, batch: Mapping[str, Tensor], iteration: int) -> tuple[None, list[Tensor]]:
        """Normal and unlabeled images, and the patches that stay visible in each."""
        images = [batch["normal"], batch["unlabeled"]]
        patches = self.network.pretrained.patches
        uniform = [draw_uniform(image.new_empty(len(image), patches)) for image in images]
        return None, [*images, visible(torch.cat(uniform), self.settings.mask_ratio)]

    def errors(self, code: Any, image: Tensor, kept: Tensor) -> Tensor:
        """Mean squared error (B,) of the hidden pixels of images (B, C, H, W) in [-1, 1]."""
        with self.computing.precision():
            restored: Tensor = self.computing.inferer(image, code, kept=kept).float()
        hidden = self.network.pretrained.hidden(kept)
        return ((restored - image).square().mean(1, keepdim=True) * hidden).sum((1, 2, 3)) / hidden.sum((1, 2, 3))


class Pretraining(_MaeStage):
    """Stage 0: one masked autoencoder of normal and unlabeled images."""

    name = "pretraining"

    def __init__(self, network: PairedAutoencoders, settings: Any, computing: Computing) -> None:
        super().__init__(network, settings, computing, settings.learning_rate)
        self.share = settings.pretraining_share
        self.modules = {"pretrained": network.pretrained}
        self.optimizers = {"pretraining_optimizer": self.optimizer_of(network.pretrained)}

    def begin(self, batches: TrainingBatches) -> None:
        """Load published weights where there are some."""
        if self.settings.weights is not None:
            load_mae_weights(self.network.pretrained, self.settings.weights)

    def step(self, variant: None, *inputs: Tensor) -> Iterator[EventOutput]:
        """One update on given images and masks."""
        normal, unlabeled, kept = inputs
        loss = self.errors(self._pretrained, torch.cat([normal, unlabeled]), kept).mean()
        yield from _update(self.optimizers["pretraining_optimizer"], loss)


class Classifying(Stage):
    """Stage 1: a linear classifier of frozen features, normal images against synthetic anomalies."""

    name = "classifier"

    def __init__(self, network: PairedAutoencoders, settings: Any, computing: Computing) -> None:
        self.network, self.computing = network, computing
        self.share = settings.classifier_share
        self.modules = {"classifier": network.classifier}
        optimizer = torch.optim.Adam(network.classifier.parameters(), settings.head_rate, fused=True)
        self.optimizers = {"classifier_optimizer": optimizer}

    def draw(self, batch: Mapping[str, Tensor], iteration: int) -> tuple[None, list[Tensor]]:
        """Normal images, and the same with squares of other normal ones, as the data stream makes them."""
        return None, [batch["normal"], batch["pseudo"]]

    def step(self, variant: None, *inputs: Tensor) -> Iterator[EventOutput]:
        """One update on given images."""
        with torch.no_grad(), self.computing.precision():
            features = self.network.pretrained.features(torch.cat(inputs)).float()
        normal, pseudo = self.network.classifier(features).chunk(2)
        loss = (F.softplus(normal).mean() + F.softplus(-pseudo).mean()) / 2
        yield from _update(self.optimizers["classifier_optimizer"], loss)


class Adaptation(_MaeStage):
    """Stage 2: two copies of the autoencoder, one for normal and one for abnormal images, by pseudo-labels."""

    name = "adaptation"

    def __init__(self, network: PairedAutoencoders, settings: Any, computing: Computing) -> None:
        super().__init__(network, settings, computing, settings.learning_rate / 10)
        self.share = 1 - settings.pretraining_share - settings.classifier_share
        # The classifier is not trained here: it is listed for the thresholds that `begin` leaves in it.
        self.modules = {name: getattr(network, name) for name in ("normative", "abnormal", "classifier")}
        self.optimizers = {"optimizer": self.optimizer_of(network.normative, network.abnormal)}
        self._normative, self._abnormal = computing.compile(network.normative), computing.compile(network.abnormal)

    @torch.no_grad()
    def begin(self, batches: TrainingBatches) -> None:
        """Copy the autoencoder twice, and find the thresholds of the pseudo-labels."""
        network, state = self.network, self.network.pretrained.state_dict()
        network.normative.load_state_dict(state)
        network.abnormal.load_state_dict(state)
        assert batches.unlabeled is not None  # one of the method's streams
        images = EvaluationBatches(batches.unlabeled, batch_size=batches.batch_size)
        logits = torch.cat([self._judge(batch["image"].to(batches.device)) for batch in images])
        network.classifier.low.copy_(logits.quantile(self.settings.pseudo_share))
        network.classifier.high.copy_(logits.quantile(1 - self.settings.pseudo_share))

    @torch.no_grad()
    def _judge(self, image: Tensor) -> Tensor:
        with self.computing.precision():
            features = self.network.pretrained.features(image).float()
        logits: Tensor = self.network.classifier(features)
        return logits

    def step(self, variant: None, *inputs: Tensor) -> Iterator[EventOutput]:
        """One update on given images and masks."""
        normal, unlabeled, kept = inputs
        logits, classifier = self._judge(unlabeled), self.network.classifier
        below, above = (logits <= classifier.low).float(), (logits >= classifier.high).float()
        weights = torch.cat([torch.ones_like(below), below])
        normative = self.errors(self._normative, torch.cat([normal, unlabeled]), kept)
        abnormal = self.errors(self._abnormal, unlabeled, kept[len(normal) :])
        terms = {
            "normative": (normative * weights).sum() / weights.sum(),
            "abnormal": (abnormal * above).sum() / above.sum().clamp(min=1),
        }
        yield from _update(self.optimizers["optimizer"], terms["normative"] + terms["abnormal"], **terms)


def _update(optimizer: torch.optim.Optimizer, loss: Tensor, **terms: Tensor) -> Iterator[EventOutput]:
    """One step down a loss, with MONAI's events."""
    shown = of_all_processes(loss=loss, **terms)
    yield IterationEvents.LOSS_COMPLETED, {Keys.LOSS: shown.pop("loss")}
    descend(optimizer, loss)
    yield IterationEvents.BACKWARD_COMPLETED, {}
    yield IterationEvents.MODEL_COMPLETED, shown
