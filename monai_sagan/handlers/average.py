"""Exponential moving average of the network's weights."""

from __future__ import annotations

from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

__all__ = ["AverageWeights"]


class AverageWeights:
    """Keep an exponential moving average of a network's weights during training.

    The attribute ``network`` is the averaged network, or with ``decay`` 0 the trained one itself.

    >>> trained = nn.Linear(1, 1)
    >>> average = AverageWeights(trained, decay=0.9)
    >>> trainer = Engine(lambda engine, batch: nn.init.zeros_(trained.weight))
    >>> average.attach(trainer)
    >>> trainer.run([None], max_epochs=1).iteration, average.network.weight.item()
    (1, 0.0)

    Args:
        network: the trained one.
        decay: share of the old average kept at each update, in [0, 1); 0 is off.
        interval: iterations between updates.
        start: epochs before the first update, which copies the weights.
    """

    def __init__(self, network: nn.Module, decay: float, interval: int = 1, start: int = 0) -> None:
        self._trained = network
        self._mean = get_ema_multi_avg_fn(decay)
        self._average = AveragedModel(network, multi_avg_fn=self._mean) if decay else None
        self.network: nn.Module = network if self._average is None else self._average.module
        self.interval = interval
        self.start = start

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer."""
        if self._average is not None:
            engine.add_event_handler(Events.ITERATION_COMPLETED(every=self.interval), self._update, self._average)

    @torch.no_grad()
    def _update(self, engine: Engine, average: AveragedModel) -> None:
        if engine.state.epoch <= self.start:
            return
        if average.n_averaged == 0:
            average.update_parameters(self._trained)
            return
        # Like AveragedModel, but without its counter on the GPU, which would make the host wait.
        self._mean(list(average.module.parameters()), list(self._trained.parameters()), average.n_averaged)
        for mine, trained in zip(average.module.buffers(), self._trained.buffers(), strict=True):
            mine.copy_(trained)
        average.n_averaged += 1

    def state_dict(self) -> dict[str, Any]:
        """The averaged weights, for a checkpoint; empty without an average."""
        return {} if self._average is None else self._average.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state from `state_dict`."""
        if self._average is not None:
            self._average.load_state_dict(state)
