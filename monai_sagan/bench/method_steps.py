"""Training steps of any method on random images, stage by stage, to be timed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from monai_sagan.bench.counts import count
from monai_sagan.data.batches import TrainingBatches
from monai_sagan.engines import StagedTrainer
from monai_sagan.engines.stages import make_stages
from monai_sagan.methods import find_method, make_network, resolve_settings
from monai_sagan.models.device import network_on
from monai_sagan.settings import Settings

IMAGES = 256  # normal ones, and as many unlabeled ones, or two batches where that is more


@dataclass(frozen=True)
class MethodSize:
    """A stage of a method's training at a preset, as a workload.

    Args:
        method: its name.
        preset: of the method.
        stage: its place, from 0.
        engine: ``"eager"`` or ``"compiled"``.
        amp: in bfloat16.
        values: options in place of the preset's.
    """

    method: str
    preset: str = "recommended"
    stage: int = 0
    engine: str = "eager"
    amp: bool = False
    values: Mapping[str, Any] = field(default_factory=dict)

    def settings(self) -> Settings:
        """All options of the run."""
        found: Settings = resolve_settings(self.preset, self.method, **self.values)
        return found


class MethodSteps:
    """The stages of a method with a trainer, images and all that a run has, but no handlers."""

    def __init__(self, settings: Settings, device: str, engine: str = "eager", amp: bool = False) -> None:
        torch.manual_seed(0)
        network = network_on(make_network(settings), device)
        self.stages = make_stages(network, settings, device, amp, engine)
        draw = torch.Generator().manual_seed(0)
        images = max(2 * settings.batch_size, IMAGES)
        shape = (2 * images, settings.in_channels, *settings.image_size)
        pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=draw)
        self.batches = TrainingBatches(
            pixels[:images],
            pixels[images:],
            settings.batch_size,
            settings.iterations_per_epoch,
            device=device,
            augment=settings.augment,
            paired=settings.paired,
            streams=find_method(settings.method).streams,
        )
        self.trainer = StagedTrainer(device, settings.epochs, self.batches, self.stages, engine=engine)
        self.trainer.state.epoch_length = self.length = settings.iterations_per_epoch

    def enter(self, stage: int) -> Callable[[], object]:
        """A call that does the next iteration of a stage; the first prepares it."""
        placed, state = self.stages.placed[stage], self.trainer.state
        first, end = placed.first * self.length, placed.end * self.length
        state.iteration = first

        def step() -> object:
            state.iteration = state.iteration + 1 if state.iteration < end else first + 1
            return self.trainer._iteration(self.trainer, self.batches.batch(state.iteration - 1))

        return step


def method_step(size: MethodSize, device: str) -> tuple[Callable[[], object], int]:
    """One iteration of a stage as a call, and its number of images per stream."""
    settings = size.settings()
    steps = MethodSteps(settings, device, size.engine, size.amp)
    for earlier in range(size.stage):
        steps.enter(earlier)()  # a stage builds on those before it
    return steps.enter(size.stage), settings.batch_size


def parameters_and_flop(settings: Settings) -> tuple[int, int]:
    """A network's number of weights, and the floating point operations by which it scores one image."""
    network = make_network(settings).eval()
    image = torch.zeros(1, settings.in_channels, *settings.image_size)
    with torch.no_grad():
        counts = count(lambda: find_method(settings.method).detect(network, image))
    return sum(parameter.numel() for parameter in network.parameters()), counts.flop
