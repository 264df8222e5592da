"""The end of every run: scores, metrics and heat maps of the test images."""

from __future__ import annotations

import csv
import json
import logging
import platform
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor

from monai_sagan.data.cache import ImageCache
from monai_sagan.data.datalist import Datalist, Item
from monai_sagan.engines.scoring import score
from monai_sagan.engines.trained import Trained, load_trained
from monai_sagan.errors import SaganError
from monai_sagan.files import write_text, write_whole
from monai_sagan.report.heatmaps import write_heatmaps

__all__ = ["check_finite", "evaluate", "image_metrics", "versions", "write_scores"]

logger = logging.getLogger(__name__)

MASK_SEED = 0  # of the training mask, where a preset asks for scores with it left on


def evaluate(
    models: Mapping[str, str | Path],
    datalist: Datalist,
    output_dir: str | Path,
    cache_dir: str | Path,
    mixed_images: bool = False,
    device: str | torch.device = "cpu",
    batch_size: int = 256,
) -> dict[str, Any]:
    """Score test images by trained models; write ``scores.csv``, ``metrics.json``, ``heatmaps/``; return the metrics.

    Args:
        models: model files by name: ``aucp``, chosen without labels, comes first into scores and heat maps; ``last``.
        datalist: its ``test`` items are scored, with labels where they are known.
        output_dir: where to write; what is there of an earlier evaluation is replaced.
        cache_dir: of `ImageCache`; a training run's own holds these images already.
        mixed_images: see `ImageCache`.
        device: where to compute.
        batch_size: images at a time.

    Raises:
        SaganError: when there are no test images, a model file is missing, or a score is not finite.
    """
    items = datalist["test"]
    if not items:
        raise SaganError("the split test is empty: there is nothing to evaluate; inference.json scores any folder")
    started = time.monotonic()
    trained = {name: load_trained(path, device) for name, path in models.items()}
    pixels = _pixels(trained, datalist, items, cache_dir, mixed_images)
    labels = [item["label"] for item in items]
    metrics: dict[str, Any] = {}
    scores: dict[str, Tensor] = {}
    for name, model in trained.items():
        scores[name] = score(model.network, pixels, batch_size)
        metrics[name] = {"iteration": model.iteration} | image_metrics(scores[name], labels)
        if model.settings.mask_at_test:
            scores[f"{name}_masked"] = score(model.network, pixels, batch_size, MASK_SEED)
            metrics[f"{name}_masked"] = image_metrics(scores[f"{name}_masked"], labels)
    chosen = next(iter(models))
    output = Path(output_dir)
    write_heatmaps(output / "heatmaps", trained[chosen], pixels, items, scores[chosen])
    write_scores(output / "scores.csv", items, scores, chosen)
    metrics |= {
        "n_normal": labels.count(0),
        "n_abnormal": labels.count(1),
        "seconds": round(time.monotonic() - started, 2),
        "versions": versions(),
    }
    write_text(output / "metrics.json", json.dumps(metrics, indent=2) + "\n")
    for name in scores:
        found = metrics[name]
        shown = "no labels" if found["auc"] is None else f"AUC {found['auc']:.4f}, AP {found['ap']:.4f}"
        logger.info(f"test, {name}: {shown} ({labels.count(0)} normal, {labels.count(1)} abnormal)")
    logger.info(f"scores, metrics and heat maps are in {output.resolve()}")
    return metrics


def image_metrics(scores: Tensor, labels: Sequence[int | None]) -> dict[str, float | None]:
    """``auc`` and ``ap`` as fractions; None for both unless there are normal and abnormal images.

    Args:
        scores: (N,), higher is more abnormal.
        labels: N labels, 0 normal, 1 abnormal, None unknown; unknown ones are left out.

    Raises:
        SaganError: when a score is not finite.
    """
    check_finite(scores)
    known = [(float(s), label) for s, label in zip(scores.tolist(), labels, strict=True) if label is not None]
    if len({label for _, label in known}) < 2:
        return {"auc": None, "ap": None}
    values, truth = [s for s, _ in known], [label for _, label in known]
    return {"auc": float(roc_auc_score(truth, values)), "ap": float(average_precision_score(truth, values))}


def check_finite(scores: Tensor) -> None:
    """Refuse scores (N,) of which any is NaN or infinite."""
    if not bool(scores.isfinite().all()):
        raise SaganError(f"{int((~scores.isfinite()).sum())} scores are not finite; the model is broken, train it anew")


def versions() -> dict[str, str]:
    """The versions of what computes the numbers."""
    names = ("monai-sagan", "torch", "monai", "pytorch-ignite", "numpy", "pillow", "scikit-learn")
    return {"python": platform.python_version()} | {name: version(name) for name in names}


def _pixels(
    trained: Mapping[str, Trained], datalist: Datalist, items: Sequence[Item], cache_dir: str | Path, mixed: bool
) -> Tensor:
    kinds = {(model.settings.image_size, model.settings.in_channels) for model in trained.values()}
    if len(kinds) > 1:
        raise SaganError(f"the models were trained on images of different kinds: {sorted(kinds)}; evaluate them apart")
    image_size, channels = kinds.pop()
    return ImageCache(datalist, image_size, cache_dir, channels, mixed).pixels(items)


def write_scores(path: Path, items: Sequence[Item], scores: Mapping[str, Tensor], chosen: str) -> None:
    """Write a row for each image: its path, its label if known, the chosen scores and then the others."""
    others = [name for name in scores if name != chosen]

    def write(unfinished: Path) -> None:
        with unfinished.open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(["image", "label", "score", *(f"score_{name}" for name in others)])
            for i, item in enumerate(items):
                label = "" if item["label"] is None else item["label"]
                rows.writerow([item["image"], label, *(f"{float(scores[n][i]):.8f}" for n in (chosen, *others))])

    write_whole(path, write)
