"""Does smoothing the anomaly maps, or averaging restorations of shifted copies, show better where the lesions are?

    python benchmarks/localization.py RUN_DIR DATASET_DIR [--shift 1]

The model that RUN_DIR chose without labels, on a dataset in the Med-AD layout with masks or boxes in ``items.json``.
First the validation side, to choose by: its unlabeled images, whose lesions training never saw. Then the test split.
Thresholds are the 99th percentile of the pixels of validation normals, measured again for each kind of map. Brackets
hold 95 % intervals; those of differences are of the same resampled images. The AUC is of the table's images, by the
mean of their maps.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from monai_sagan.data.batches import to_unit_range
from monai_sagan.data.cache import ImageCache
from monai_sagan.data.datalist import Item, make_splits
from monai_sagan.data.datasets.med_ad import read_med_ad
from monai_sagan.errors import show_errors_in_one_line
from monai_sagan.metrics.localization import bootstrap_localization, draw_weights, localization_metrics
from monai_sagan.metrics.regions import read_regions
from monai_sagan.models.scorer import Scorer
from monai_sagan.models.trained import load_trained
from monai_sagan.transforms.functional import smooth_map

NONE = {"kind": "none"}
SMOOTHING = {"no smoothing": NONE}
SMOOTHING |= {f"Gaussian {sigma:g}": {"kind": "gaussian", "sigma": sigma} for sigma in (1.0, 2.0, 3.0)}
SMOOTHING |= {f"guided {radius}": {"kind": "guided", "radius": radius} for radius in (2, 4)}
PASSES = (1, 4, 9)
COLUMNS = {"pixel_ap": "pixel AP", "pro": "PRO", "dice": "Dice", "pointing_game": "pointing game"}


def main() -> None:
    show_errors_in_one_line()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("dataset_dir", type=Path)
    parser.add_argument("--shift", type=int, default=1)
    args = parser.parse_args()
    config = json.loads((args.run_dir / "config.json").read_text())
    datalist = read_med_ad(args.dataset_dir).datalist
    splits = make_splits(datalist, *(config[n] for n in ("anomaly_ratio", "unlabeled_size", "valid_fraction", "seed")))
    trained = load_trained(args.run_dir / "model.pt")
    with tempfile.TemporaryDirectory() as cache_dir:
        cache = ImageCache(datalist, trained.settings.decoding(), cache_dir)
    names = ("valid_normal", "valid_unlabeled", "test")
    pixels = {name: cache.pixels(splits[name]) for name in names}
    variants = list(_variants(trained.network, pixels, args.shift))
    for name, title in (("valid_unlabeled", "validation"), ("test", "test")):
        items = splits[name]
        sizes = [(cache.images[item["image"]]["width"], cache.images[item["image"]]["height"]) for item in items]
        thresholds = [float(np.quantile(maps["valid_normal"], 0.99)) for _, maps in variants]
        shown = [(label, threshold, maps[name]) for (label, maps), threshold in zip(variants, thresholds, strict=True)]
        _print_table(title, items, sizes, shown)


def _variants(network: torch.nn.Module, pixels: dict[str, Tensor], shift: int) -> Any:
    """The name of each kind of map, and the maps (N, H, W) of each split."""
    for passes in PASSES:
        scorer = Scorer(network, pixels["test"].shape[-2:], passes, shift)
        plain = {
            name: torch.cat([found.anomaly_map for _, found in scorer.batches(part)]) for name, part in pixels.items()
        }
        for smoothing, how in SMOOTHING.items():
            label = f"{passes} pass{'es' * (passes > 1)}, {smoothing}"
            smoothed = {n: smooth_map(maps, image=to_unit_range(pixels[n]), **how) for n, maps in plain.items()}
            yield label, {name: maps[:, 0].numpy() for name, maps in smoothed.items()}


def _print_table(
    title: str, items: Sequence[Item], sizes: Sequence[tuple[int, int]], variants: Sequence[tuple[str, float, Any]]
) -> None:
    labels = np.array([item["label"] for item in items])
    annotated, regions, _ = read_regions(items, sizes, *variants[0][2].shape[1:])
    weights = np.concatenate([np.ones((1, len(annotated))), draw_weights(regions.has_lesion, 1000)])
    found = [localization_metrics(maps, items, sizes, threshold) for _, threshold, maps in variants]
    drawn = [bootstrap_localization(maps[annotated], regions, threshold, weights) for _, threshold, maps in variants]
    first = found[0]
    print(
        f"\n{title}: {first['n_images']} images, {first['n_abnormal']} with {first['n_regions']} lesions "
        f"({first['truth']}); chance: pixel AP {first['abnormal_share']:.3f}\n"
    )
    print(
        "|".join(["maps".ljust(24), *(f"{shown:^20}" for shown in COLUMNS.values()), " pixel AP - first    ", " AUC"])
    )
    for (label, _, maps), row, draw in zip(variants, found, drawn, strict=True):
        cells = [_cell(row[name], row[f"{name}_ci95"]) for name in COLUMNS]
        change = draw["pixel_ap"] - drawn[0]["pixel_ap"]
        cells.append(_cell(row["pixel_ap"] - first["pixel_ap"], np.quantile(change[1:], (0.025, 0.975)), "+.3f"))
        auc = roc_auc_score(labels, maps.mean((1, 2))) if len(set(labels)) == 2 else float("nan")
        print("|".join([label.ljust(24), *(cell.center(20) for cell in cells), f" {auc:.3f}"]), flush=True)


def _cell(value: float, interval: Sequence[float], form: str = ".3f") -> str:
    return f"{value:{form}} [{interval[0]:{form}} {interval[1]:{form}}]"


if __name__ == "__main__":
    main()
