"""Stop a run with a non-finite loss before it overwrites a good checkpoint."""

from __future__ import annotations

from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import Tensor

from monai_sagan.errors import SaganError

__all__ = ["StopOnNonFinite"]

NEVER = float("inf")


class StopOnNonFinite:
    """Stop a trainer when a scalar output is NaN or infinite, naming the output and its first bad iteration.

    Outputs are checked on the device; the host reads the result every ``interval`` iterations and at the end of an
    epoch. Attach it before a handler that saves.

    >>> trainer = Engine(lambda engine, batch: {"loss": torch.tensor(float("nan"))})
    >>> StopOnNonFinite().attach(trainer)
    >>> trainer.run([None])
    Traceback (most recent call last):
    monai_sagan.errors.SaganError: the loss loss is not finite since iteration 1; ...

    Raises:
        SaganError: when the host reads a non-finite value.
    """

    def __init__(self, interval: int = 50) -> None:
        self.interval = interval
        self._first: dict[tuple[str, ...], Tensor] = {}  # the first bad iteration of each of these

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._watch)
        engine.add_event_handler(Events.ITERATION_COMPLETED(every=self.interval), self._look)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._look)

    def _watch(self, engine: Engine) -> None:
        output: dict[str, Any] = engine.state.output  # type: ignore[assignment]
        scalars = {name: x.detach().float() for name, x in output.items() if torch.is_tensor(x) and not x.ndim}
        if not scalars:
            return
        values = torch.stack(list(scalars.values()))
        # torch.where of two numbers would copy them to the device and wait.
        begun = torch.full_like(values, engine.state.iteration).masked_fill_(values.isfinite(), NEVER)
        names = tuple(scalars)
        self._first[names] = torch.minimum(self._first[names], begun) if names in self._first else begun

    def _look(self, engine: Engine) -> None:
        begun: dict[str, float] = {}
        for names, first in self._first.items():
            begun |= {name: min(at, begun.get(name, NEVER)) for name, at in zip(names, first.tolist(), strict=True)}
        name = min(begun, key=lambda key: begun[key], default="")
        if name and begun[name] != NEVER:
            penalized = any("gradient_penalty" in names for names in self._first)
            raise SaganError(
                f"the loss {name} is not finite since iteration {int(begun[name])}; the last good checkpoint is kept; "
                f"lower learning_rate{' or raise lambda_gp' * penalized} and start with another output_dir"
            )
