"""Scoring any folder of images by a trained model: the parts of ``inference.json``, and one call that joins them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.engines import SupervisedEvaluator
from monai.inferers import Inferer
from monai.transforms import FlattenSubKeysd
from torch import Tensor, nn
from tqdm import tqdm

from monai_sagan.data.batches import EvaluationBatches, images_at_a_time
from monai_sagan.data.cache import decode_images
from monai_sagan.data.datalist import Item
from monai_sagan.data.datasets.folder import list_images
from monai_sagan.data.datasets.unread import no_images, warn_of_unread
from monai_sagan.data.formats.decode import Pixels
from monai_sagan.data.formats.tasks import HowToDecode, LeftOut, Unreadable
from monai_sagan.data.unreadable import by_file, check_unreadable, write_skipped
from monai_sagan.engines.evaluation import check_finite, write_scores
from monai_sagan.engines.unlike import tell_unlike, unlike_training
from monai_sagan.errors import SaganError
from monai_sagan.metrics import conformal_p_values
from monai_sagan.metrics.operating import SPECIFICITY, flag_score, normal_threshold
from monai_sagan.models.scorer import Scorer
from monai_sagan.models.trained import Trained, load_trained
from monai_sagan.pictures.heat_maps import write_heatmaps
from monai_sagan.records import replace_together
from monai_sagan.runs.start import end_run, start_run
from monai_sagan.settings import Settings

__all__ = ["AnomalyInferer", "FolderBatches", "WriteScores", "infer"]

logger = logging.getLogger(__name__)


class FolderBatches(EvaluationBatches):
    """Batches of ``image`` (B, C, H, W) in [-1, 1]: every readable image below a folder, decoded as in training.

    Images of any size and format that `read_image` knows are converted and resized. An unreadable one is skipped,
    named in the log and kept in ``skipped`` with the reason.

    Args:
        folder: its sub-folders count too.
        settings: of the run that trained the model.
        output_dir: where results go; images below it, such as heat maps of an earlier call, are no input.
        batch_size: B for images of up to 64 x 64 pixels, fewer of larger ones; the last batch may be smaller.
        slice_axis: of NIfTI volumes, see `monai_sagan.data.datasets.folder`; each slice is an image.
        slice_range: the part of a volume that is taken, two shares from 0 to 1.
        max_unreadable: share of unreadable images, 0 to 1, above which there is an error.

    Raises:
        SaganError: when the folder is missing, has no readable image, or too many unreadable ones.
    """

    def __init__(
        self,
        folder: str | Path,
        settings: Settings,
        output_dir: str | Path,
        batch_size: int = 256,
        slice_axis: int = 2,
        slice_range: Sequence[float] = (0.0, 1.0),
        max_unreadable: float = 1.0,
    ) -> None:
        check_unreadable({}, 0, max_unreadable)
        output = Path(output_dir).resolve()
        found = _image_paths(Path(folder), output, slice_axis, (slice_range[0], slice_range[1]))
        paths, pixels, unreadable, left_out = _decode(found, settings.decoding())
        self.items: list[Item] = [{"image": path, "label": None} for path in paths]
        self.pixels = pixels
        self.unreadable, self.left_out = unreadable, left_out
        self.skipped: dict[str, str] = unreadable | left_out
        if not paths:
            reason = self.skipped[found[0]]
            raise SaganError(f"none of the {len(found)} images in {folder} is readable; the first: {reason}")
        check_unreadable(unreadable, len(paths) + len(unreadable), max_unreadable)
        super().__init__(pixels, batch_size=batch_size)


class AnomalyInferer(Inferer):
    """Restore images (B, C, H, W) in [-1, 1] and map what differs, as the settings of the model's run say.

    A call returns ``restored`` (B, C, H, W) in (-1, 1), ``anomaly_map`` (B, 1, H, W) in [0, 1] and ``anomaly_score``
    (B,) in [0, 1]; it leaves the network's mode to the evaluator.

    Args:
        settings: of the run that trained the model.
        batch_size: images of up to 64 x 64 pixels at a time, fewer of larger ones, each pass over shifted copies
            counted.
        amp: restore in bfloat16; restored versions, maps and scores stay in float32.
    """

    def __init__(self, settings: Settings, batch_size: int = 256, amp: bool = False) -> None:
        super().__init__()
        self.settings = settings
        self.step = max(images_at_a_time(batch_size, settings.image_size) // settings.map_passes, 1)
        self.amp = amp

    def __call__(self, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        scorer = Scorer.of(cast(nn.Module, network), self.settings, self.amp)
        found = [scorer(part) for part in inputs.split(self.step)]
        maps, scores, restored = (torch.cat(tensors) for tensors in zip(*found, strict=True))
        return {"restored": restored, "anomaly_map": maps, "anomaly_score": scores}


class WriteScores:
    """After an evaluator's run write ``scores.csv``, ``skipped.csv`` and ``heatmaps/``.

    Beside each score stand its p-value against the validation normals of the model's run; a flag, 1 above the threshold
    for a specificity of 95 % on them, else 0; and a warning where the image is unlike the training images, see
    `unlike_training`, which then has no flag. The evaluator's output must have ``anomaly_score`` (B,) in the
    order of the images.

    Args:
        trained: the model.
        images: what the evaluator is given.
        output_dir: where to write; what is there of an earlier call is replaced.
        heatmaps: how many of the highest, of the middle and of the lowest scores to draw.

    Raises:
        SaganError: when a score is not finite, or the results cannot be written; nothing is written then.
    """

    def __init__(self, trained: Trained, images: FolderBatches, output_dir: str | Path, heatmaps: int = 12) -> None:
        self.trained = trained
        self.images = images
        self.output = Path(output_dir)
        self.heatmaps = heatmaps
        self._scores: list[Tensor] = []

    def attach(self, engine: Engine) -> None:
        """Collect the scores of ``engine``, an evaluator, and write them at the end of its epoch."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._scores.clear)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._keep)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._write)

    def _keep(self, engine: Engine) -> None:
        output: dict[str, Tensor] = engine.state.output  # type: ignore[assignment]
        self._scores.append(output["anomaly_score"].cpu())

    def _write(self) -> None:
        scores, items, trained = torch.cat(self._scores), self.images.items, self.trained
        check_finite(scores)
        pixels = self.images.pixels
        p_values = torch.from_numpy(conformal_p_values(trained.valid_normal_scores, scores))
        threshold = normal_threshold(trained.valid_normal_scores, SPECIFICITY)
        warnings = unlike_training(pixels, trained.typical)
        flags = [flag_score(score, threshold, text) for score, text in zip(scores.tolist(), warnings, strict=True)]
        with replace_together(self.output) as draft:
            write_heatmaps(draft / "heatmaps", trained, pixels, items, scores, self.heatmaps, warnings)
            write_scores(draft / "scores.csv", items, {"score": scores}, "score", p_values, flags, warnings)
            write_skipped(draft / "skipped.csv", self.images.unreadable, self.images.left_out)
        for line in tell_unlike([item["image"] for item in items], warnings):
            logger.warning(line)
        flagged = (
            "no threshold to compare with" if threshold is None else f"{sum(map(bool, flags))} above the threshold"
        )
        counted = f"{len(items)} images scored, {flagged}, {len(self.images.skipped)} skipped"
        logger.info(f"{counted}; results are in {self.output.resolve()}")


def infer(
    model: str | Path,
    dataset_dir: str | Path,
    output_dir: str | Path,
    device: str | torch.device = "cpu",
    batch_size: int = 256,
    heatmaps: int = 12,
    slice_axis: int = 2,
    slice_range: Sequence[float] = (0.0, 1.0),
    max_unreadable: float = 1.0,
    amp: bool = False,
) -> Path:
    """What ``inference.json`` does: score every image below ``dataset_dir``; return the path of ``scores.csv``.

    Args:
        model: what `load_trained` reads.
        dataset_dir: see `FolderBatches`.
        output_dir: where to write, see `WriteScores`.
        device: where to compute.
        batch_size: images at a time.
        heatmaps: see `WriteScores`.
        slice_axis: see `FolderBatches`.
        slice_range: see there.
        max_unreadable: see there.
        amp: restore in bfloat16; p-values compare with scores that float32 gave the validation normals.

    Raises:
        SaganError: when the folder is missing or has no readable image, the model file is broken, or a score is not
            finite.
    """
    start_run(output_dir, dataset_dir=dataset_dir, model=model, device=device, amp=amp)
    try:
        trained = load_trained(model, device, amp)
        images = FolderBatches(
            dataset_dir, trained.settings, output_dir, batch_size, slice_axis, slice_range, max_unreadable
        )
        SupervisedEvaluator(
            device=torch.device(device),
            val_data_loader=images,
            network=trained.network,
            inferer=AnomalyInferer(trained.settings, batch_size, amp),
            postprocessing=FlattenSubKeysd("pred"),
            val_handlers=[WriteScores(trained, images, output_dir, heatmaps)],
            decollate=False,
        ).run()
    finally:
        end_run(output_dir)
    return Path(output_dir) / "scores.csv"


def _image_paths(folder: Path, output: Path, slice_axis: int, slice_range: tuple[float, float]) -> list[str]:
    if not folder.is_dir():
        raise SaganError(f"no folder {folder}; give the folder of images by --dataset_dir")
    # The heat maps of an earlier call are no input, should they lie in the folder.
    listed = list_images(folder, slice_axis, slice_range)
    found = [(path, names) for path, names in listed if output not in path.resolve().parents]
    if not any(names for _, names in found):
        raise no_images(folder, [path for path, _ in found])
    warn_of_unread(folder, [path for path, names in found if not names])
    return [name for _, names in found for name in names]


def _decode(paths: list[str], how: HowToDecode) -> tuple[list[str], Tensor, dict[str, str], dict[str, str]]:
    """The images that could be read, uint8 (N, C, H, W); why others could not; why the rest is left out."""
    pixels: dict[str, Pixels] = {}
    unreadable: dict[str, str] = {}
    left_out: dict[str, str] = {}
    for result in tqdm(decode_images(paths, how), "decoding", len(paths), unit="image", disable=None):
        if isinstance(result, Unreadable):
            unreadable[result.image] = result.reason
        elif isinstance(result, LeftOut):
            left_out[result.image] = f"{result.image} has {result.reason}"
        else:
            assert result.pixels is not None
            pixels[result.image] = result.pixels
    for reason in [*by_file(unreadable).values(), *left_out.values()]:
        logger.warning(f"skipped: {reason}")
    stacked = torch.from_numpy(np.stack([*pixels.values()])) if pixels else torch.zeros(0)
    return list(pixels), stacked, unreadable, left_out
