"""Evaluation on test images: scores, metrics, pictures and the report."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from monai_sagan import run_files
from monai_sagan.baselines import baseline_scores
from monai_sagan.data.cache import ImageCache
from monai_sagan.data.datasets.items import Datalist, Item
from monai_sagan.engines.model_metrics import Measured, measure_models, warn_of_chance
from monai_sagan.engines.range_warnings import range_warnings, summarize_range_warnings
from monai_sagan.errors import SaganError
from monai_sagan.files import write_text
from monai_sagan.methods import describe_method
from monai_sagan.metrics import conformal_p_values, image_metrics
from monai_sagan.metrics.groups import group_warnings
from monai_sagan.models.trained import Trained, load_trained
from monai_sagan.pictures.heat_maps import write_gallery, write_heatmaps
from monai_sagan.pictures.maps import how_maps_are_made
from monai_sagan.records import replace_together
from monai_sagan.report.page import write_report
from monai_sagan.runs.read import gallery_point
from monai_sagan.runs.score_table import REASON, is_oracle, write_scores
from monai_sagan.runs.versions import versions
from monai_sagan.settings import as_plain

__all__ = ["evaluate"]

logger = logging.getLogger(__name__)

TRAINING = ("train_normal", "train_unlabeled")


def evaluate(
    models: Mapping[str, str | Path],
    splits: Datalist,
    images: ImageCache,
    output_dir: str | Path,
    device: str | torch.device = "cpu",
    batch_size: int = 64,
    required: bool = True,
    amp: bool = False,
    made_by: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Score test images with trained models; write scores, metrics, pictures and the report; return the metrics.

    The files are ``scores.csv``, ``metrics.json``, ``heatmaps/`` and ``report.html``. Thresholds and p-values come from
    validation normals only. The baselines (`monai_sagan.baselines`) learn from training images only, and are skipped
    if ``splits`` or ``images`` lack these.

    >>> from PIL import Image
    >>> Image.new("L", (64, 64), 90).save("a.png")
    >>> splits = {"test": [{"image": "a.png", "label": None}]}
    >>> images = ImageCache(splits, load_trained("run/model.pt").settings.decoding(), "cache", jobs=1)
    >>> metrics = evaluate({"aucp": "run/model.pt"}, splits, images, "evaluation")
    >>> metrics["method"]["name"], Path("evaluation", "report.html").is_file()
    ('sagan', True)

    Args:
        models: model files by name: ``aucp``, chosen without labels and first in scores and heat maps; ``last``; and
            ``oracle_test``, chosen on these test images and marked as not a result.
        splits: its ``test`` items are scored; labels, boxes, masks and groups are used where known.
        images: the cache that decoded them.
        output_dir: replaces the results of an earlier evaluation there.
        device: where to compute.
        batch_size: images at a time.
        required: False logs that there are no test images and returns an empty dictionary instead of raising.
        amp: restore in bfloat16; thresholds and p-values remain those of the validation normals in float32.
        made_by: settings and other values of the run that made the models; None takes those of the first model.

    Raises:
        SaganError: without test images; for a model file that is missing, made by another run or trained on images of
            another kind; for a score that is not finite; when the results cannot be written. Then nothing is written.
    """
    items = splits["test"]
    if not items:
        return _report_no_images(required)
    started = time.monotonic()
    trained = _load(models, images, device, amp)
    _check_made_by(models, trained, made_by)
    pixels = images.pixels(items)
    measured = measure_models(trained, items, pixels, batch_size, amp)
    baselines = _baselines(splits, images, pixels)
    name = next(iter(models))
    chosen = _judge(trained[name], measured.scores[name], measured.metrics[name]["operating_points"], pixels)
    metrics = (
        measured.metrics
        | _baseline_metrics(baselines, items)
        | _image_facts(chosen.model, items)
        | {"warnings": _warnings(trained, measured, name, chosen, items)}
        | _run_facts(started, measured.seconds, amp)
    )
    with replace_together(output_dir) as draft:
        _write_pictures(draft / run_files.HEATMAPS, chosen, items, pixels)
        scores = measured.scores | baselines
        write_scores(draft / run_files.SCORES, items, scores, name, chosen.p_values, chosen.outside)
        write_text(draft / run_files.METRICS, json.dumps(metrics, indent=2) + "\n")
    _log(metrics, list(measured.scores))
    page = write_report(output_dir).resolve()
    logger.info(f"the report is {page}; scores, metrics and heat maps are beside it")
    return metrics


class _Chosen(NamedTuple):
    """The first model with its scores (N,), p-values and warnings."""

    model: Trained
    scores: Tensor
    p_values: Tensor
    threshold: float | None
    outside: list[str]  # why images are outside the training range, or ""


def _report_no_images(required: bool) -> dict[str, Any]:
    message = "the split test is empty: there is nothing to evaluate; inference.json scores any folder"
    if required:
        raise SaganError(message)
    logger.warning(message)
    return {}


def _judge(model: Trained, scores: Tensor, points: Sequence[dict[str, Any]], pixels: Tensor) -> _Chosen:
    p_values = torch.from_numpy(conformal_p_values(model.valid_normal_scores, scores))
    threshold = (gallery_point(points) or {}).get("threshold")
    return _Chosen(model, scores, p_values, threshold, range_warnings(pixels, model.training_range))


def _baseline_metrics(baselines: Mapping[str, Tensor], items: Sequence[Item]) -> dict[str, Any]:
    labels = [item["label"] for item in items]
    found = {name: image_metrics(scores, labels) for name, scores in baselines.items()}
    return {"baselines": found} if found else {}


def _image_facts(model: Trained, items: Sequence[Item]) -> dict[str, Any]:
    labels = [item["label"] for item in items]
    return {
        "method": describe_method(model.settings.method),
        "anomaly_map": how_maps_are_made(model.settings, model.scale),
        "n_normal": labels.count(0),
        "n_abnormal": labels.count(1),
    }


def _warnings(
    trained: Mapping[str, Trained], measured: Measured, name: str, chosen: _Chosen, items: Sequence[Item]
) -> list[str]:
    above = None if chosen.threshold is None else (chosen.scores > chosen.threshold).tolist()
    points = measured.metrics[name]["operating_points"]
    return [
        *(warn_of_chance(trained["aucp"]) if "aucp" in trained else []),
        *measured.problems,
        *summarize_range_warnings([item["image"] for item in items], chosen.outside, above),
        *(point["warning"] for point in points if "warning" in point),
        *group_warnings(items, [item["label"] for item in items]),
    ]


def _run_facts(started: float, in_networks: float, amp: bool) -> dict[str, Any]:
    return {
        "precision": "bfloat16" if amp else "float32",
        "seconds": round(time.monotonic() - started, 2),
        "seconds_of_networks": round(in_networks, 2),
        "versions": versions(),
    }


def _write_pictures(folder: Path, chosen: _Chosen, items: Sequence[Item], pixels: Tensor) -> None:
    write_heatmaps(folder, chosen.model, pixels, items, chosen.scores)
    values = (chosen.scores, chosen.p_values, chosen.threshold)
    write_gallery(folder, chosen.model, pixels, items, *values, warnings=chosen.outside)


def _load(
    models: Mapping[str, str | Path], images: ImageCache, device: str | torch.device, amp: bool
) -> dict[str, Trained]:
    trained = {name: load_trained(path, device, amp) for name, path in models.items()}
    for name, model in trained.items():
        if model.settings.decoding() != images.how:
            raise SaganError(
                f"{models[name]} was trained on images of another kind, {model.settings.decoding()}; evaluate it apart"
            )
    return trained


def _check_made_by(
    models: Mapping[str, str | Path], trained: Mapping[str, Trained], made_by: Mapping[str, Any] | None
) -> None:
    """Check that all models that name their run come from the same one, or from the run ``made_by``."""
    for name, model in trained.items():
        if model.run is None:
            continue
        values = as_plain(model.settings) | {key: model.run[key] for key in ("seed", "splits")}
        made_by = made_by or values
        del values["max_iterations"]  # a resumed run may be longer
        for key, value in values.items():
            if value != made_by.get(key, value):
                raise SaganError(
                    f"{models[name]} was made with {key} {value}, this run has {made_by[key]}; it comes from another "
                    f"run: evaluate that one, or train in a separate folder"
                )


def _log(metrics: Mapping[str, Any], names: Sequence[str]) -> None:
    """Log the metrics of the models ``names`` and of the baselines, and all warnings."""
    counts = f"{metrics['n_normal']} normal, {metrics['n_abnormal']} abnormal"
    for name in names:
        mark = f" ({REASON})" if is_oracle(name) else ""
        logger.info(f"test, {name}{mark}: {_shown(metrics[name])} ({counts})")
    for name, found in metrics.get("baselines", {}).items():
        logger.info(f"test, baseline {name}: {_shown(found)}")
    for warning in metrics["warnings"]:
        logger.warning(warning)


def _baselines(splits: Datalist, images: ImageCache, pixels: Tensor) -> dict[str, Tensor]:
    """Scores of the baselines by name; empty if the training images are not available."""
    parts = [splits.get(name, []) for name in TRAINING]
    if not all(parts) or any(item["image"] not in images.images for part in parts for item in part):
        logger.info("no baselines: the training images are not available")
        return {}
    normal, unlabeled = (images.stored(part) for part in parts)
    return {name: torch.from_numpy(found) for name, found in baseline_scores(normal, unlabeled, pixels).items()}


def _shown(found: Mapping[str, Any]) -> str:
    if found["auc"] is None:
        return "no AUC: labels of both classes are needed"
    intervals = [found["auc_ci95"] or ("-", "-"), found["ap_ci95"] or ("-", "-")]
    (a, b), (c, d) = (tuple(x if isinstance(x, str) else f"{x:.4f}" for x in pair) for pair in intervals)
    return f"AUC {found['auc']:.4f} ({a} to {b}), AP {found['ap']:.4f} ({c} to {d})"
