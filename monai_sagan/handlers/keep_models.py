"""Save the best model by a validation metric, and the last one."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from torch import Tensor

from monai_sagan.distributed import is_main
from monai_sagan.files import save_tensors

__all__ = ["KeepModels", "scores_and_labels"]

logger = logging.getLogger(__name__)


def scores_and_labels(output: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Anomaly scores and labels (B,) of an evaluator's output: an ``output_transform`` for ignite's metrics.

    >>> import torch
    >>> scores_and_labels({"anomaly_score": torch.tensor([0.2]), "label": torch.tensor([1])})
    (tensor([0.2000]), tensor([1]))
    """
    return output["anomaly_score"], output["label"]


class KeepModels:
    """After each validation, save the model as ``last``, and as ``best`` if its metric is the highest so far.

    The first of equal values wins; NaN never does. Attach it to an evaluator that MONAI's ``ValidationHandler`` runs.

    >>> models = KeepModels("best.pt", "last.pt", lambda **numbers: numbers, iterations_per_epoch=100)
    >>> evaluator = Engine(lambda engine, batch: None)
    >>> models.attach(evaluator)
    >>> evaluator.state.metrics["aucp"] = 0.7
    >>> state = evaluator.run([None])
    >>> models.history
    [(100, 0.7)]

    Args:
        best: path of the model file with the highest metric.
        last: path of the latest model file.
        content: called as ``content(iteration=..., metric=value)``; returns the content of the model file.
        iterations_per_epoch: of the trainer.
        metric: its name in the evaluator's metrics; its standard error, if present as ``<metric>_se``, is saved, too.
        choose: False saves every model as ``best``, too.
    """

    def __init__(
        self,
        best: str | Path,
        last: str | Path,
        content: Callable[..., dict[str, Any]],
        iterations_per_epoch: int,
        metric: str = "aucp",
        choose: bool = True,
    ) -> None:
        self.best, self.last = Path(best), Path(last)
        self.content = content
        self.iterations_per_epoch = iterations_per_epoch
        self.metric = metric
        self.choose = choose
        self.highest = -math.inf
        self.history: list[tuple[int, float]] = []

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        value = float(engine.state.metrics[self.metric])
        iteration = engine.state.epoch * self.iterations_per_epoch
        error = float(engine.state.metrics.get(f"{self.metric}_se", math.nan))
        numbers = {self.metric: value} | ({f"{self.metric}_se": error} if math.isfinite(error) else {})
        content = self.content(iteration=iteration, **numbers) if is_main() else {}
        save_tensors(content, self.last)
        self.history.append((iteration, value))
        better = math.isfinite(value) and value > self.highest
        shown = f"{value:.4f}" + (f" (standard error {error:.4f})" if math.isfinite(error) else "")
        best = ", the best so far" if better and self.choose else ""
        logger.info(f"validation at iteration {iteration}: {self.metric} {shown}{best}")
        if better:
            self.highest = value
        if better or not self.choose:
            save_tensors(content, self.best)

    def state_dict(self) -> dict[str, Any]:
        """The highest metric and the history, for a checkpoint."""
        return {"highest": self.highest, "history": list(self.history)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state from `state_dict`."""
        self.highest = state["highest"]
        self.history = list(state["history"])
