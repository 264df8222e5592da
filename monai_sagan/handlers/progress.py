"""Progress of a training run: a bar on a terminal, log lines elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from contextlib import ExitStack
from typing import Any

import torch
from ignite.engine import Engine, Events
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from monai_sagan.engines.stages import Stages

logger = logging.getLogger(__name__)


class Progress:
    """Show a trainer's losses, iterations per second and time left.

    Args:
        interval: iterations between updates; losses are read from the device only then.
        stages: of the trainer; the current one is shown if there are several.
    """

    def __init__(self, interval: int = 50, stages: Stages | None = None) -> None:
        self.interval = interval
        self.stages = stages
        self._bar: tqdm[Any] | None = None
        self._above_bar = ExitStack()  # prints log lines above the bar
        self._since = (0, 0.0)

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._show)
        engine.add_event_handler(Events.COMPLETED, self._close)
        engine.add_event_handler(Events.TERMINATE, self._close)

    def _start(self, engine: Engine) -> None:
        state = engine.state
        self._since = (state.iteration, time.monotonic())
        if sys.stderr.isatty():
            total = (state.max_epochs or 0) * (state.epoch_length or 0)
            self._bar = tqdm(total=total, initial=state.iteration, unit="it", dynamic_ncols=True)
            self._above_bar.enter_context(logging_redirect_tqdm())

    def _show(self, engine: Engine) -> None:
        iteration, total = engine.state.iteration, (engine.state.max_epochs or 0) * (engine.state.epoch_length or 0)
        if iteration % self.interval and iteration != total:
            return
        output: dict[str, Any] = engine.state.output  # type: ignore[assignment]
        losses = {k: float(v) for k, v in output.items() if torch.is_tensor(v) and not v.ndim}
        shown = " ".join([*self._stage(engine.state.epoch), *(f"{name} {value:.4g}" for name, value in losses.items())])
        if self._bar is not None:
            self._bar.set_postfix_str(shown, refresh=False)
            self._bar.update(iteration - self._bar.n)
            return
        begun, clock = self._since
        pace = (iteration - begun) / max(time.monotonic() - clock, 1e-9)
        left = (total - iteration) / pace
        logger.info(f"iteration {iteration}/{total} {shown} | {pace:.2f} it/s, {_clock(left)} left")

    def _stage(self, epoch: int) -> list[str]:
        several = self.stages is not None and len(self.stages.placed) > 1
        return [f"({self.stages.at(epoch).stage.name})"] if self.stages is not None and several else []

    def _close(self, engine: Engine) -> None:
        if self._bar is not None:
            self._bar.close()
            self._above_bar.close()
            self._bar = None


def _clock(seconds: float) -> str:
    hours, rest = divmod(int(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}"
