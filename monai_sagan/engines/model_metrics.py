"""Scores and metrics of trained models on labeled test images."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from monai_sagan.data.datasets.items import Item
from monai_sagan.errors import SaganError
from monai_sagan.metrics import grouped_metrics, image_metrics, operating_points
from monai_sagan.metrics.localization import localization_metrics
from monai_sagan.models.scorer import Scorer
from monai_sagan.models.trained import Trained
from monai_sagan.runs.score_table import REASON, is_oracle

MASK_SEED = 0  # of the training mask, where a preset asks for scores with it left on


class Measured(NamedTuple):
    """Scores and metrics by the models' names.

    Args:
        scores: (N,), also under ``NAME_masked`` for presets that leave the training mask on.
        metrics: under the same names.
        problems: reasons for missing localization metrics.
        seconds: time spent in the networks.
    """

    scores: dict[str, Tensor]
    metrics: dict[str, Any]
    problems: list[str]
    seconds: float


def measure_models(
    trained: Mapping[str, Trained], items: Sequence[Item], pixels: Tensor, batch_size: int, amp: bool
) -> Measured:
    """Score test images by each model and compare the scores with the labels.

    Args:
        trained: the models by their names.
        items: N items, with labels, boxes, masks and groups where they are known.
        pixels: uint8 (N, C, H, W).
        batch_size: images at a time.
        amp: restore in bfloat16.

    Raises:
        SaganError: when a score is not finite.
    """
    labels = [item["label"] for item in items]
    scores, metrics, problems, seconds = dict[str, Tensor](), dict[str, Any](), list[str](), 0.0
    annotated = _annotated(items)
    for name, model in trained.items():
        begin = time.monotonic()
        scores[name], maps = model.score(pixels, batch_size, keep=annotated)
        if masked := getattr(model.settings, "mask_at_test", False):
            plain = Scorer(model.network, model.settings.image_size, amp=amp)
            scores[f"{name}_masked"] = plain.score(pixels, batch_size, MASK_SEED)
        seconds += time.monotonic() - begin
        check_finite(scores[name])
        metrics[name] = _validated(model) | _image_results(model, scores[name], items) | _mark(name)
        if annotated:
            try:
                metrics[name]["localization"] = _localization(model, maps, [items[i] for i in annotated])
            except SaganError as error:  # a broken mask must not cost the scores
                problems.append(f"localization was left out: {error}")
                annotated = []
        if masked:
            metrics[f"{name}_masked"] = image_metrics(scores[f"{name}_masked"], labels) | _mark(name)
    return Measured(scores, metrics, problems, seconds)


def warn_of_chance(model: Trained) -> list[str]:
    """Warn that a model was chosen by chance, unless its AUCp exceeds 0.5 by more than its noise."""
    found = _validated(model)
    if not {"aucp", "aucp_se"} <= found.keys() or found["aucp"] - 1.96 * found["aucp_se"] > 0.5:
        return []
    below = found["aucp"] + 1.96 * found["aucp_se"] < 0.5
    return [
        f"AUCp {found['aucp']:.2f} (standard error {found['aucp_se']:.2f}) at the chosen checkpoint is "
        f"{'below' if below else 'within its noise of'} 0.5: the choice between checkpoints is chance"
    ]


def check_finite(scores: Tensor) -> None:
    """Raise a SaganError if any score is NaN or infinite."""
    if not bool(scores.isfinite().all()):
        raise SaganError(
            f"{int((~scores.isfinite()).sum())} scores are not finite; the model is broken, train it again"
        )


def _validated(model: Trained) -> dict[str, float]:
    """The iteration of a model and, if known, its AUCp there."""
    found = {"aucp": model.aucp, "aucp_se": model.aucp_se}
    known = {name: value for name, value in found.items() if value is not None and math.isfinite(value)}
    return {"iteration": model.iteration} | known


def _image_results(model: Trained, scores: Tensor, items: Sequence[Item]) -> dict[str, Any]:
    labels = [item["label"] for item in items]
    found = image_metrics(scores, labels)
    found["operating_points"] = operating_points(model.valid_normal_scores, scores, labels)
    groups = grouped_metrics(items, scores, labels)
    return found | ({"groups": groups} if groups else {})


def _mark(name: str) -> dict[str, str]:
    return {"no_result": REASON} if is_oracle(name) else {}


def _annotated(items: Sequence[Item]) -> list[int]:
    """Indices of annotated images, normal ones included; empty if no lesion is annotated."""
    if not any(item.get("boxes") or item.get("mask") for item in items):
        return []
    return [i for i, item in enumerate(items) if "boxes" in item or "mask" in item or item["label"] == 0]


def _localization(model: Trained, maps: Tensor, items: Sequence[Item]) -> dict[str, Any]:
    """Localization metrics of anomaly maps (K, 1, H, W) for the boxes or masks of K items."""
    marked = [item if "boxes" in item or "mask" in item else item | {"boxes": []} for item in items]
    return localization_metrics(maps[:, 0].numpy(), marked, [item["size"] for item in items], model.pixel_threshold)
