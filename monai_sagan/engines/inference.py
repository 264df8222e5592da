"""Scoring any folder of images by a trained model: the parts of ``inference.json``, and one call that joins them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import torch
from ignite.engine import Engine, Events
from monai.engines import SupervisedEvaluator
from monai.inferers import Inferer
from monai.transforms import FlattenSubKeysd
from torch import Tensor, nn
from tqdm import tqdm

from monai_sagan.data.array_store import ArrayFile, StoredImages, write_rows
from monai_sagan.data.batches import EvaluationBatches, images_at_a_time
from monai_sagan.data.datalist import Item
from monai_sagan.data.datasets.unread import no_images, warn_of_unread
from monai_sagan.data.formats.scaling import Pixels
from monai_sagan.data.formats.slices import check_slices
from monai_sagan.data.formats.tasks import DecodedImage, HowToDecode, Unreadable
from monai_sagan.data.unreadable import by_file, check_unreadable, write_skipped
from monai_sagan.engines.evaluation import check_finite
from monai_sagan.engines.unlike import tell_unlike
from monai_sagan.errors import SaganError
from monai_sagan.models.scorer import Scorer
from monai_sagan.models.trained import Trained, load_trained
from monai_sagan.pictures.heat_maps import write_heatmaps
from monai_sagan.predict.decoding import decode_all
from monai_sagan.predict.folder import ScoreRules, list_folder, skip_reason
from monai_sagan.records import replace_together
from monai_sagan.runs.score_table import write_scores
from monai_sagan.runs.start import end_run, start_run
from monai_sagan.settings import Settings

__all__ = ["AnomalyInferer", "FolderBatches", "WriteScores", "infer"]

logger = logging.getLogger(__name__)


class FolderBatches(EvaluationBatches):
    """Batches of ``image`` (B, C, H, W) in [-1, 1]: every readable image below a folder, decoded as in training.

    Images of any size and format that `read_image` knows are converted and resized, every frame of a DICOM or picture
    file and every slice of a NIfTI volume. Their pixels wait in a temporary file, so that memory does not grow with the
    folder. An unreadable one is skipped, named in the log and kept in ``skipped`` with the reason.

    Args:
        folder: its sub-folders count too.
        settings: of the run that trained the model.
        output_dir: where results go; heat maps and overlays of an earlier call below it are not input.
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
        files = _list(Path(folder), Path(output_dir), *check_slices(slice_axis, slice_range))
        self.items: list[Item] = []
        self.unreadable: dict[str, str] = {}
        self.left_out: dict[str, str] = {}
        self.pixels = self._decode(files, settings.decoding())
        self.skipped: dict[str, str] = self.unreadable | self.left_out
        total = len(self.items) + len(self.skipped)
        if not self.items:
            reason = next(iter(self.skipped.values()))
            raise SaganError(f"none of the {total} images in {folder} is readable; the first: {reason}")
        check_unreadable(self.unreadable, len(self.items) + len(self.unreadable), max_unreadable)
        super().__init__(self.pixels, batch_size=batch_size)

    def _decode(self, files: list[list[str]], how: HowToDecode) -> StoredImages:
        """Sort the images by their results; the pixels of those that could be decoded wait on the disk."""
        with TemporaryDirectory(prefix="monai-sagan-", ignore_cleanup_errors=True) as place:
            path, shape = Path(place) / "pixels.npy", (how.channels, *how.image_size)
            try:
                count = write_rows(path, self._decoded(files, how), shape)
            except OSError as error:
                raise SaganError(
                    f"no room for decoded images in {place} ({error.strerror}); set TMPDIR to a larger disk"
                ) from None
            stored = StoredImages(ArrayFile(path), range(count))  # the open file outlives its name
        for reason in [*by_file(self.unreadable).values(), *self.left_out.values()]:
            logger.warning(f"skipped: {reason}")
        return stored

    def _decoded(self, files: list[list[str]], how: HowToDecode) -> Iterator[Pixels]:
        bar = tqdm(decode_all(files, how, 0), "decoding", len(files), unit="file", disable=None)
        for result in (result for results in bar for result in results):
            if isinstance(result, DecodedImage):
                assert result.pixels is not None
                self.items.append({"image": result.image, "label": None})
                yield result.pixels
            else:
                skipped = self.unreadable if isinstance(result, Unreadable) else self.left_out
                skipped[result.image] = skip_reason(result)


class AnomalyInferer(Inferer):
    """Detect anomalies in images (B, C, H, W) in [-1, 1], as the settings of the model's run say.

    A call returns ``anomaly_map`` (B, 1, H, W), ``anomaly_score`` (B,) and, of methods that restore, ``restored``
    (B, C, H, W) in [-1, 1]; it leaves the network's mode to the evaluator.

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
        output = {
            "anomaly_map": torch.cat([one.anomaly_map for one in found]),
            "anomaly_score": torch.cat([one.score for one in found]),
        }
        restored = [one.restored for one in found if one.restored is not None]
        return output | ({"restored": torch.cat(restored)} if restored else {})


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
        self.rules = ScoreRules(trained.valid_normal_scores, trained.typical)
        self._rows: list[dict[str, Any]] = []

    def attach(self, engine: Engine) -> None:
        """Collect the scores of ``engine``, an evaluator, and write them at the end of its epoch."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._rows.clear)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._keep)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._write)

    def _keep(self, engine: Engine) -> None:
        output: dict[str, Tensor] = engine.state.output  # type: ignore[assignment]
        scores, start = output["anomaly_score"].cpu(), len(self._rows)
        pixels = self.images.pixels[start : start + len(scores)].numpy()
        self._rows += self.rules.rows(scores.tolist(), pixels)

    def _write(self) -> None:
        scores = torch.tensor([row["score"] for row in self._rows])
        p_values = torch.tensor([row["p_value"] for row in self._rows], dtype=torch.float64)
        check_finite(scores)
        flags, warnings = ([row[name] for row in self._rows] for name in ("flag", "warning"))
        items, images = self.images.items, self.images
        with replace_together(self.output) as draft:
            write_heatmaps(draft / "heatmaps", self.trained, images.pixels, items, scores, self.heatmaps, warnings)
            write_scores(draft / "scores.csv", items, {"score": scores}, "score", p_values, flags, warnings)
            write_skipped(draft / "skipped.csv", images.unreadable, images.left_out)
        for line in tell_unlike([item["image"] for item in items], warnings):
            logger.warning(line)
        known = self.rules.threshold is not None
        flagged = f"{sum(map(bool, flags))} above the threshold" if known else "no threshold to compare with"
        counted = f"{len(items)} images scored, {flagged}, {len(images.skipped)} skipped"
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


def _list(folder: Path, output: Path, axis: int, keep: tuple[float, float]) -> list[list[str]]:
    """The names of the images of each file below a folder."""
    if not folder.is_dir():
        raise SaganError(f"no folder {folder}; give the folder of images by --dataset_dir")
    found = list_folder(folder, output, axis, keep)
    if not any(found.values()):
        raise no_images(folder, found)
    warn_of_unread(folder, [path for path, names in found.items() if not names])
    return [names for names in found.values() if names]
