"""The learning rate's fall towards the end of a run."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from ignite.engine import Engine, Events

__all__ = ["LinearDecay"]


class LinearDecay:
    """Lower the learning rate linearly to 0 over the last part of a run, at the start of each epoch.

    A function of the epoch alone, so that there is nothing to save: it holds after a resume.

    Args:
        optimizers: whose learning rate falls, all from ``learning_rate``.
        learning_rate: until then.
        share: of the run, at its end, in [0, 1]; 0 keeps the rate constant.
    """

    def __init__(self, optimizers: Sequence[torch.optim.Optimizer], learning_rate: float, share: float) -> None:
        self.optimizers = list(optimizers)
        self.learning_rate = learning_rate
        self.share = share

    def attach(self, engine: Engine) -> None:
        """Set the rates at the start of each epoch of ``engine``, the trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        done = (engine.state.epoch - 1) / (engine.state.max_epochs or 1)
        factor = min(1.0, (1 - done) / self.share) if self.share else 1.0
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.learning_rate * factor
