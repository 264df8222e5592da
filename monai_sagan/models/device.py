"""Which device computes, and how networks lie on it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from monai_sagan.errors import SaganError

__all__ = ["check_device", "default_device", "network_on"]


def default_device() -> torch.device:
    """The first CUDA GPU, or the CPU where there is none."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def check_device(device: str | torch.device) -> torch.device:
    """The same ``device``, when torch can compute there.

    Args:
        device: such as ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.

    Raises:
        SaganError: for another word, or a GPU that is not there.
    """
    try:
        found = torch.device(device)
    except RuntimeError:
        raise SaganError(f"device is {str(device)!r}; use cpu, cuda, or cuda:1 for the second GPU") from None
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if found.type == "cuda" and (found.index or 0) >= count:
        fix = f"cuda:0 to cuda:{count - 1}" if count else "cpu, or install the GPU's driver and a torch with CUDA"
        raise SaganError(f"device is {str(device)!r}, but torch {torch.__version__} sees {count} GPUs; use {fix}")
    return found


def network_on(network: nn.Module, device: str | torch.device) -> nn.Module:
    """The same ``network``, its weights on ``device`` with the channels last, for which convolutions are faster."""
    channels_last: dict[str, Any] = {"memory_format": torch.channels_last}  # torch's types do not know it
    return network.to(device).to(**channels_last)
