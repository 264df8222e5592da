"""Poisson image interpolation: patches of another image without seams (https://arxiv.org/abs/2107.02622)."""

from __future__ import annotations

from monai_sagan.methods.synthetic import SyntheticAnomalies
from monai_sagan.transforms.synthesis import PII

__all__ = ["PoissonImageInterpolation"]


class PoissonImageInterpolation(SyntheticAnomalies):
    """Patches of another image, cloned seamlessly at the same place; the label is their opacity."""

    title = "PII"
    recipe = PII
