"""Score a folder of images with an exported model."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from monai_sagan.data.formats.tasks import HowToDecode
from monai_sagan.data.training_range import training_range_from_json
from monai_sagan.models.facts import Facts, read_facts
from monai_sagan.output_folder import hold_folder
from monai_sagan.pictures.overlay import Colors
from monai_sagan.predict.folder import FolderScorer
from monai_sagan.predict.output import one_line_for_disk_errors
from monai_sagan.predict.rules import ModelFacts
from monai_sagan.predict.summary import Summary

__all__ = ["predict"]


def predict(
    artifact: str | Path,
    folder: str | Path,
    output: str | Path,
    slice_axis: int = 2,
    slice_range: Sequence[float] = (0.0, 1.0),
    overlays: str = "all",
    jobs: int | None = None,
    max_unreadable: float = 1.0,
) -> Summary:
    """Score every image below ``folder`` with an exported model.

    `monai_sagan.predict.folder.FolderScorer` describes the options and the files written.

    >>> from PIL import Image
    >>> from monai_sagan.artifact.export import export_artifact
    >>> Path("images").mkdir()
    >>> Image.new("L", (64, 64), 90).save("images/a.png")
    >>> artifact = export_artifact("run/model.pt", "artifact")
    >>> summary = predict("artifact", "images", "predicted", jobs=1)
    >>> summary.scored, summary.skipped
    (1, 0)

    Raises:
        SaganError: for an unusable artifact, folder or option; when no image could be scored or too many are
            unreadable; when the output cannot be written, is in use, or holds anything else.
    """
    from monai_sagan.artifact import open_artifact

    facts = _model_facts(read_facts(Path(artifact)))
    scorer = FolderScorer(
        folder,
        output,
        facts,
        slice_axis=slice_axis,
        slice_range=slice_range,
        overlays=overlays,
        max_unreadable=max_unreadable,
        jobs=jobs,
    )
    model = open_artifact(artifact)
    with (
        one_line_for_disk_errors(scorer.output),
        hold_folder(scorer.output, "prediction"),
        closing(scorer.batches()) as batches,
    ):
        for pixels in batches:
            outputs = model.run(pixels.astype(np.int32), 8)
            scorer.keep(outputs["score"], outputs["anomaly_map"])
    return scorer.summary()


def _model_facts(facts: Facts) -> ModelFacts:
    model: dict[str, Any] = facts["model"]
    settings = model["settings"]
    height, width = settings["image_size"]
    return ModelFacts(
        identity={"artifact": facts["sha256"]},
        how=HowToDecode((height, width), settings["in_channels"], settings["preparation"], settings["min_foreground"]),
        colors=Colors(model["scale"], model["pixel_threshold"]),
        # The stored threshold and the graph's p-values of older artifacts depend on rounding for equal scores.
        valid_normal_scores=model["valid_normal_scores"],
        training_range=training_range_from_json(facts.get("typical")),
    )
