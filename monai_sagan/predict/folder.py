"""The rules for scoring a folder that ``monai-sagan predict`` and ``inference.json`` share; torch is not needed.

They list the same files, decode the same frames and slices, and give a score the same p-value, warning and flag.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from monai_sagan.data.datasets.folder import list_images
from monai_sagan.data.formats.scaling import Pixels
from monai_sagan.data.formats.tasks import LeftOut, Unreadable
from monai_sagan.data.training_range import compare_typical
from monai_sagan.metrics import conformal_p_values
from monai_sagan.metrics.operating import SPECIFICITY, flag_score, normal_threshold

__all__ = ["ScoreRules", "list_folder", "skip_reason"]

PICTURES = ("overlays", "heatmaps")  # that are written below an output folder


def list_folder(folder: Path, output: Path, slice_axis: int, slice_range: tuple[float, float]) -> dict[Path, list[str]]:
    """The files below a folder, in order, with the names of their images; empty for a file that is not an image.

    Pictures that an earlier call wrote below ``output`` are not input.

    Args:
        folder: its sub-folders count too.
        output: where results go; it may lie inside the folder.
        slice_axis: of NIfTI volumes, 0, 1 or 2, see `monai_sagan.data.datasets.folder`.
        slice_range: the part of a volume that is taken, two rising shares from 0 to 1.
    """
    return dict(list_images(folder, slice_axis, slice_range, [output / name for name in PICTURES]))


def skip_reason(result: Unreadable | LeftOut) -> str:
    """Why an image has no score, in one line that names it.

    Args:
        result: of decoding it.
    """
    return result.reason if isinstance(result, Unreadable) else f"{result.image} has {result.reason}"


class ScoreRules:
    """P-values, warnings and flags of scores, by what a model knows of its validation and training images.

    Attributes:
        threshold: for a specificity of 95 % on the validation normals; None where these are too few.

    Args:
        valid_normal_scores: (V,), of the validation normals.
        typical: of the training images, see `monai_sagan.data.training_range.measure_typical`; None warns of nothing.
    """

    def __init__(self, valid_normal_scores: Any, typical: dict[str, Any] | None) -> None:
        self.valid, self.typical = valid_normal_scores, typical
        self.threshold = normal_threshold(valid_normal_scores, SPECIFICITY)

    def rows(self, scores: Sequence[float] | Pixels, pixels: Pixels) -> list[dict[str, Any]]:
        """The ``score``, ``p_value``, ``warning`` and ``flag`` of each image, see `flag_score`.

        Args:
            scores: (B,).
            pixels: uint8 (B, C, H, W), as the network sees them.
        """
        p_values = conformal_p_values(self.valid, np.nan_to_num(np.asarray(scores)))
        rows = []
        for score, p_value, image in zip(scores, p_values, pixels, strict=True):
            warning = "; ".join(compare_typical(image, self.typical))
            flag = flag_score(float(score), self.threshold, warning)
            rows.append({"score": float(score), "p_value": float(p_value), "warning": warning, "flag": flag})
        return rows
