"""Stopping a run whose loss is no number any more, before it overwrites a good checkpoint."""

from __future__ import annotations

from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import Tensor

from monai_sagan.errors import SaganError

__all__ = ["StopOnNonFinite"]


class StopOnNonFinite:
    """Stop a trainer when one of its scalar outputs is NaN or infinite; name it and the iteration it began at.

    The outputs are watched on the device; the host looks every ``interval`` iterations and at the end of an epoch, so
    nothing waits in between. Attach it before a handler that saves.

    Args:
        interval: iterations between looks.

    Raises:
        SaganError: at such a look.
    """

    def __init__(self, interval: int = 50) -> None:
        self.interval = interval
        self._first: dict[str, Tensor] = {}

    def attach(self, engine: Engine) -> None:
        """Watch ``engine``, the trainer, and look each ``interval`` iterations and at the end of an epoch."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._watch)
        engine.add_event_handler(Events.ITERATION_COMPLETED(every=self.interval), self._look)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._look)

    def _watch(self, engine: Engine) -> None:
        output: dict[str, Any] = engine.state.output  # type: ignore[assignment]
        never = float("inf")
        for name, value in output.items():
            if not torch.is_tensor(value) or value.ndim:
                continue
            if name not in self._first:
                self._first[name] = torch.full((), never, device=value.device)
            begun = torch.where(value.isfinite(), never, float(engine.state.iteration))
            self._first[name] = torch.minimum(self._first[name], begun)

    def _look(self, engine: Engine) -> None:
        begun = {name: float(first) for name, first in self._first.items()}
        name = min(begun, key=lambda key: begun[key], default="")
        if name and begun[name] != float("inf"):
            raise SaganError(
                f"the loss {name} is not finite since iteration {int(begun[name])}; the last good checkpoint is kept; "
                f"lower learning_rate or raise lambda_gp and start with another output_dir"
            )
