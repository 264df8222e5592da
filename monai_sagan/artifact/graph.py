"""Preprocessing, restoring and scoring as one module, the same in every format."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from monai_sagan.artifact.resizing import resize_like_pillow
from monai_sagan.data.batches import to_unit_range
from monai_sagan.metrics.conformal import cut_points
from monai_sagan.models.scorer import Scorer
from monai_sagan.models.trained import Trained


class ScoringGraph(nn.Module):
    """Resizes, scales, restores and scores images as a run's evaluation does.

    Input: ``image``, int32 (B, C, H, W) of any B, H and W, values as a reader gives them; ``bits``, int64 scalar: 8
    takes the values 0 to 255 as they are, 16 stretches each image from its own least and greatest value to 0 and 255
    (`monai_sagan.data.formats.scaling.stretch`).

    Output: ``image``, uint8 (B, C, h, w), what the network saw; ``restored``, float32 (B, C, h, w) in (-1, 1);
    ``anomaly_map``, float32 (B, 1, h, w) in [0, 1]; ``score``, float32 (B,) in [0, 1]; ``p_value``, float32 (B,) in
    (0, 1], see `monai_sagan.metrics.conformal_p_values`.
    """

    cuts: Tensor

    def __init__(self, scorer: Scorer, image_size: tuple[int, int], valid_normal_scores: Tensor) -> None:
        super().__init__()
        self.scorer = scorer
        self.image_size = image_size
        cuts = torch.from_numpy(cut_points(valid_normal_scores.cpu().numpy()))
        self.register_buffer("cuts", cuts.float().to(valid_normal_scores.device))
        self.eval()

    @classmethod
    def of(cls, trained: Trained) -> ScoringGraph:
        """The graph of a trained model."""
        return cls(trained.scorer, trained.settings.image_size, trained.valid_normal_scores)

    def forward(self, image: Tensor, bits: Tensor) -> tuple[Tensor, ...]:
        seen = resize_like_pillow(_to_8_bits(image, bits), *self.image_size)
        maps, score, restored = self.scorer(to_unit_range(seen))
        as_high = (self.cuts >= score[:, None]).sum(1)
        p_value = (1 + as_high).float() / (len(self.cuts) + 1)
        found = (maps, score, p_value) if restored is None else (restored, maps, score, p_value)
        return seen.to(torch.uint8), *found


def _to_8_bits(image: Tensor, bits: Tensor) -> Tensor:
    """Whole numbers from 0 to 255 in float64, (B, C, H, W)."""
    stretches = bits > 8
    low = torch.where(stretches, image.amin((1, 2, 3), keepdim=True), 0)
    high = torch.where(stretches, image.amax((1, 2, 3), keepdim=True), 255)
    share = (image.double() - low) / (high.double() - low).clamp(min=1)  # an even image becomes black
    return (share.clamp(0, 1) * 255).round()
