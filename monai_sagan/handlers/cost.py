"""What a training run costs: time and memory."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events

from monai_sagan.distributed import is_main
from monai_sagan.engines.memory import peak_memory
from monai_sagan.files import write_text

__all__ = ["TrainingCost"]


class TrainingCost:
    """After each epoch write what the run has cost so far: ``iterations``, ``seconds``, ``peak_bytes``.

    The seconds are those of iterations, validations and checkpoints; a resumed run adds its own. Where a resumed run
    does not find the cost of the earlier part, ``iterations`` counts those that ``seconds`` are of. Memory is that of
    the GPU, or of the process on a CPU. Attach it to a trainer, after the handler that resumes.

    Args:
        path: of the JSON file.

    Example:
        >>> from ignite.engine import Engine
        >>> TrainingCost("cost.json").attach(trainer := Engine(lambda engine, batch: None))
        >>> sorted(json.loads(Path("cost.json").read_text())) if trainer.run([0], 1) else None
        ['iteration', 'iterations', 'peak_bytes', 'seconds']
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._before: dict[str, Any] = {"iterations": 0, "seconds": 0.0, "peak_bytes": 0}
        self._begun = (0, 0.0)

    def attach(self, engine: Engine) -> None:
        """Measure from the start of ``engine``, the trainer, on."""
        if is_main():
            engine.add_event_handler(Events.STARTED, self._start)
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._write)

    def _start(self, engine: Engine) -> None:
        self._begun = (engine.state.iteration, time.monotonic())
        with suppress(OSError, ValueError, KeyError, TypeError):  # without it the count begins here
            found = json.loads(self.path.read_text(encoding="utf-8"))
            if found["iteration"] == engine.state.iteration:
                self._before = {name: found[name] for name in self._before}

    def _write(self, engine: Engine) -> None:
        first, clock = self._begun
        content = {
            "iteration": engine.state.iteration,
            "iterations": self._before["iterations"] + engine.state.iteration - first,
            "seconds": round(self._before["seconds"] + time.monotonic() - clock, 3),
            "peak_bytes": max(self._before["peak_bytes"], peak_memory(getattr(engine.state, "device", "cpu"))),
        }
        write_text(self.path, json.dumps(content) + "\n")
