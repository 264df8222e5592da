"""The critic."""

from __future__ import annotations

import pytest
import torch

from monai_sagan import SaganDiscriminator


def critic(**settings) -> SaganDiscriminator:
    torch.manual_seed(0)
    return SaganDiscriminator(channels=4, **settings)


def images(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)).tanh()


def test_published_size():
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in SaganDiscriminator().parameters()) == 44_719_040


@pytest.mark.parametrize(
    ("settings", "size", "cells"),
    [
        ({}, (64, 64), (1, 1)),
        ({}, (64, 128), (1, 2)),
        ({"in_channels": 3}, (128, 128), (2, 2)),
        ({"num_layers": 3}, (16, 24), (2, 3)),
    ],
)
def test_score_shape(settings, size, cells):
    assert critic(**settings)(images(2, settings.get("in_channels", 1), *size)).shape == (2, 1, *cells)


def test_images_do_not_see_each_other():
    batch = images(3, 1, 64, 64).requires_grad_()
    (gradient,) = torch.autograd.grad(critic()(batch)[1].sum(), batch)
    assert gradient[1].abs().max() > 0
    assert not gradient[[0, 2]].any()


def test_modes_compute_the_same():
    network = critic()
    assert torch.equal(network.train()(images(2, 1, 64, 64)), network.eval()(images(2, 1, 64, 64)))


@pytest.mark.parametrize("shape", [(1, 1, 32, 64), (1, 1, 64, 63)])
def test_small_images_are_refused(shape):
    with pytest.raises(ValueError, match=f"images of {shape[2]} x {shape[3]} are too small for the critic's 64 pixels"):
        critic()(images(*shape))


def test_other_channel_counts_are_refused():
    with pytest.raises(ValueError, match="the images have 3 channels; the network was built for 1"):
        critic()(images(1, 3, 64, 64))


def slope(network: SaganDiscriminator) -> float:
    """Mean norm of the score's gradient by the image, which the gradient penalty wants to be 1."""
    batch = images(8, 1, 64, 64).requires_grad_()
    (gradient,) = torch.autograd.grad(network(batch).sum(), batch)
    return gradient.flatten(1).norm(dim=1).mean().item()


def test_init_decides_the_first_slope():
    assert slope(critic()) < 0.005
    assert 0.05 < slope(critic(init="he")) < 5
    with pytest.raises(ValueError, match="init is 'zeros'; use 'torch' or 'he'"):
        critic(init="zeros")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_script_equals_eager():
    network = critic()
    assert torch.equal(torch.jit.script(network)(images(2, 1, 64, 64)), network(images(2, 1, 64, 64)))
