"""AUC and average precision as metrics of ignite's and MONAI's engines.

MONAI's own are wrong for uint8 labels with tied scores, take NaN for a number, and may return NumPy's float, which
a checkpoint read with ``weights_only`` refuses.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from ignite.exceptions import NotComputableError
from ignite.metrics import Metric
from ignite.metrics.metric import reinit__is_reduced
from monai.utils import evenly_divisible_all_gather
from torch import Tensor

from monai_sagan.errors import SaganError
from monai_sagan.metrics.arrays import Labels, Values, scores_and_truth
from monai_sagan.metrics.precision import average_precision
from monai_sagan.metrics.roc import roc_auc, roc_auc_se

__all__ = ["AnomalyAveragePrecision", "AnomalyROCAUC"]


class _EpochMetric(Metric):
    """A function of all scores and labels of an epoch, from all processes, as a Python float."""

    compute_fn: Callable[[Values, Labels], float | None]

    def __init__(
        self,
        output_transform: Callable[[Any], Any] = lambda output: output,
        device: str | torch.device = "cpu",
        skip_unrolling: bool = False,
    ) -> None:
        self._warned = False
        super().__init__(output_transform=output_transform, device=device, skip_unrolling=skip_unrolling)

    @reinit__is_reduced
    def reset(self) -> None:
        self._scores: list[Tensor] = []
        self._labels: list[Tensor] = []

    @reinit__is_reduced
    def update(self, output: Sequence[Tensor]) -> None:
        """Take scores (B,) or (B, 1) and labels (B,) or (B, 1), of any number types, on any device."""
        scores, labels = (torch.as_tensor(part).detach().to(self._device, torch.float64).reshape(-1) for part in output)
        if len(scores) != len(labels):
            raise SaganError(f"there are {len(scores)} scores but {len(labels)} labels; give one of each an image")
        self._scores.append(scores)
        self._labels.append(labels)

    def compute(self) -> float:
        """The metric of all images; every process computes it, so that all raise the same error."""
        none = torch.zeros(0, dtype=torch.float64, device=self._device)  # a process without images must gather, too
        scores, labels = (
            evenly_divisible_all_gather(torch.cat([none, *part]), concat=True) for part in (self._scores, self._labels)
        )
        if not len(scores):
            raise NotComputableError(f"{type(self).__name__} needs at least one image")
        value = type(self).compute_fn(scores, labels)
        return self._unknown(scores, labels) if value is None else value

    def _unknown(self, scores: Tensor, labels: Tensor) -> float:
        if not self._warned:
            self._warned = True
            _, abnormal = scores_and_truth(scores, labels)
            warnings.warn(
                f"{type(self).__name__} needs normal and abnormal images, there are {int((~abnormal).sum())} and "
                f"{int(abnormal.sum())}; its value is -inf, which no model improves on",
                stacklevel=2,
            )
        return -math.inf


class AnomalyROCAUC(_EpochMetric):
    """`monai_sagan.metrics.roc_auc` over an epoch, for ignite's engines and MONAI's evaluators.

    ``output_transform`` takes scores (B,) and labels (B,) from the engine's output, as
    `monai_sagan.handlers.scores_and_labels` does. The value is a Python float. With images of one class it is -inf,
    with a warning: unlike NaN, which MONAI keeps forever as the best metric, any real value beats it.

    >>> import torch
    >>> metric = AnomalyROCAUC()
    >>> metric.update((torch.tensor([0.1, 0.4]), torch.tensor([0, 0])))
    >>> metric.update((torch.tensor([0.35, 0.8]), torch.tensor([1, 1])))
    >>> metric.compute()
    0.75
    """

    compute_fn = staticmethod(roc_auc)


class AnomalyROCAUCError(_EpochMetric):
    """The standard error of `AnomalyROCAUC`, by DeLong's variance; NaN without two images of each class.

    >>> import torch
    >>> metric = AnomalyROCAUCError()
    >>> metric.update((torch.tensor([0.1, 0.4, 0.35, 0.8]), torch.tensor([0, 0, 1, 1])))
    >>> round(metric.compute(), 3)
    0.354
    """

    compute_fn = staticmethod(roc_auc_se)

    def _unknown(self, scores: Tensor, labels: Tensor) -> float:
        return math.nan


class AnomalyAveragePrecision(_EpochMetric):
    """`monai_sagan.metrics.average_precision` over an epoch, used as `AnomalyROCAUC`.

    >>> import torch
    >>> metric = AnomalyAveragePrecision()
    >>> metric.update((torch.tensor([0.1, 0.4, 0.35, 0.8]), torch.tensor([0, 0, 1, 1])))
    >>> round(metric.compute(), 3)
    0.833
    """

    compute_fn = staticmethod(average_precision)
