"""SAGAN's transforms, in MONAI's array and dictionary forms."""

from monai_sagan.transforms.array import AnomalyMap, PatchPositionEncoding, RandForeignPatchInterpolation
from monai_sagan.transforms.dictionary import AnomalyMapd, PatchPositionEncodingd, RandForeignPatchInterpolationd

__all__ = [
    "AnomalyMap",
    "AnomalyMapd",
    "PatchPositionEncoding",
    "PatchPositionEncodingd",
    "RandForeignPatchInterpolation",
    "RandForeignPatchInterpolationd",
]
