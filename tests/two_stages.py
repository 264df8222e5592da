"""A method of two stages, small enough to follow by hand: mean and spread of normals, then a scale that is trained."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from monai.engines.utils import IterationEvents
from torch import nn

from monai_sagan.methods import Detection, Method, Stage
from monai_sagan.methods.updates import descend
from monai_sagan.options import option
from monai_sagan.settings import Settings


class Network(nn.Module):
    """How far a pixel is from the normals' mean, in a learned unit."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.Conv2d(1, 1, 1)
        self.scale = nn.Linear(1, 1)
        self.register_buffer("seen", torch.zeros(()))


class Mean(Stage):
    name, share = "mean", 0.25

    def __init__(self, network, rate):
        self.network = network
        self.modules = {"mean": network.mean}
        self.optimizers = {"mean_optimizer": torch.optim.Adam(network.mean.parameters(), rate)}

    def draw(self, batch, iteration):
        return "noisy", [batch["normal"], torch.rand_like(batch["normal"])]

    def step(self, variant, normal, noise):
        loss = (self.network.mean(normal + 0.1 * noise) - normal).square().mean()
        descend(self.optimizers["mean_optimizer"], loss)
        yield IterationEvents.MODEL_COMPLETED, {"loss": loss.detach()}


class Scale(Stage):
    name, share = "scale", 0.75

    def __init__(self, network, rate):
        self.network, self.rate = network, rate
        self.modules = {"network": network}
        self.optimizers = {"optimizer": torch.optim.Adam(network.scale.parameters(), rate)}

    def begin(self, batches):
        self.network.seen.fill_(float(batches.normal[:4].float().mean()) + float(torch.rand(())))

    def learning_rate(self, done, total, epoch_length):
        return self.rate * (1 - done / total)

    def draw(self, batch, iteration):
        return iteration % 2, [batch["normal"], torch.rand(len(batch["normal"]), 1)]

    def step(self, variant, normal, noise):
        distance = (self.network.mean(normal) - normal).abs().mean((1, 2, 3))[:, None]
        loss = (self.network.scale(distance + noise) - self.network.seen / 255 - variant).square().mean()
        descend(self.optimizers["optimizer"], loss)
        yield IterationEvents.MODEL_COMPLETED, {"loss": loss.detach()}


@dataclass(frozen=True)
class Options(Settings):
    """The rate of the second stage."""

    second_rate: float = option(0.01, "learning rate of the second stage", low=1e-9, high=1)


class TwoStages(Method):
    """Maps the distance to a mean that the first stage learns."""

    title = "two stages"
    Options = Options
    presets = {"paper": {}, "recommended": {}, "quick": {}}
    streams = ("normal",)
    stages_count = 2

    def network(self, settings):
        return Network()

    def detect(self, network, image):
        distance = (network.mean(image) - image).abs()
        return Detection(distance, network.scale(distance.mean((2, 3)))[:, 0])

    def stages(self, network, settings, computing):
        return [Mean(network, settings.learning_rate), Scale(network, settings.second_rate)]
