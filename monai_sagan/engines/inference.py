"""Inference on a folder of images: the components of ``inference.json``, and one call that runs them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import torch
from ignite.engine import Engine, Events
from monai.engines import SupervisedEvaluator
from monai.inferers import Inferer
from monai.transforms import FlattenSubKeysd
from torch import Tensor, nn

from monai_sagan import run_files
from monai_sagan.data.batches import images_at_a_time, to_unit_range
from monai_sagan.models.facts import digest, read_facts
from monai_sagan.models.scorer import Scorer
from monai_sagan.models.trained import Trained, load_trained
from monai_sagan.models.weights import is_artifact
from monai_sagan.pictures.overlay import Colors
from monai_sagan.predict.folder import FolderScorer
from monai_sagan.predict.rules import ModelFacts
from monai_sagan.predict.summary import Summary
from monai_sagan.runs.start import end_run, start_run
from monai_sagan.settings import Settings

__all__ = ["AnomalyInferer", "infer"]

logger = logging.getLogger(__name__)


class FolderBatches:
    """Batches of ``image`` (B, C, H, W) in [-1, 1]: the images below a folder that have no results yet.

    `monai_sagan.predict.folder.FolderScorer` decodes the images and keeps the results; the other arguments are its own.

    Args:
        trained: the model.
        model: the path that ``trained`` was loaded from; it identifies the model when a run resumes.
        batch_size: B for images of up to 64 x 64 pixels, fewer for larger ones; the first and the last batches are
            smaller.

    Raises:
        SaganError: for an unusable folder or option.
    """

    def __init__(
        self,
        folder: str | Path,
        trained: Trained,
        model: str | Path,
        output_dir: str | Path,
        batch_size: int = 256,
        slice_axis: int = 2,
        slice_range: Sequence[float] = (0.0, 1.0),
        overlays: str = "all",
        max_unreadable: float = 1.0,
        jobs: int | None = None,
    ) -> None:
        facts = ModelFacts(
            identity=_identity(model) | ({"amp": True} if trained.amp else {}),
            how=trained.settings.decoding(),
            colors=Colors(trained.scale, trained.pixel_threshold),
            valid_normal_scores=trained.valid_normal_scores,
            training_range=trained.training_range,
        )
        at_a_time = images_at_a_time(batch_size, trained.settings.image_size)
        self.scorer = FolderScorer(
            folder, output_dir, facts, at_a_time, slice_axis, slice_range, overlays, max_unreadable, jobs
        )
        self._batches = self.scorer.batches()

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        self._batches = self.scorer.batches()
        return ({"image": to_unit_range(torch.from_numpy(pixels))} for pixels in self._batches)

    def close(self) -> None:
        """Complete the tables, even if not all batches were read."""
        self._batches.close()


def _identity(model: str | Path) -> dict[str, str]:
    if is_artifact(model):
        path = Path(model)
        return {"artifact": read_facts(path if path.is_dir() else path.parent)["sha256"]}
    return {"model": digest(Path(model))}


class AnomalyInferer(Inferer):
    """A MONAI inferer that detects anomalies in images (B, C, H, W) in [-1, 1].

    A call returns ``anomaly_map`` (B, 1, H, W), ``anomaly_score`` (B,) and, for methods that restore, ``restored``
    (B, C, H, W) in [-1, 1]. The network's mode is left to the evaluator.

    >>> trained = load_trained("run/model.pt")
    >>> output = AnomalyInferer(trained.settings)(torch.zeros(2, 1, 64, 64), trained.network)
    >>> output["anomaly_score"].shape
    torch.Size([2])

    Args:
        settings: of the run that trained the model.
        batch_size: images of up to 64 x 64 pixels at a time, fewer for larger ones; each shifted copy counts.
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


class KeepScores:
    """Keep an evaluator's outputs ``anomaly_score`` (B,) and ``anomaly_map`` (B, 1, H, W) as results of a folder."""

    def __init__(self, images: FolderBatches) -> None:
        self.scorer = images.scorer

    def attach(self, engine: Engine) -> None:
        """Keep the results of each iteration of ``engine``, an evaluator."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._keep)

    def _keep(self, engine: Engine) -> None:
        output: dict[str, Tensor] = engine.state.output  # type: ignore[assignment]
        maps = output["anomaly_map"].cpu().numpy() if self.scorer.needs_maps else None
        self.scorer.keep(output["anomaly_score"].cpu().numpy(), maps)


def score_folder(evaluator: SupervisedEvaluator, images: FolderBatches) -> Summary:
    """Run an evaluator, with a `KeepScores` handler, over the images of a folder; log and return the summary.

    The tables are complete even after an error.

    Raises:
        SaganError: when no image could be scored, too many are unreadable, or the output cannot be written.
    """
    with closing(images):
        evaluator.run()
    summary = images.scorer.summary()
    logger.info(str(summary))
    return summary


def infer(
    model: str | Path,
    dataset_dir: str | Path,
    output_dir: str | Path,
    device: str | torch.device = "cpu",
    batch_size: int = 256,
    overlays: str = "all",
    slice_axis: int = 2,
    slice_range: Sequence[float] = (0.0, 1.0),
    max_unreadable: float = 1.0,
    amp: bool = False,
    jobs: int | None = None,
) -> Path:
    """Score every image below ``dataset_dir`` like ``inference.json``; return the path of ``scores.csv``.

    >>> from PIL import Image
    >>> Path("images").mkdir()
    >>> Image.new("L", (64, 64), 90).save("images/a.png")
    >>> print(infer("run/model.pt", "images", "scored", jobs=1).name)
    scores.csv

    Args:
        model: a model file or safetensors artifact, see `load_trained`.
        dataset_dir: the folder of images, see `monai_sagan.predict.folder.FolderScorer` for it and its options.
        output_dir: new, empty, or the output of an interrupted call, which is resumed.
        device: where to compute.
        batch_size: images at a time.
        amp: restore in bfloat16; p-values compare with the validation normals' scores in float32.

    Raises:
        SaganError: for an unusable folder, model file or option; when no image could be scored or too many are
            unreadable; when the output cannot be written, is in use, or holds anything else.
    """
    start_run(output_dir, dataset_dir=dataset_dir, model=model, device=device, amp=amp)
    try:
        trained = load_trained(model, device, amp)
        options = (batch_size, slice_axis, slice_range, overlays, max_unreadable, jobs)
        images = FolderBatches(dataset_dir, trained, model, output_dir, *options)
        evaluator = SupervisedEvaluator(
            device=torch.device(device),
            val_data_loader=images,
            network=trained.network,
            inferer=AnomalyInferer(trained.settings, batch_size, amp),
            postprocessing=FlattenSubKeysd("pred"),
            val_handlers=[KeepScores(images)],
            decollate=False,
        )
        score_folder(evaluator, images)
    finally:
        end_run(output_dir)
    return Path(output_dir) / run_files.SCORES
