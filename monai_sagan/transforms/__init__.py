"""Transforms in MONAI's array and dictionary forms: SAGAN's, and those that make synthetic anomalies."""

from monai_sagan.transforms.array import (
    AnomalyMap,
    PatchPositionEncoding,
    RandCutPaste,
    RandForeignPatchInterpolation,
    RandNaturalSyntheticAnomaly,
    RandPatchInterpolation,
    RandPoissonPatch,
)
from monai_sagan.transforms.dictionary import (
    AnomalyMapd,
    PatchPositionEncodingd,
    RandCutPasted,
    RandForeignPatchInterpolationd,
    RandNaturalSyntheticAnomalyd,
    RandPatchInterpolationd,
    RandPoissonPatchd,
)

__all__ = [
    "AnomalyMap",
    "AnomalyMapd",
    "PatchPositionEncoding",
    "PatchPositionEncodingd",
    "RandCutPaste",
    "RandCutPasted",
    "RandForeignPatchInterpolation",
    "RandForeignPatchInterpolationd",
    "RandNaturalSyntheticAnomaly",
    "RandNaturalSyntheticAnomalyd",
    "RandPatchInterpolation",
    "RandPatchInterpolationd",
    "RandPoissonPatch",
    "RandPoissonPatchd",
]
