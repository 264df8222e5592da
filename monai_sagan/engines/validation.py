"""Validation of runs with several stages."""

from __future__ import annotations

from typing import Any

from monai.engines import SupervisedEvaluator


class StagedEvaluator(SupervisedEvaluator):
    """MONAI's evaluator, skipped before the last stage, where the network cannot detect anomalies yet.

    Args:
        start: epochs of the trainer before the last stage.
        args, kwargs: of ``monai.engines.SupervisedEvaluator``.
    """

    def __init__(self, *args: Any, start: int = 0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.start = start

    def run(self, global_epoch: int = 1) -> None:  # type: ignore[override]  # as MONAI has it
        """Validate after ``global_epoch`` epochs of the trainer, if the last stage has begun."""
        if global_epoch > self.start:
            super().run(global_epoch=global_epoch)
