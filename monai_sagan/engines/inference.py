"""Scoring any folder of images by a trained model."""

from __future__ import annotations

import csv
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from monai_sagan.data.cache import load_image
from monai_sagan.data.datalist import Item
from monai_sagan.data.readers import IMAGE_SUFFIXES, Pixels, is_image_file
from monai_sagan.engines.evaluation import check_finite, write_scores
from monai_sagan.engines.scoring import score
from monai_sagan.engines.trained import load_trained
from monai_sagan.errors import SaganError
from monai_sagan.files import write_whole
from monai_sagan.report.heatmaps import write_heatmaps

__all__ = ["infer"]

logger = logging.getLogger(__name__)


def infer(
    model: str | Path,
    dataset_dir: str | Path,
    output_dir: str | Path,
    device: str | torch.device = "cpu",
    batch_size: int = 256,
    heatmaps: int = 12,
) -> Path:
    """Score every image below ``dataset_dir``; write ``scores.csv`` and ``heatmaps/``; return the scores' path.

    Images of any size and format that `read_image` knows are converted and resized as in training. An unreadable one
    is skipped, named in the log and listed in ``skipped.csv``.

    Args:
        model: a model file that a training run wrote.
        dataset_dir: the folder; its sub-folders count too.
        output_dir: where to write.
        device: where to compute.
        batch_size: images at a time.
        heatmaps: how many of the highest, of the middle and of the lowest scores to draw.

    Raises:
        SaganError: when the folder is missing or has no readable image, the model file is broken, or a score is not
            finite.
    """
    folder, output = Path(dataset_dir), Path(output_dir)
    trained = load_trained(model, device)
    paths = _image_paths(folder)
    pixels, skipped = _decode(paths, trained.settings.image_size, trained.settings.in_channels)
    items: list[Item] = [{"image": str(path), "label": None} for path in paths if path not in skipped]
    if not items:
        raise SaganError(f"none of the {len(paths)} images in {folder} is readable; the first: {skipped[paths[0]]}")
    scores = score(trained.network, pixels, batch_size)
    check_finite(scores)
    write_heatmaps(output / "heatmaps", trained, pixels, items, scores, heatmaps)
    write_scores(output / "scores.csv", items, {"score": scores}, "score")
    write_whole(output / "skipped.csv", lambda unfinished: _write_skipped(unfinished, skipped))
    logger.info(f"{len(items)} images scored, {len(skipped)} skipped; results are in {output.resolve()}")
    return output / "scores.csv"


def _image_paths(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise SaganError(f"no folder {folder}; give the folder of images by --dataset_dir")
    paths = sorted(path for path in folder.rglob("*") if is_image_file(path) and path.is_file())
    if not paths:
        raise SaganError(f"no images in {folder}; its files should end in one of {', '.join(IMAGE_SUFFIXES)}")
    return paths


def _decode(paths: list[Path], size: tuple[int, int], channels: int) -> tuple[torch.Tensor, dict[Path, str]]:
    skipped: dict[Path, str] = {}

    def decode(path: Path) -> Pixels | None:
        try:
            return load_image(path, size, channels)
        except SaganError as error:
            skipped[path] = str(error)
            return None

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        shown = tqdm(pool.map(decode, paths), "decoding", len(paths), unit="image", disable=None)
        images = [image for image in shown if image is not None]
    for reason in skipped.values():
        logger.warning(f"skipped: {reason}")
    return torch.from_numpy(np.stack(images)) if images else torch.zeros(0), skipped


def _write_skipped(path: Path, skipped: dict[Path, str]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["image", "reason"])
        rows.writerows(sorted((str(image), reason) for image, reason in skipped.items()))
