"""Load the weights published by the paper's authors."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from monai_sagan.errors import SaganError
from monai_sagan.files import load_tensors
from monai_sagan.networks.discriminator import SaganDiscriminator
from monai_sagan.networks.generator import SaganGenerator

__all__ = ["load_official_weights"]


def _numbered(ours: str, theirs: str, *layers: tuple[str, int]) -> dict[str, str]:
    """Map module names of ``theirs``, a plain ``nn.Sequential``, to ours, for the layers with weights."""
    return {f"{theirs}.{number}": f"{ours}.{name}" for name, number in layers}


def _generator_names(num_res_blocks: int) -> dict[str, str]:
    norm_act = (("0", 0), ("1", 1))
    names = _numbered("stem", "layer1", *norm_act)
    for i, theirs in enumerate(("p_bn1", "p_bn2", "bn2")):
        names |= _numbered(f"down.{i}", f"enc_layer{i + 1}", *norm_act)
        names |= _numbered(f"position.{i}", theirs, ("mix", 0))
    for i in range(num_res_blocks):
        names |= _numbered(f"bottleneck.{i}.body", f"bn2.{i + 3}.main", ("0", 0), ("1", 1), ("3", 3), ("4", 4))
    for i in range(3):
        for ours, theirs in (("gate", "W_gate"), ("skip", "W_x"), ("attention", "psi")):
            names |= _numbered(f"decoder.gates.{i}.{ours}", f"gate{i + 1}.{theirs}", ("0", 0))
        names |= _fuse_names(f"decoder.fuse.{i}", f"dec_bn{i + 1}")
        names |= _numbered(f"decoder.up.{i}", f"dec_layer{i + 1}", *norm_act)
    names |= _numbered("decoder.to_full_size.0", "up_conv1", ("0.0", 0), ("0.1", 1), ("1.0", 3), ("1.1", 4))
    names |= _numbered("decoder.to_full_size.1", "up_conv2", ("0.0", 0), ("0.1", 1))
    names |= _fuse_names("decoder.fuse_levels", "bn3")
    return names | {"conv": "to_image"}


def _fuse_names(ours: str, theirs: str) -> dict[str, str]:
    layers = (("0", 0), ("1", 1))
    return _numbered(f"{ours}.mix", f"{theirs}.main", *layers) | _numbered(f"{ours}.body", f"{theirs}.sc", *layers)


def _discriminator_names(num_layers: int) -> dict[str, str]:
    return {f"main.{2 * i}": f"layers.{2 * i}" for i in range(num_layers)} | {"conv1": "to_score"}


def load_official_weights(
    network: SaganGenerator | SaganDiscriminator, weights: str | Path | dict[str, Tensor]
) -> nn.Module:
    """Load a checkpoint published at https://github.com/zzr728/SAGAN into ``network`` and return it.

    Running statistics in the checkpoint are ignored: the authors tested in training mode and never used them. The
    defaults of `SaganGenerator` are the published sizes.

    >>> import torch
    >>> load_official_weights(SaganDiscriminator(), {"conv1.weight": torch.zeros(1, 2048, 3, 3)})
    Traceback (most recent call last):
    monai_sagan.errors.SaganError: these weights do not fit the network: missing main.0.weight; ...

    Args:
        network: of the same sizes as the checkpoint.
        weights: path of a ``.ckpt`` file, read with ``weights_only=True``, or its state dict.

    Raises:
        SaganError: listing all missing and unexpected keys and wrong shapes; the network is unchanged.
    """
    state = weights if isinstance(weights, dict) else load_tensors(weights)
    if isinstance(network, SaganGenerator):
        names = _generator_names(len(network.bottleneck))
    else:
        names = _discriminator_names(len(network.layers) // 2)
    ours = network.state_dict()
    renamed: dict[str, Tensor] = {}
    problems: list[str] = []
    for key, value in state.items():
        module, _, leaf = key.rpartition(".")
        if leaf in ("running_mean", "running_var", "num_batches_tracked"):
            continue
        name = f"{names.get(module)}.{leaf}"
        if name not in ours:
            problems.append(f"unexpected {key}")
        elif ours[name].shape != value.shape:
            problems.append(f"{key} has shape {tuple(value.shape)}, the network {tuple(ours[name].shape)}")
        renamed[name] = value
    official = {name: key for key, name in names.items()}
    for name in ours:
        if name not in renamed:
            module, _, leaf = name.rpartition(".")
            problems.append(f"missing {official.get(module, module)}.{leaf}")
    if problems:
        raise SaganError("these weights do not fit the network: " + "; ".join(problems))
    network.load_state_dict(renamed)
    return network
