"""The end of every run: scores, metrics, pictures and the report of the test images."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from monai_sagan import run_files
from monai_sagan.baselines import baseline_scores
from monai_sagan.data.cache import ImageCache
from monai_sagan.data.datalist import Datalist, Item
from monai_sagan.engines.unlike import tell_unlike, unlike_training
from monai_sagan.errors import SaganError
from monai_sagan.files import write_text
from monai_sagan.methods import describe_method
from monai_sagan.metrics import conformal_p_values, grouped_metrics, image_metrics, operating_points
from monai_sagan.metrics.groups import group_warnings
from monai_sagan.metrics.localization import localization_metrics
from monai_sagan.models.scorer import Scorer
from monai_sagan.models.trained import Trained, load_trained
from monai_sagan.pictures.heat_maps import write_gallery, write_heatmaps
from monai_sagan.pictures.maps import how_maps_are_made
from monai_sagan.records import replace_together
from monai_sagan.report.page import write_report
from monai_sagan.runs.read import gallery_point
from monai_sagan.runs.score_table import REASON, is_oracle, write_scores
from monai_sagan.runs.versions import versions
from monai_sagan.settings import as_plain

__all__ = ["check_finite", "evaluate"]

logger = logging.getLogger(__name__)

MASK_SEED = 0  # of the training mask, where a preset asks for scores with it left on
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
    """Score test images by trained models; write scores, metrics, pictures and the report; return the metrics.

    They are ``scores.csv``, ``metrics.json``, ``heatmaps/`` and ``report.html``. Thresholds and p-values come from
    validation normals alone; the baselines beside the models (`monai_sagan.baselines`) learn from the training
    images alone, and are left out where ``splits`` or ``images`` lack these.

    Args:
        models: model files by name: ``aucp``, chosen without labels, comes first into scores and heat maps; ``last``;
            ``oracle_test``, chosen on these very images, is not a result and is marked as such.
        splits: its ``test`` items are scored, with labels, boxes, masks and groups where they are known.
        images: the cache that decoded them.
        output_dir: where to write; what is there of an earlier evaluation is replaced.
        device: where to compute.
        batch_size: images at a time.
        required: False says in the log that there are no test images, and returns nothing, where that is not a mistake.
        amp: restore in bfloat16; thresholds and p-values stay those that float32 gave the validation normals.
        made_by: settings and other values of the run that made the models; None takes those of the first.

    Raises:
        SaganError: when there are no test images, a model file is missing, was trained on images of another kind or
            made by another run, a score is not finite, or the results cannot be written. Nothing is written then.
    """
    items = splits["test"]
    if not items:
        message = "the split test is empty: there is nothing to evaluate; inference.json scores any folder"
        if required:
            raise SaganError(message)
        logger.warning(message)
        return {}
    started = time.monotonic()
    trained = _load(models, images, device, amp)
    _check_made_by(models, trained, made_by)
    pixels = images.pixels(items)
    labels = [item["label"] for item in items]
    metrics: dict[str, Any] = {}
    scores: dict[str, Tensor] = {}
    told = _told(items)
    in_networks, troubles = 0.0, list[str]()
    for name, model in trained.items():
        begin = time.monotonic()
        scores[name], maps = model.score(pixels, batch_size, keep=told)
        if masked := getattr(model.settings, "mask_at_test", False):
            plain = Scorer(model.network, model.settings.image_size, amp=amp)
            scores[f"{name}_masked"] = plain.score(pixels, batch_size, MASK_SEED)
        in_networks += time.monotonic() - begin
        check_finite(scores[name])
        metrics[name] = _validated(model) | _results(model, scores[name], items) | _mark(name)
        if told:
            try:
                metrics[name]["localization"] = _localization(model, maps, [items[i] for i in told])
            except SaganError as error:  # a broken mask must not cost the scores
                troubles.append(f"localization was left out: {error}")
                told = []
        if masked:
            metrics[f"{name}_masked"] = image_metrics(scores[f"{name}_masked"], labels) | _mark(name)
    if rows := _baselines(splits, images, pixels):
        metrics["baselines"] = {name: image_metrics(values, labels) for name, values in rows.items()}
    chosen = next(iter(models))
    model, points, output = trained[chosen], metrics[chosen]["operating_points"], Path(output_dir)
    p_values = torch.from_numpy(conformal_p_values(model.valid_normal_scores, scores[chosen]))
    threshold = (gallery_point(points) or {}).get("threshold")
    unusual = unlike_training(pixels, model.typical)
    above = None if threshold is None else (scores[chosen] > threshold).tolist()
    unlike = tell_unlike([item["image"] for item in items], unusual, above)
    chance = _choice_by_chance(trained)
    metrics |= {
        "method": describe_method(model.settings.method),
        "anomaly_map": how_maps_are_made(model.settings, model.scale),
        "n_normal": labels.count(0),
        "n_abnormal": labels.count(1),
        "warnings": [*chance, *troubles, *unlike, *_too_few(points), *group_warnings(items, labels)],
        "precision": "bfloat16" if amp else "float32",
        "seconds": round(time.monotonic() - started, 2),
        "seconds_of_networks": round(in_networks, 2),
        "versions": versions(),
    }
    with replace_together(output) as draft:
        write_heatmaps(draft / run_files.HEATMAPS, model, pixels, items, scores[chosen])
        write_gallery(
            draft / run_files.HEATMAPS, model, pixels, items, scores[chosen], p_values, threshold, warnings=unusual
        )
        write_scores(draft / run_files.SCORES, items, scores | rows, chosen, p_values, warnings=unusual)
        write_text(draft / run_files.METRICS, json.dumps(metrics, indent=2) + "\n")
    _log(metrics, list(scores))
    logger.info(f"the report is {write_report(output).resolve()}; scores, metrics and heat maps are beside it")
    return metrics


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
    """Check that the models that name their run are all of one, or of the one that was ``made_by`` these values."""
    for name, model in trained.items():
        if model.run is None:
            continue
        values = as_plain(model.settings) | {key: model.run[key] for key in ("seed", "splits")}
        made_by = made_by or values
        del values["max_iterations"]  # a run may have been made longer
        for key, value in values.items():
            if value != made_by.get(key, value):
                raise SaganError(
                    f"{models[name]} was made with {key} {value}, this run has {made_by[key]}; it is of another run: "
                    f"evaluate that one, or train in a folder of its own"
                )


def _log(metrics: Mapping[str, Any], names: Sequence[str]) -> None:
    """What the metrics say of the models called ``names`` and of the baselines, and their warnings."""
    counts = f"{metrics['n_normal']} normal, {metrics['n_abnormal']} abnormal"
    for name in names:
        mark = f" ({REASON})" if is_oracle(name) else ""
        logger.info(f"test, {name}{mark}: {_shown(metrics[name])} ({counts})")
    for name, found in metrics.get("baselines", {}).items():
        logger.info(f"test, baseline {name}: {_shown(found)}")
    for warning in metrics["warnings"]:
        logger.warning(warning)


def _results(model: Trained, scores: Tensor, items: Sequence[Item]) -> dict[str, Any]:
    labels = [item["label"] for item in items]
    found = image_metrics(scores, labels)
    found["operating_points"] = operating_points(model.valid_normal_scores, scores, labels)
    groups = grouped_metrics(items, scores, labels)
    return found | ({"groups": groups} if groups else {})


def _validated(model: Trained) -> dict[str, float]:
    """When ``model`` was saved, and what the validation found then, where that is known."""
    found = {"aucp": model.aucp, "aucp_se": model.aucp_se}
    known = {name: value for name, value in found.items() if value is not None and math.isfinite(value)}
    return {"iteration": model.iteration} | known


def _choice_by_chance(trained: Mapping[str, Trained]) -> list[str]:
    """That the model chosen by AUCp was chosen by chance, unless AUCp is above 0.5 by more than its noise."""
    found = _validated(trained["aucp"]) if "aucp" in trained else {}
    if not {"aucp", "aucp_se"} <= found.keys() or found["aucp"] - 1.96 * found["aucp_se"] > 0.5:
        return []
    below = found["aucp"] + 1.96 * found["aucp_se"] < 0.5
    return [
        f"AUCp {found['aucp']:.2f} (standard error {found['aucp_se']:.2f}) at the chosen checkpoint is "
        f"{'below' if below else 'within its noise of'} 0.5: the choice between checkpoints is chance"
    ]


def _mark(name: str) -> dict[str, str]:
    return {"no_result": REASON} if is_oracle(name) else {}


def _told(items: Sequence[Item]) -> list[int]:
    """Which images tell where their lesions are; normal ones have none. No image, where none has any lesion marked."""
    if not any(item.get("boxes") or item.get("mask") for item in items):
        return []
    return [i for i, item in enumerate(items) if "boxes" in item or "mask" in item or item["label"] == 0]


def _localization(model: Trained, maps: Tensor, items: Sequence[Item]) -> dict[str, Any]:
    """How well anomaly maps (K, 1, H, W) agree with the boxes or masks of K items."""
    marked = [item if "boxes" in item or "mask" in item else item | {"boxes": []} for item in items]
    return localization_metrics(maps[:, 0].numpy(), marked, [item["size"] for item in items], model.pixel_threshold)


def _baselines(splits: Datalist, images: ImageCache, pixels: Tensor) -> dict[str, Tensor]:
    """The scores of the baselines by their names; none where the training images are not at hand."""
    parts = [splits.get(name, []) for name in TRAINING]
    if not all(parts) or any(item["image"] not in images.images for part in parts for item in part):
        logger.info("no baselines: the training images are not at hand")
        return {}
    normal, unlabeled = (images.stored(part) for part in parts)
    return {name: torch.from_numpy(found) for name, found in baseline_scores(normal, unlabeled, pixels).items()}


def _too_few(points: Sequence[Mapping[str, Any]]) -> list[str]:
    return [point["warning"] for point in points if "warning" in point]


def _shown(found: Mapping[str, Any]) -> str:
    if found["auc"] is None:
        return "no AUC, for there are no labels of both kinds"
    intervals = [found["auc_ci95"] or ("-", "-"), found["ap_ci95"] or ("-", "-")]
    (a, b), (c, d) = (tuple(x if isinstance(x, str) else f"{x:.4f}" for x in pair) for pair in intervals)
    return f"AUC {found['auc']:.4f} ({a} to {b}), AP {found['ap']:.4f} ({c} to {d})"


def check_finite(scores: Tensor) -> None:
    """Check that no score (N,) is NaN or infinite.

    Args:
        scores: of any float type, on any device.

    Raises:
        SaganError: counting those that are.
    """
    if not bool(scores.isfinite().all()):
        raise SaganError(
            f"{int((~scores.isfinite()).sum())} scores are not finite; the model is broken, train it again"
        )
