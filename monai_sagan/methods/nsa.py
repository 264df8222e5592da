"""Natural synthetic anomalies: resized and shifted patches without seams (https://arxiv.org/abs/2109.15222)."""

from __future__ import annotations

from monai_sagan.methods.synthetic import SyntheticAnomalies
from monai_sagan.transforms.synthesis import NSA

__all__ = ["NaturalSyntheticAnomalies"]


class NaturalSyntheticAnomalies(SyntheticAnomalies):
    """Patches of another image, resized and cloned seamlessly elsewhere; labels tell how much has changed."""

    title = "NSA"
    recipe = NSA
