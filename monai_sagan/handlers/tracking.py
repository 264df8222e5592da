"""What ``--tracking mlflow`` adds to a training, made to fit it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from monai.handlers import MLFlowHandler

from monai_sagan.handlers.tensorboard import scalar_outputs

__all__ = ["tracked"]


def tracked(handlers: Sequence[Any], interval: int = 50) -> list[Any]:
    """The same handlers, but MLflow's log every scalar output of the trainer, each ``interval`` iterations.

    As MONAI adds it, the handler looks for ``loss`` in a list of decollated outputs, at every iteration. `SaganTrainer`
    gives one dictionary, in which ``loss`` appears with the first update of the generator; and writing to a database
    takes longer than an iteration.

    Args:
        handlers: of a trainer, not attached yet.
        interval: iterations between two rows of the log; the first iteration has one, too.
    """

    def due(engine: Any, iteration: int) -> bool:
        return iteration == 1 or iteration % interval == 0

    for handler in handlers:
        if isinstance(handler, MLFlowHandler):
            handler.output_transform = scalar_outputs
            handler.iteration_log = due
    return list(handlers)
