"""All that happens between a reader's pixels and the score, as one module: the same in every format."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from monai_sagan.artifact.resizing import resize_like_pillow
from monai_sagan.data.batches import to_unit_range
from monai_sagan.engines.scoring import copy_shifts, restored_and_map
from monai_sagan.engines.trained import Trained
from monai_sagan.metrics.conformal import cut_points
from monai_sagan.transforms.functional import anomaly_score, smooth_map

__all__ = ["ScoringGraph"]


class ScoringGraph(nn.Module):
    """Resize, scale, restore and score images as a run's evaluation does.

    Input: ``image``, int32 (B, C, H, W) of any B, H and W, values as a reader gives them; ``bits``, int64 scalar: 8
    takes the values 0 to 255 as they are, 16 stretches each image from its own least and greatest value to 0 and 255
    (`monai_sagan.data.scaling.stretch`).

    Output: ``image``, uint8 (B, C, h, w), what the network saw; ``restored``, float32 (B, C, h, w) in (-1, 1);
    ``anomaly_map``, float32 (B, 1, h, w) in [0, 1]; ``score``, float32 (B,) in [0, 1]; ``p_value``, float32 (B,) in
    (0, 1], see `monai_sagan.metrics.conformal_p_values`.

    Args:
        network: the generator.
        image_size: height and width of what it sees.
        valid_normal_scores: (n,) of validation normals.
        passes: of shifted copies, see `monai_sagan.engines.scoring.restore`.
        smooth: of the maps, see there.
    """

    cuts: Tensor
    down: Tensor
    across: Tensor

    def __init__(
        self,
        network: nn.Module,
        image_size: tuple[int, int],
        valid_normal_scores: Tensor,
        passes: int = 1,
        smooth: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.image_size = image_size
        self.shifts = copy_shifts(passes, 1, min(image_size))
        self.smooth = dict(smooth or {"kind": "none"})
        cuts = torch.from_numpy(cut_points(valid_normal_scores.cpu().numpy()))
        self.register_buffer("cuts", cuts.float().to(valid_normal_scores.device))
        for name, side in zip(("down", "across"), image_size, strict=True):
            self.register_buffer(name, _gaussian(side, self.smooth))
        self.eval()

    @classmethod
    def of(cls, trained: Trained) -> ScoringGraph:
        """The graph of a trained model."""
        settings = trained.settings
        return cls(trained.network, settings.image_size, trained.valid_normal_scores, **settings.mapping())

    def forward(self, image: Tensor, bits: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        seen = resize_like_pillow(_to_8_bits(image, bits), *self.image_size)
        unit = to_unit_range(seen)
        restored, maps = restored_and_map(self.network, unit, self.shifts)
        if self.smooth["kind"] == "gaussian":
            maps = self.down @ maps @ self.across.T
        else:
            maps = smooth_map(maps, image=unit, **self.smooth)
        score = anomaly_score(maps)
        as_high = (self.cuts >= score[:, None]).sum(1)
        return seen.to(torch.uint8), restored, maps, score, (1 + as_high).float() / (len(self.cuts) + 1)


def _to_8_bits(image: Tensor, bits: Tensor) -> Tensor:
    """Whole numbers from 0 to 255 in float64, (B, C, H, W)."""
    stretches = bits > 8
    low = torch.where(stretches, image.amin((1, 2, 3), keepdim=True), 0)
    high = torch.where(stretches, image.amax((1, 2, 3), keepdim=True), 255)
    share = (image.double() - low) / (high.double() - low).clamp(min=1)  # an even image becomes black
    return (share.clamp(0, 1) * 255).round()


def _gaussian(side: int, smooth: Mapping[str, Any]) -> Tensor:
    """How a line of a map is smoothed, (side, side): what becomes of each of its pixels alone."""
    if smooth["kind"] != "gaussian":
        return torch.empty(0)
    return smooth_map(torch.eye(side)[:, None, :, None], **smooth)[:, 0, :, 0].T.contiguous()
