"""Save the model with the highest test AUC, to measure how much choosing it so would flatter."""

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

logger = logging.getLogger(__name__)


class OracleTest:
    """After each validation, save the model if its AUC on the labeled test images is the highest so far.

    Published figures sometimes come from a checkpoint chosen on the test set; this measures the difference. It is off
    by default and changes nothing else in a run. Attach it to the evaluator that MONAI's ``ValidationHandler`` runs.

    Args:
        path: of the model file.
        scorer: of the validated network.
        images: gives the test images, uint8 (N, C, H, W); called only when ``enabled``.
        labels: 0 normal, 1 abnormal, None unknown, which is skipped.
        content: called as ``content(iteration=..., oracle_test=auc)``, returns the content of the model file.
        iterations_per_epoch: of the trainer.
        enabled: False switches the handler off.

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
        """Attach to an evaluator, if enabled."""
        if self.enabled:
            engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        scores = self.scorer.score(self._images)
        # Non-finite scores cannot be ranked: such a model is never the best.
        auc = roc_auc(scores, self._labels) if bool(scores.isfinite().all()) else math.nan
        assert auc is not None  # there are images of both classes
        iteration = engine.state.epoch * self.iterations_per_epoch
        self.history.append((iteration, auc))
        logger.info(f"oracle at iteration {iteration}: test AUC {auc:.4f}, chosen on the test set and so not a result")
        if auc > self.highest:
            self.highest = auc
            save_tensors(self.content(iteration=iteration, oracle_test=auc) if is_main() else {}, self.path)

    def state_dict(self) -> dict[str, Any]:
        """The highest AUC and the history, for a checkpoint."""
        return {"highest": self.highest, "history": list(self.history)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state from `state_dict`."""
        self.highest = state["highest"]
        self.history = list(state["history"])
