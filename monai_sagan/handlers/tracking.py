"""MLflow logging for ``--tracking mlflow``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from monai.handlers import MLFlowHandler

from monai_sagan import run_files
from monai_sagan.handlers.history import History


def tracked(handlers: Sequence[Any], output_dir: str | Path) -> list[Any]:
    """Flatten a list of handlers, and make MLflow's log the rows of ``history.csv``, the settings and the config files.

    MONAI's own look for ``loss`` in a list of decollated outputs at every iteration; here the output is a dictionary,
    and writing to a database takes longer than an iteration.

    Args:
        handlers: not attached yet, alone or in lists; None is skipped.
        output_dir: of the run, for its ``config.json``.
    """
    parts = (part if isinstance(part, list) else [part] for part in handlers)
    handlers = [handler for part in parts for handler in part if handler is not None]
    histories = [handler for handler in handlers if isinstance(handler, History)]
    more: list[Any] = []
    for handler in handlers:
        if isinstance(handler, MLFlowHandler):
            handler.iteration_log = handler.epoch_log = False
            for history in histories:
                config = Path(output_dir) / run_files.CONFIG
                handler.artifacts = (*map(_as_path, handler.artifacts), str(config))
                logged = _Log(handler, config)
                history.listeners.append(logged.row)
                more.append(logged)
    return [*handlers, *more]


class _Log:
    """Log rows, and those values of a ``config.json`` that MLflow's run lacks: MLflow refuses to change a value.

    The handler's ``experiment_param`` would fail when a resumed run is longer than first planned.
    """

    def __init__(self, handler: MLFlowHandler, config: Path) -> None:
        self.handler, self.config = handler, config

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self._settings)

    def _settings(self) -> None:
        run: Any = self.handler.cur_run
        values = json.loads(self.config.read_text(encoding="utf-8"))
        for name in values.keys() - self.handler.client.get_run(run.info.run_id).data.params.keys():
            self.handler.client.log_param(run.info.run_id, name, values[name])

    def row(self, iteration: int, values: dict[str, float]) -> None:
        """Log the ``values`` of an ``iteration``."""
        run: Any = self.handler.cur_run
        for name, value in values.items():
            self.handler.client.log_metric(run.info.run_id, name, value, step=iteration)


def _as_path(artifact: Any) -> Any:
    """The path of the executed config, which MONAI gives as an unevaluated expression."""
    return artifact.replace(" + '", "").removesuffix("'") if isinstance(artifact, str) else artifact
