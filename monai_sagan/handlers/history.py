"""Training curves as a CSV file."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from ignite.engine import Engine, Events
from torch import Tensor

from monai_sagan.files import write_text
from monai_sagan.handlers.keep_models import KeepModels

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

__all__ = ["History"]

Row = tuple[int, dict[str, float]]


class History:
    """Write the means of a trainer's scalar outputs to a CSV file, one row per ``interval`` iterations.

    A value repeated from an earlier iteration counts once. Sums stay on the device until the end of an epoch, which
    always ends a row. Attach it after the handler that validates and before the one that saves, and add it to the
    checkpoint's objects, so that a resumed run continues the table.

    >>> losses = iter((torch.tensor(1.0), torch.tensor(3.0)))
    >>> trainer = Engine(lambda engine, batch: {"loss": next(losses)})
    >>> History("history.csv").attach(trainer)
    >>> state = trainer.run([None, None], max_epochs=1)
    >>> print(Path("history.csv").read_text())
    iteration,loss
    2,2

    Args:
        path: of the CSV file: ``iteration``, the outputs in the order of their first appearance, the metric.
        models: its metric is added to the rows of the iterations where it was measured.
        interval: iterations between rows, counted within an epoch.
        summary_writer: of TensorBoard, for the same values under the same names; None is off.
    """

    def __init__(
        self,
        path: str | Path,
        models: KeepModels | None = None,
        interval: int = 50,
        summary_writer: SummaryWriter | None = None,
    ) -> None:
        self.path = Path(path)
        self.models = models
        self.interval = interval
        # Called with the iteration and the values of each new row.
        self.listeners: list[Callable[[int, dict[str, float]], None]] = []
        if summary_writer is not None:
            self.listeners.append(partial(_draw, summary_writer))
        self.rows: list[Row] = []
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self._previous: dict[str, Tensor] = {}
        self._unread: list[tuple[int, dict[str, Tensor]]] = []
        self._resumed = False

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._begin)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._end)

    def _begin(self) -> None:
        if self._resumed:  # rows beyond the checkpoint leave the file
            self._resumed = False
            self._write()

    def _add(self, engine: Engine) -> None:
        output: dict[str, Any] = engine.state.output  # type: ignore[assignment]
        for key, value in output.items():
            name = str(key)  # MONAI's keys are enums, which a checkpoint of plain values does not hold
            if not torch.is_tensor(value) or value.ndim or value is self._previous.get(name):
                continue
            self._previous[name] = value
            self._sums[name] = self._sums[name] + value if name in self._sums else value.detach().float()
            self._counts[name] = self._counts.get(name, 0) + 1
        length = engine.state.epoch_length
        done = (engine.state.iteration - 1) % length + 1 if length else engine.state.iteration
        if done % self.interval == 0:
            self._end_row(engine.state.iteration)

    def _end_row(self, iteration: int) -> None:
        if self._sums:
            self._unread.append((iteration, {name: total / self._counts[name] for name, total in self._sums.items()}))
        self._sums, self._counts = {}, {}

    def _end(self, engine: Engine) -> None:
        self._end_row(engine.state.iteration)
        new = [(at, {name: float(mean) for name, mean in means.items()}) for at, means in self._unread]
        self.rows += new
        self._unread = []
        self._write()
        metrics = self._metrics()
        for at, means in new:
            for listener in self.listeners:
                listener(at, means | metrics.get(at, {}))

    def _metrics(self) -> dict[int, dict[str, float]]:
        """The models' metric by iteration."""
        return {} if self.models is None else {at: {self.models.metric: value} for at, value in self.models.history}

    def _write(self) -> None:
        metrics = self._metrics()
        names = list(dict.fromkeys(name for _, means in self.rows for name in means))
        metric = [] if self.models is None else [self.models.metric]
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(["iteration", *names, *metric])
        for iteration, means in self.rows:
            values = means | metrics.get(iteration, {})
            table.writerow([iteration, *(_shown(values.get(name)) for name in [*names, *metric])])
        write_text(self.path, text.getvalue())

    def state_dict(self) -> dict[str, Any]:
        """The rows as a compact table for a checkpoint, with NaN for missing values."""
        names = list(dict.fromkeys(name for _, means in self.rows for name in means))
        values = [[means.get(name, math.nan) for name in names] for _, means in self.rows]
        return {
            "names": names,
            "iterations": [iteration for iteration, _ in self.rows],
            "values": torch.tensor(values, dtype=torch.float64).reshape(len(self.rows), len(names)),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state from `state_dict`."""
        self.rows = [
            (at, {name: value for name, value in zip(state["names"], values, strict=True) if not math.isnan(value)})
            for at, values in zip(state["iterations"], state["values"].tolist(), strict=True)
        ]
        self._resumed = True


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _draw(writer: SummaryWriter, iteration: int, values: dict[str, float]) -> None:
    for name, value in values.items():
        writer.add_scalar(name, value, iteration)
    writer.flush()
