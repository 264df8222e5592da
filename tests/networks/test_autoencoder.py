"""Stacked autoencoders compute what single ones do, and all networks of DDAD what the published ones do."""

from __future__ import annotations

import hashlib
import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from monai_sagan.networks.autoencoder import BACKBONES, Autoencoders, RefinementNetwork

each = pytest.mark.parametrize("backbone", BACKBONES)
SIZE = (32, 48)


def autoencoders(members: int, backbone: str = "ae", in_channels: int = 1) -> Autoencoders:
    """In float64, for batch norms over few images magnify rounding."""
    torch.manual_seed(members)
    return Autoencoders(members, in_channels, SIZE, backbone, hidden=64).double()


def images(count: int, channels: int, seed: int = 0) -> Tensor:
    return torch.randn(count, channels, *SIZE, generator=torch.Generator().manual_seed(seed)).double().tanh()


def parameters_in(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def part(value: Tensor, index: int, members: int) -> Tensor:
    """One member's part of a stacked parameter, gradient or statistic."""
    return value.chunk(members)[index] if value.ndim else value


def alone(stacked: Autoencoders, index: int) -> Autoencoders:
    """A single autoencoder with the weights of one member."""
    single = autoencoders(1, stacked.backbone, stacked.in_channels)
    single.load_state_dict({k: part(v, index, stacked.members) for k, v in stacked.state_dict().items()})
    return single.train(stacked.training)


def loss_of(network: Autoencoders, image: Tensor) -> Tensor:
    """Each output, times numbers of its own."""
    found = [x for x in network.reconstruct(image) if x is not None]
    return sum(
        (x * torch.linspace(-1, 1, x[:, :1].numel(), dtype=x.dtype).view_as(x[:, :1])).sum()
        for x in found
        if x.ndim == 5
    )


@each
@pytest.mark.parametrize("in_channels", [1, 3])
def test_stacked_equals_single(backbone, in_channels):
    stacked, image = autoencoders(6, backbone, in_channels), images(4, 6 * in_channels)
    singles = [alone(stacked, i) for i in range(6)]
    loss_of(stacked, image).backward()
    for single, own in zip(singles, image.chunk(6, dim=1), strict=True):
        loss_of(single, own).backward()
    ours, theirs = (
        stacked.reconstruct(image),
        [s.reconstruct(x) for s, x in zip(singles, image.chunk(6, 1), strict=True)],
    )
    for name, dim in (("mean", 1), ("log_variance", 1), ("addressing", 0)):
        if getattr(ours, name) is not None:
            expected = torch.cat([getattr(x, name) for x in theirs], dim)
            torch.testing.assert_close(getattr(ours, name), expected, rtol=0, atol=1e-10)
    for i, single in enumerate(singles):
        for (name, mine), (_, theirs_) in zip(single.named_parameters(), stacked.named_parameters(), strict=True):
            expected = part(theirs_.grad, i, 6).view_as(mine)
            torch.testing.assert_close(mine.grad, expected, rtol=1e-9, atol=1e-11, msg=name)
        for (name, mine), (_, theirs_) in zip(single.named_buffers(), stacked.named_buffers(), strict=True):
            torch.testing.assert_close(mine, part(theirs_, i, 6).view_as(mine), rtol=1e-9, atol=1e-11, msg=name)


@each
@pytest.mark.parametrize("training", [True, False])
def test_shared_images_equal_a_copy_for_each_member(backbone, training):
    network, image = autoencoders(4, backbone, in_channels=3).train(training), images(2, 3)
    torch.testing.assert_close(network(image), network(image.repeat(1, 4, 1, 1)), rtol=0, atol=1e-10)


def test_members_begin_apart_and_as_single_layers_would():
    network = Autoencoders(5)
    for name, value in network.named_parameters():
        if "norm" in name or value.ndim == 1:
            continue
        members = value.chunk(5)
        assert not any(torch.equal(members[0], other) for other in members[1:]), name
    for layer, inputs in ((network.to_latent.widen, 1024), (network.from_latent.narrow, 2048)):
        assert layer.weight.abs().max().item() == pytest.approx(
            nn.Linear(inputs, 999).weight.abs().max().item(), rel=0.01
        )
    for i, layer in enumerate((nn.Conv2d(16, 32, 4), nn.ConvTranspose2d(16, 1, 4))):
        stacked = (network.encoder[2], network.decoder[-1])[i]
        assert stacked.weight.abs().max().item() == pytest.approx(layer.weight.abs().max().item(), rel=0.05)


def test_memory_mixes_slots():
    network = autoencoders(2, "memae")
    latent = torch.randn(2, 3, 16).double()
    addressing = network.memory.addressing(latent)
    torch.testing.assert_close(addressing.sum(2), torch.ones(2, 3).double())
    products = torch.stack([latent[i] @ network.memory.slots[i].T for i in range(2)])
    torch.testing.assert_close(addressing, products.exp() / products.exp().sum(2, keepdim=True))
    torch.testing.assert_close(network.memory(latent)[1, 2], addressing[1, 2] @ network.memory.slots[1])


def test_wrong_arguments():
    with pytest.raises(ValueError, match=r"^backbone is 'vae'; use one of ae, ae_u, memae$"):
        Autoencoders(2, backbone="vae")
    with pytest.raises(ValueError, match=r"^image_size is \(64, 72\); both sides must be multiples of 16$"):
        Autoencoders(2, image_size=(64, 72))


@each
def test_reconstruct_compiles_as_one_graph(backbone):
    network, image = autoencoders(2, backbone).eval(), images(2, 2)
    compiled = torch.compile(network.reconstruct, fullgraph=True, backend="aot_eager")
    for ours, theirs in zip(compiled(image), network.reconstruct(image), strict=True):
        assert (ours is None) == (theirs is None)
        if theirs is not None:
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


# Parity with the published networks


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    data = os.environ.get("MONAI_SAGAN_DATA")
    if not data:
        pytest.skip("MONAI_SAGAN_DATA is not set: no golden numbers")
    path = Path(data).parent / "golden" / "methods.npz"
    if not path.is_file():
        pytest.skip(f"no golden numbers at {path}")
    with np.load(path) as arrays:
        return {name: arrays[name] for name in arrays.files if name.startswith("ddad")}


def made_from_name(name: str, shape: tuple[int, ...]) -> Tensor:
    """A parameter or statistic of the golden numbers; see golden/README.md."""
    seed = int(hashlib.sha256(name.encode()).hexdigest()[:8], 16)
    t = torch.randn(tuple(shape), generator=torch.Generator().manual_seed(seed))
    if t.ndim > 1:
        return t / math.prod(shape[1:]) ** 0.5
    if name.endswith("running_var"):
        return 1 + 0.1 * t.abs()
    return 1 + 0.1 * t if name.endswith("weight") else 0.1 * t


def _is_linear(name: str) -> bool:
    return name.endswith(("widen.weight", "narrow.weight"))


def load_golden(network: nn.Module, shapes: dict[str, Any]) -> nn.Module:
    """The published state in its order into ours."""
    ours = {name: value for name, value in network.state_dict().items() if value.ndim}
    made = [made_from_name(name, shape) for name, shape in shapes.items()]
    state = {
        name: (new.T if _is_linear(name) else new).reshape(old.shape)
        for (name, old), new in zip(ours.items(), made, strict=True)
    }
    network.load_state_dict(state, strict=False)
    return network.eval()


PUBLISHED = {
    "ddad_ae": ("ae", ("out",), 4_487_248),
    "ddad_aeu": ("ae_u", ("mean", "log_variance"), 4_487_504),
    "ddad_memae": ("memae", ("output", "att"), 4_487_648),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_autoencoders_have_the_published_size(name):
    backbone, _, count = PUBLISHED[name]
    assert parameters_in(Autoencoders(1, backbone=backbone)) == count
    assert parameters_in(Autoencoders(6, backbone=backbone)) == 6 * count


@pytest.mark.parametrize("name", PUBLISHED)
def test_autoencoders_equal_the_published_ones(golden, name):
    backbone, outputs, count = PUBLISHED[name]
    assert golden[f"{name}.parameters"] == count
    network = load_golden(Autoencoders(1, backbone=backbone), json.loads(str(golden[f"{name}.shapes"])))
    with torch.no_grad():
        found = [x for x in network.reconstruct(torch.from_numpy(golden[f"{name}.x"])) if x is not None]
    for ours, output in zip(found, outputs, strict=True):
        expected = torch.from_numpy(golden[f"{name}.{output}"])
        torch.testing.assert_close(ours.view_as(expected), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("in_channels", "count"), [(1, 151_682), (2, 152_834)])
def test_refinement_equals_the_published_one(golden, in_channels, count):
    name, network = f"ddad_refine{in_channels}", RefinementNetwork(in_channels)
    assert parameters_in(network) == count == golden[f"{name}.parameters"]
    load_golden(network, json.loads(str(golden[f"{name}.shapes"])))
    with torch.no_grad():
        logits = network(torch.from_numpy(golden[f"{name}.x"]))
    torch.testing.assert_close(logits, torch.from_numpy(golden[f"{name}.out"]), rtol=0, atol=1e-5)
