"""Foreign patch interpolation: finds and weighs patches of another image (https://arxiv.org/abs/2011.04197)."""

from __future__ import annotations

from monai_sagan.methods.synthetic import SyntheticAnomalies
from monai_sagan.transforms.synthesis import FPI

__all__ = ["ForeignPatchInterpolation"]


class ForeignPatchInterpolation(SyntheticAnomalies):
    """Patches of another image, mixed in at the same place; the label is their opacity."""

    title = "FPI"
    recipe = FPI
