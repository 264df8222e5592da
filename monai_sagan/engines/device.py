"""Which device computes, and how networks lie on it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

__all__ = ["default_device", "network_on"]


def default_device() -> torch.device:
    """The first CUDA GPU, or the CPU where there is none."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def network_on(network: nn.Module, device: str | torch.device) -> nn.Module:
    """The same ``network``, its weights on ``device`` with the channels last, for which convolutions are faster."""
    channels_last: dict[str, Any] = {"memory_format": torch.channels_last}  # torch's types do not know it
    return network.to(device).to(**channels_last)
