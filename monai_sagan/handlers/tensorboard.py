"""TensorBoard output of a training run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from monai_sagan.models.scorer import Scorer
from monai_sagan.pictures.heat_maps import triptychs

__all__ = ["TensorBoardTriptychs"]


def scalar_outputs(output: dict[str, Any]) -> dict[str, float]:
    """The scalars among a trainer's ``output``, for handlers that show losses."""
    return {name: float(value) for name, value in output.items() if torch.is_tensor(value) and not value.ndim}


class LateSummaryWriter:
    """TensorBoard's writer, which creates its event file with the first value: a refused run leaves no file."""

    def __init__(self, log_dir: str | Path) -> None:
        self._log_dir = str(log_dir)
        self._writer: SummaryWriter | None = None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if self._writer is None:
            self._writer = SummaryWriter(self._log_dir)
        return getattr(self._writer, name)


class TensorBoardTriptychs:
    """After each validation, add a few images with their restored versions and anomaly maps to TensorBoard.

    The color scale is the 99.9th percentile of the maps of the normal images shown. Attach it to an evaluator.

    >>> from monai_sagan.models.trained import load_trained
    >>> scorer, images = load_trained("run/model.pt").scorer, torch.zeros(2, 1, 64, 64, dtype=torch.uint8)
    >>> handler = TensorBoardTriptychs(SummaryWriter("events"), scorer, images, images, iterations_per_epoch=100)
    >>> evaluator = Engine(lambda engine, batch: None)
    >>> handler.attach(evaluator)
    >>> evaluator.run([None]).iteration
    1

    Args:
        summary_writer: of TensorBoard.
        scorer: of the network.
        normal: validation normals, uint8 (N, C, H, W).
        unlabeled: unlabeled validation images, uint8 (M, C, H, W).
        iterations_per_epoch: of the trainer.
        count: images of each kind.
    """

    def __init__(
        self,
        summary_writer: SummaryWriter,
        scorer: Scorer,
        normal: Tensor,
        unlabeled: Tensor,
        iterations_per_epoch: int,
        count: int = 4,
    ) -> None:
        self.writer = summary_writer
        self.scorer = scorer
        self.shown = {"normal": normal[:count], "unlabeled": unlabeled[:count]}
        self.iterations_per_epoch = iterations_per_epoch

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        scale = 0.0
        for name, pixels in self.shown.items():
            image, found = next(self.scorer.batches(pixels))
            scale = scale or float(torch.quantile(found.anomaly_map, 0.999))
            shown = triptychs(image, found.restored, found.anomaly_map, scale)
            self.writer.add_images(name, shown, engine.state.epoch * self.iterations_per_epoch)
        self.writer.flush()
