"""The parts of the generator."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from monai_sagan.networks import blocks
from monai_sagan.networks.blocks import (
    AttentionGate,
    DownBlock,
    FuseBlock,
    InstanceNorm,
    PositionBlock,
    ResidualBlock,
    UpBlock,
)
from monai_sagan.networks.patches import position_code


@pytest.fixture(autouse=True)
def same_weights():
    torch.manual_seed(0)


def features(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def norm_pair(affine: bool, dtype: torch.dtype = torch.float32) -> tuple[nn.Module, nn.Module]:
    """Ours and torch's, with equal weights that are not trivial."""
    ours, theirs = InstanceNorm(6, affine).to(dtype), nn.InstanceNorm2d(6, affine=affine).to(dtype)
    if affine:
        weights = {"weight": 1 + 0.3 * features(6).to(dtype), "bias": features(6, seed=1).to(dtype)}
        ours.load_state_dict(weights)
        theirs.load_state_dict(weights)
    return ours, theirs


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_instance_norm_equals_torch(compiled, layout, affine, dtype, tolerance):
    outputs, gradients = [], []
    upstream = features(3, 6, 9, 8, seed=2).to(dtype)
    torch._dynamo.reset()
    ours, theirs = norm_pair(affine, dtype)
    for norm in (torch.compile(ours, fullgraph=True, backend="aot_eager") if compiled else ours, theirs):
        x = (3 * features(3, 6, 9, 8) + 2).to(dtype).to(memory_format=layout).requires_grad_()
        y = norm(x)
        y.backward(upstream)
        outputs.append(y)
        gradients.append([x.grad, *(parameter.grad for parameter in norm.parameters())])
    assert outputs[0].dtype == dtype
    torch.testing.assert_close(*outputs, rtol=0, atol=tolerance)
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=10 * tolerance)


@pytest.mark.parametrize("affine", [True, False])
def test_instance_norm_can_be_differentiated_twice_either_way(affine, monkeypatch):
    norm, _ = norm_pair(affine, torch.float64)
    x = features(2, 6, 3, 2).double().requires_grad_()
    for compiling in (False, True):
        monkeypatch.setattr(blocks, "_compiling_gradients", lambda compiling=compiling: compiling)
        assert torch.autograd.gradgradcheck(norm, x)


@pytest.mark.parametrize("affine", [True, False])
def test_instance_norm_keeps_channels_last(affine):
    x = features(2, 6, 8, 8).to(memory_format=torch.channels_last)
    assert InstanceNorm(6, affine)(x).is_contiguous(memory_format=torch.channels_last)


def test_instance_norm_has_no_state_but_its_weights():
    norm = InstanceNorm(6)
    before = norm(features(2, 6, 8, 8))
    norm(100 * features(2, 6, 8, 8, seed=1))
    assert torch.equal(norm.eval()(features(2, 6, 8, 8)), before)
    assert set(norm.state_dict()) == {"weight", "bias"}
    assert not InstanceNorm(6, affine=False).state_dict()


def test_instance_norm_of_bfloat16_has_statistics_in_float32():
    x = (features(2, 6, 16, 16) + 50).bfloat16()
    norm = InstanceNorm(6)
    assert norm(x).dtype == torch.bfloat16
    assert torch.equal(norm(x), norm(x.float()).bfloat16())


@pytest.mark.parametrize(
    ("block", "shape"),
    [
        (DownBlock(6, 5), (2, 5, 4, 8)),
        (DownBlock(6, 5, kernel=7, stride=1), (2, 5, 8, 16)),
        (UpBlock(6, 3), (2, 3, 16, 32)),
        (ResidualBlock(6), (2, 6, 8, 16)),
        (FuseBlock(6, 3), (2, 3, 8, 16)),
        (PositionBlock(6, position_code((1, 2))), (2, 6, 8, 16)),
    ],
)
def test_block_shapes(block, shape):
    assert block(features(2, 6, 8, 16)).shape == shape


@pytest.mark.parametrize("block", [ResidualBlock(6), FuseBlock(6, 3)])
def test_residual_path_is_added(block):
    x = features(2, 6, 8, 8)
    nn.init.zeros_(block.body[-1].weight)  # the last normalization then gives zeros
    assert torch.equal(block(x), x if isinstance(block, ResidualBlock) else block.mix(x))


def test_position_block_sees_the_code_of_each_patch():
    block = PositionBlock(2, position_code((2, 2)))
    with torch.no_grad():
        block.mix.weight.zero_()
        block.mix.bias.zero_()
        block.mix.weight[0, :, 0, 0] = torch.tensor([1.0, 0, 4, 2, 1])  # the first channel, and the code as a number
    block.norm = nn.Identity()
    x = features(8, 2, 3, 5).abs()
    number = torch.arange(4.0).repeat(2)[:, None, None]
    torch.testing.assert_close(block(x)[:, 0], x[:, 0] + number)


def test_attention_gate_without_norm_is_equation_8_and_9():
    block = AttentionGate(6, norm=None)
    gate, skip = features(2, 6, 4, 4), features(2, 6, 4, 4, seed=1)
    project = [torch.einsum("oi,nihw->nohw", part[0].weight[:, :, 0, 0], x) + part[0].bias[:, None, None]
               for part, x in ((block.gate, gate), (block.skip, skip))]  # fmt: skip
    hidden = torch.relu(project[0] + project[1])
    raw = torch.einsum("oi,nihw->nohw", block.attention[0].weight[:, :, 0, 0], hidden) + block.attention[0].bias
    torch.testing.assert_close(block(gate, skip), skip / (1 + torch.exp(-raw)))


@pytest.mark.parametrize("norm", ["instance", None])
def test_attention_is_one_map_between_0_and_1(norm):
    gate, skip = features(2, 6, 8, 8), 1 + features(2, 6, 8, 8, seed=1).abs()
    attention = AttentionGate(6, norm)(gate, skip) / skip
    assert attention.min() > 0
    assert attention.max() < 1
    torch.testing.assert_close(attention, attention[:, :1].expand(-1, 6, -1, -1))
    assert attention[:, 0].std() > 0.01


def test_instance_norm_in_the_gate_pins_its_mean():
    ones = torch.ones(2, 6, 8, 8)
    pinned, free = (AttentionGate(6, norm) for norm in ("instance", None))
    with torch.no_grad():
        pinned.attention[0].weight.abs_()
        pinned.attention[0].bias.fill_(3)  # asks for attention everywhere
    free.load_state_dict(pinned.state_dict())
    means = [gate(features(2, 6, 8, 8), ones).mean().item() for gate in (pinned, free)]
    assert means[0] == pytest.approx(0.5, abs=0.1)
    assert means[1] > 0.9


def test_attention_gate_refuses_other_norms():
    with pytest.raises(ValueError, match="gate norm is 'batch'; use 'instance' or None"):
        AttentionGate(6, "batch")
