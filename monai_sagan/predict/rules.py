"""The rules that turn an image's score into a p-value, a warning and a flag, and the facts that they rest on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from monai_sagan.data.formats.scaling import Pixels
from monai_sagan.data.formats.tasks import HowToDecode
from monai_sagan.data.training_range import range_deviations
from monai_sagan.metrics import conformal_p_values
from monai_sagan.metrics.operating import SPECIFICITY, flag_score, normal_threshold
from monai_sagan.pictures.overlay import Colors


@dataclass(frozen=True)
class ModelFacts:
    """Facts about a model that scoring a folder needs.

    Args:
        identity: values unique to the model, compared when a run resumes.
        how: the decoding that the model was trained with.
        colors: of its anomaly maps.
        valid_normal_scores: (V,), of its validation normals.
        training_range: of its training images, see `monai_sagan.data.training_range`, or None.
    """

    identity: Mapping[str, Any]
    how: HowToDecode
    colors: Colors
    valid_normal_scores: Any
    training_range: dict[str, Any] | None = None


class ScoreRules:
    """P-values, warnings and flags of scores, from a model's validation normals and training images.

    Attributes:
        threshold: for a specificity of 95 % on the validation normals; None where these are too few.

    Args:
        valid_normal_scores: (V,), of the validation normals.
        training_range: of the training images, see `monai_sagan.data.training_range`; None gives no warnings.

    Example:
        >>> import numpy as np
        >>> rules = ScoreRules([0.1, 0.2, 0.3], None)
        >>> rules.rows([0.25], np.zeros((1, 1, 64, 64), np.uint8))
        [{'score': 0.25, 'p_value': 0.5, 'warning': '', 'flag': None}]
    """

    def __init__(self, valid_normal_scores: Any, training_range: dict[str, Any] | None) -> None:
        self.valid, self.training_range = valid_normal_scores, training_range
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
            warning = "; ".join(range_deviations(image, self.training_range))
            flag = flag_score(float(score), self.threshold, warning)
            rows.append({"score": float(score), "p_value": float(p_value), "warning": warning, "flag": flag})
        return rows
