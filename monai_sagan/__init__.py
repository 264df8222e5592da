"""SAGAN, the Spatial-aware Attention GAN for semi-supervised anomaly detection (arXiv 2405.12872), for MONAI."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from monai_sagan._version import __version__

if TYPE_CHECKING:
    from monai_sagan.bundle import bundle_path
    from monai_sagan.engines import SaganTrainer
    from monai_sagan.errors import SaganError
    from monai_sagan.networks import SaganDiscriminator, SaganGenerator, load_official_weights
    from monai_sagan.transforms import (
        AnomalyMap,
        AnomalyMapd,
        PatchPositionEncoding,
        PatchPositionEncodingd,
        RandForeignPatchInterpolation,
        RandForeignPatchInterpolationd,
    )

__all__ = [
    "AnomalyMap",
    "AnomalyMapd",
    "PatchPositionEncoding",
    "PatchPositionEncodingd",
    "RandForeignPatchInterpolation",
    "RandForeignPatchInterpolationd",
    "SaganDiscriminator",
    "SaganError",
    "SaganGenerator",
    "SaganTrainer",
    "__version__",
    "bundle_path",
    "load_official_weights",
]

_TRANSFORMS = dict.fromkeys((n for n in __all__ if n.startswith(("Anomaly", "Patch", "Rand"))), "transforms")
_HOME = _TRANSFORMS | {
    "SaganDiscriminator": "networks",
    "SaganError": "errors",
    "SaganGenerator": "networks",
    "SaganTrainer": "engines",
    "bundle_path": "bundle",
    "load_official_weights": "networks",
}


def __getattr__(name: str) -> Any:  # so that the console command's help need not wait for torch
    if name not in _HOME:
        raise AttributeError(f"module 'monai_sagan' has no attribute {name!r}")
    return getattr(import_module(f"monai_sagan.{_HOME[name]}"), name)
