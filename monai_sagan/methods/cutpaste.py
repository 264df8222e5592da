"""CutPaste: finds pieces of an image that were moved to another place in it (https://arxiv.org/abs/2104.04015)."""

from __future__ import annotations

from monai_sagan.methods.synthetic import SyntheticAnomalies
from monai_sagan.transforms.synthesis import CUTPASTE

__all__ = ["CutPaste"]


class CutPaste(SyntheticAnomalies):
    """Hard copies of patches, at another place of the same image; the labels are 0 and 1."""

    title = "CutPaste"
    recipe = CUTPASTE
