"""The device of a run, and the memory layout of networks on it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from monai_sagan.errors import SaganError


def default_device() -> torch.device:
    """The first CUDA GPU, or the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def check_device(device: str | torch.device) -> torch.device:
    """Return a device such as ``"cpu"`` or ``"cuda:1"`` if torch can use it.

    Raises:
        SaganError: for an unknown device or a missing GPU.
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
    """Move a network to a device in the channels-last layout, for faster convolutions."""
    channels_last: dict[str, Any] = {"memory_format": torch.channels_last}  # missing in torch's types
    return network.to(device).to(**channels_last)
