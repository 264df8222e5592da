"""Published weights of masked autoencoders, into our network."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from monai_sagan.errors import SaganError
from monai_sagan.files import load_tensors
from monai_sagan.networks.masked_autoencoder import MaskedAutoencoder

__all__ = ["load_mae_weights"]

DECODER = ("decoder_", "mask_token")


def load_mae_weights(network: MaskedAutoencoder, path: str | Path) -> None:
    """Load a checkpoint of https://github.com/facebookresearch/mae or of a descendant of it into ``network``.

    Such as the chest X-ray weights of https://github.com/lambert-x/medical_mae. Without a decoder, as such files are
    published for fine-tuning, the network's decoder stays as it is.

    Args:
        network: of the checkpoint's sizes.
        path: of the file, read with ``weights_only=True``: a state dict, or a dictionary with one as ``model``.

    Raises:
        SaganError: naming the file when it is missing or broken, or the first weight that is missing, unknown or of
            another shape.
    """
    with torch.serialization.safe_globals([argparse.Namespace]):  # the options of the training, plain values
        content = load_tensors(path)
    weights = content.get("model", content)
    if not isinstance(weights, dict):
        raise SaganError(f"{path} holds no weights of a masked autoencoder; give a state dict, or one as 'model'")
    wanted = network.state_dict()
    for name in weights:
        if name not in wanted:
            raise _misfit(path, f"it has a weight {name} that the network lacks")
    has_decoder = any(name.startswith(DECODER) for name in weights)
    for name, tensor in wanted.items():
        if name.startswith(DECODER) and not has_decoder:
            continue
        if name not in weights:
            raise _misfit(path, f"it lacks {name}")
        if not torch.is_tensor(weights[name]):
            raise _misfit(path, f"its {name} is not a tensor")
        if weights[name].shape != tensor.shape:
            raise _misfit(path, f"its {name} is {tuple(weights[name].shape)}, here it is {tuple(tensor.shape)}")
    network.load_state_dict(weights, strict=has_decoder)


def _misfit(path: str | Path, reason: str) -> SaganError:
    fix = "set image_size, in_channels, patch, width, depth, heads and decoder_* as the weights need"
    return SaganError(f"{path} does not fit the network ({reason}); {fix}")
