"""What ``--tracking mlflow`` adds to a training, made to fit it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from monai.handlers import MLFlowHandler

from monai_sagan.handlers.tensorboard import scalar_outputs

__all__ = ["tracked"]


def tracked(handlers: Sequence[Any], output_dir: str | Path, interval: int = 50) -> list[Any]:
    """The same handlers, but MLflow's log every scalar output of the trainer, its settings and its config files.

    As MONAI adds it, the handler looks for ``loss`` in a list of decollated outputs, at every iteration. `SaganTrainer`
    gives one dictionary, in which ``loss`` appears with the first update of the generator; and writing to a database
    takes longer than an iteration.

    Args:
        handlers: of a trainer, not attached yet.
        output_dir: of the run, whose ``config.json`` tells the settings.
        interval: iterations between two rows of the log; the first iteration has one, too.
    """

    def due(engine: Any, iteration: int) -> bool:
        return iteration == 1 or iteration % interval == 0

    more: list[Any] = []
    for handler in handlers:
        if isinstance(handler, MLFlowHandler):
            config = Path(output_dir) / "config.json"
            handler.output_transform = scalar_outputs
            handler.iteration_log = due
            handler.artifacts = (*map(_as_path, handler.artifacts), str(config))
            more.append(_LogSettings(handler, config))
    return [*handlers, *more]


class _LogSettings:
    """Log the values of a ``config.json`` that MLflow's run has not yet: it refuses others for what it has.

    They are no ``experiment_param`` of the handler, for a resumed run may be longer than it was said to be at first.
    """

    def __init__(self, handler: MLFlowHandler, config: Path) -> None:
        self.handler, self.config = handler, config

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self._log)

    def _log(self) -> None:
        run: Any = self.handler.cur_run
        values = json.loads(self.config.read_text(encoding="utf-8"))
        for name in values.keys() - self.handler.client.get_run(run.info.run_id).data.params.keys():
            self.handler.client.log_param(run.info.run_id, name, values[name])


def _as_path(artifact: Any) -> Any:
    """Where MONAI wrote the executed config: it says so by an expression that nobody evaluates."""
    return artifact.replace(" + '", "").removesuffix("'") if isinstance(artifact, str) else artifact
