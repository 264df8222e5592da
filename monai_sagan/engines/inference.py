"""Scoring any folder of images by a trained model."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from monai_sagan.data.cache import HowToDecode, decode_images
from monai_sagan.data.datalist import Item
from monai_sagan.data.decode import IMAGE_SUFFIXES, Pixels
from monai_sagan.data.folder import list_images
from monai_sagan.data.readable import write_skipped
from monai_sagan.data.workers import Failure
from monai_sagan.engines.evaluation import check_finite, write_scores
from monai_sagan.engines.trained import load_trained
from monai_sagan.errors import SaganError
from monai_sagan.metrics import conformal_p_values
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
    slice_axis: int = 2,
    slice_range: Sequence[float] = (0.0, 1.0),
) -> Path:
    """Score every image below ``dataset_dir``; write ``scores.csv`` and ``heatmaps/``; return the scores' path.

    Beside each score stands its p-value against the validation normals of the model's run.

    Images of any size and format that `read_image` knows are converted and resized as in training. An unreadable one
    is skipped, named in the log and listed in ``skipped.csv``.

    Args:
        model: a model file that a training run wrote.
        dataset_dir: the folder; its sub-folders count too.
        output_dir: where to write.
        device: where to compute.
        batch_size: images at a time.
        heatmaps: how many of the highest, of the middle and of the lowest scores to draw.
        slice_axis: of NIfTI volumes, see `monai_sagan.data.folder`; each slice is an image.
        slice_range: the part of a volume that is scored, two shares from 0 to 1.

    Raises:
        SaganError: when the folder is missing or has no readable image, the model file is broken, or a score is not
            finite.
    """
    folder, output = Path(dataset_dir), Path(output_dir)
    trained = load_trained(model, device)
    found = _image_paths(folder, output.resolve(), slice_axis, (slice_range[0], slice_range[1]))
    paths, pixels, skipped = _decode(found, trained.settings.decoding())
    if not paths:
        raise SaganError(f"none of the {len(found)} images in {folder} is readable; the first: {skipped[found[0]]}")
    items: list[Item] = [{"image": path, "label": None} for path in paths]
    scores, _ = trained.score(pixels, batch_size)
    check_finite(scores)
    write_heatmaps(output / "heatmaps", trained, pixels, items, scores, heatmaps)
    p_values = torch.from_numpy(conformal_p_values(trained.valid_normal_scores, scores))
    write_scores(output / "scores.csv", items, {"score": scores}, "score", p_values)
    write_skipped(output / "skipped.csv", skipped)
    logger.info(f"{len(items)} images scored, {len(skipped)} skipped; results are in {output.resolve()}")
    return output / "scores.csv"


def _image_paths(folder: Path, output: Path, slice_axis: int, slice_range: tuple[float, float]) -> list[str]:
    if not folder.is_dir():
        raise SaganError(f"no folder {folder}; give the folder of images by --dataset_dir")
    # The heat maps of an earlier call are no input, should they lie in the folder.
    found = list_images(folder, slice_axis, slice_range)
    paths = [name for path, names in found if output not in path.resolve().parents for name in names]
    if not paths:
        raise SaganError(f"no images in {folder}; its files should end in one of {', '.join(IMAGE_SUFFIXES)}")
    return paths


def _decode(paths: list[str], how: HowToDecode) -> tuple[list[str], torch.Tensor, dict[str, str]]:
    """The images that could be read, uint8 (N, C, H, W), and why the others could not."""
    pixels: dict[str, Pixels] = {}
    skipped: dict[str, str] = {}
    for path, result in tqdm(decode_images(paths, how), "decoding", len(paths), unit="image", disable=None):
        if isinstance(result, tuple):
            pixels[path] = result[0]
        else:
            skipped[path] = result.reason if isinstance(result, Failure) else f"{path} has {result}"
            logger.warning(f"skipped: {skipped[path]}")
    return list(pixels), torch.from_numpy(np.stack([*pixels.values()])) if pixels else torch.zeros(0), skipped
