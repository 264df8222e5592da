"""A trained generator in a file, with all that using it needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from monai_sagan.engines.scoring import restore
from monai_sagan.errors import SaganError
from monai_sagan.files import load_tensors
from monai_sagan.networks import SaganGenerator
from monai_sagan.settings import Settings, as_plain, resolve_settings
from monai_sagan.transforms.functional import anomaly_score

__all__ = ["Trained", "describe_trained", "load_trained"]


@dataclass(frozen=True)
class Trained:
    """A generator ready to restore, and what was measured on the validation normals when it was saved.

    Args:
        network: the generator, in evaluation mode.
        settings: the run's.
        scale: the anomaly map's value at the top of the color scale: the 99.9th percentile of the pixels of
            validation normals.
        valid_normal_scores: anomaly scores of the validation normals (N,).
        iteration: critic updates done.
    """

    network: nn.Module
    settings: Settings
    scale: float
    valid_normal_scores: Tensor
    iteration: int


def describe_trained(
    network: nn.Module, settings: Settings, valid_normal: Tensor, iteration: int, **numbers: float
) -> dict[str, Any]:
    """What a model file holds: plain values and tensors, see `Trained`; ``numbers`` are kept beside them.

    Args:
        network: the generator.
        settings: the run's.
        valid_normal: validation normals, uint8 (N, C, H, W).
        iteration: critic updates done.
    """
    maps = torch.cat([maps.cpu() for _, _, maps in restore(network, valid_normal)])
    return {
        "model": {name: value.cpu() for name, value in network.state_dict().items()},
        "settings": as_plain(settings),
        "scale": float(maps.flatten().kthvalue(max(round(0.999 * maps.numel()), 1)).values),
        "valid_normal_scores": anomaly_score(maps),
        "iteration": iteration,
        **numbers,
    }


def load_trained(path: str | Path, device: str | torch.device = "cpu") -> Trained:
    """Read a model file that a training run wrote.

    Raises:
        SaganError: naming the file when it is missing, broken or of another kind.
    """
    content = load_tensors(path)
    channels_last: dict[str, Any] = {"memory_format": torch.channels_last}  # torch's types do not know it
    try:
        settings = _settings(content["settings"])
        network = SaganGenerator(**settings.generator())
        network.load_state_dict(content["model"])
        return Trained(
            network=network.to(device).to(**channels_last).eval(),
            settings=settings,
            scale=content["scale"],
            valid_normal_scores=content["valid_normal_scores"],
            iteration=content["iteration"],
        )
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise SaganError(
            f"{path} is no model that a SAGAN run wrote ({reason}); give model.pt or model_last.pt"
        ) from None


def _settings(values: Mapping[str, Any]) -> Settings:
    given = {name: "none" if name.endswith("_norm") and value is None else value for name, value in values.items()}
    return resolve_settings("paper", **given)
