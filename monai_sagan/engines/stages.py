"""The stages of a run, their epochs, and their state in a checkpoint."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from monai.inferers import Inferer, SimpleInferer
from torch import nn

from monai_sagan.engines.compiled import compile_for
from monai_sagan.errors import SaganError
from monai_sagan.methods import find_method
from monai_sagan.methods.method import Computing, Stage
from monai_sagan.settings import Settings

__all__ = ["make_stages"]


class Placed(NamedTuple):
    """A stage in its run.

    Args:
        stage: of a method.
        first: epochs of the run before it.
        end: epochs of the run at its end.
    """

    stage: Stage
    first: int
    end: int


class Stages:
    """The stages of a run of ``epochs`` epochs, in order, each at least one epoch long.

    Raises:
        SaganError: when there are fewer epochs than stages.
    """

    def __init__(self, stages: Sequence[Stage], epochs: int) -> None:
        if epochs < len(stages):
            raise SaganError(
                f"the run has {epochs} epochs for {len(stages)} stages ({', '.join(s.name for s in stages)}); raise "
                f"max_iterations or lower iterations_per_epoch"
            )
        self.placed: list[Placed] = []
        left, weight, first = epochs, sum(stage.share for stage in stages), 0
        for i, stage in enumerate(stages):
            after = len(stages) - 1 - i
            length = min(max(round(left * stage.share / weight), 1), left - after) if after else left
            self.placed.append(Placed(stage, first, first + length))
            first, left, weight = first + length, left - length, weight - stage.share

    def __iter__(self) -> Iterator[Stage]:
        return (placed.stage for placed in self.placed)

    def at(self, epoch: int) -> Placed:
        """The stage of an epoch, counted from 1."""
        return next((placed for placed in self.placed if epoch <= placed.end), self.placed[-1])

    @property
    def epochs_before_last(self) -> int:
        """Epochs before the last stage, which are not validated."""
        return self.placed[-1].first

    @property
    def update_interval(self) -> int:
        """Iterations between updates of the validated network in the last stage."""
        return self.placed[-1].stage.update_interval

    def states(self) -> dict[str, Any]:
        """Collect the modules and optimizers of all stages by name, for a checkpoint.

        Raises:
            ValueError: when two different objects have one name.
        """
        found: dict[str, Any] = {}
        for stage in self:
            for name, thing in [*stage.modules.items(), *stage.optimizers.items()]:
                if found.setdefault(name, thing) is not thing:
                    raise ValueError(f"two stages have different objects of the name {name!r}")
        return found

    def plan(self) -> dict[str, Any]:
        """Last epochs of the stages, which a resumed run must share; empty for a single stage."""
        ends = {placed.stage.name: placed.end for placed in self.placed[:-1]}
        return {"stages": ends} if ends else {}


def checkpoint_objects(stages: Stages, **others: Any) -> dict[str, Any]:
    """Collect the objects of a checkpoint by name: modules and optimizers of all stages, and ``others``."""
    return stages.states() | others


def make_stages(
    network: nn.Module,
    settings: Settings,
    device: str | torch.device = "cpu",
    amp: bool = False,
    engine: str = "eager",
    inferer: Inferer | None = None,
) -> Stages:
    """Build the stages that train a network of the method that the settings name.

    >>> from monai_sagan.methods import resolve_settings
    >>> settings = resolve_settings("paper", channels=4, num_res_blocks=1)
    >>> stages = make_stages(find_method("sagan").network(settings), settings)
    >>> [(stage.name, list(stage.modules)) for stage in stages]
    [('train', ['network', 'discriminator'])]

    Args:
        network: built by the method.
        settings: of the run.
        device: where to train.
        amp: run networks in bfloat16.
        engine: ``"eager"`` or ``"compiled"``.
        inferer: calls networks on images; None calls them directly.
    """
    device = torch.device(device)
    computing = Computing(device, amp, partial(compile_for, engine, device=device), inferer or SimpleInferer())
    return Stages(find_method(settings.method).stages(network, settings, computing), settings.epochs)
