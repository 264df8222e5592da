"""Keeping the generator that the test labels like best: not a result, but what choosing so would be worth."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from torch import Tensor

from monai_sagan.distributed import is_main
from monai_sagan.errors import SaganError
from monai_sagan.files import save_tensors
from monai_sagan.metrics.roc import roc_auc
from monai_sagan.models.scorer import Scorer

__all__ = ["OracleTest"]

logger = logging.getLogger(__name__)


class OracleTest:
    """After each validation score the labeled test images, and save the generator with the highest test AUC so far.

    Published figures are at times those of a checkpoint that was chosen on the test set; this shows how much that
    flatters. It is off unless asked for, and changes nothing else in a run. Attach it to the evaluator that MONAI's
    ``ValidationHandler`` runs. The first of equals wins.

    Args:
        path: of the model file.
        scorer: of the generator that is validated.
        images: gives the test images, uint8 (N, C, H, W); called only when ``enabled``.
        labels: N labels, 0 normal, 1 abnormal, None unknown; unknown ones are left out.
        content: called as ``content(iteration=..., oracle_test=auc)``, returns what to save.
        iterations_per_epoch: of the trainer.
        enabled: False does nothing at all.

    Raises:
        SaganError: when enabled without both normal and abnormal test images.
    """

    def __init__(
        self,
        path: str | Path,
        scorer: Scorer,
        images: Callable[[], Tensor],
        labels: Sequence[int | None],
        content: Callable[..., dict[str, Any]],
        iterations_per_epoch: int,
        enabled: bool = False,
    ) -> None:
        self.path = Path(path)
        self.scorer = scorer
        self.content = content
        self.iterations_per_epoch = iterations_per_epoch
        self.enabled = enabled
        self.highest = -math.inf
        self.history: list[tuple[int, float]] = []
        if enabled:
            known = [i for i, label in enumerate(labels) if label is not None]
            self._labels = [labels[i] for i in known]
            if set(self._labels) != {0, 1}:
                raise SaganError("oracle_test needs normal and abnormal test images of known labels; leave it out")
            self._images = images()[known]

    def attach(self, engine: Engine) -> None:
        """Score the test after each epoch of ``engine``, the evaluator, if that is asked for."""
        if self.enabled:
            engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        scores = self.scorer.score(self._images)
        # Scores that are no numbers rank nothing: such a generator is never the best.
        auc = roc_auc(scores, self._labels) if bool(scores.isfinite().all()) else math.nan
        assert auc is not None  # there are images of both classes
        iteration = engine.state.epoch * self.iterations_per_epoch
        self.history.append((iteration, auc))
        logger.info(f"oracle at iteration {iteration}: test AUC {auc:.4f}, chosen on the test set and so not a result")
        if auc > self.highest:
            self.highest = auc
            save_tensors(self.content(iteration=iteration, oracle_test=auc) if is_main() else {}, self.path)

    def state_dict(self) -> dict[str, Any]:
        """The highest AUC so far and all of them, for a checkpoint."""
        return {"highest": self.highest, "history": list(self.history)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the ``state`` that `state_dict` returned."""
        self.highest = state["highest"]
        self.history = list(state["history"])
