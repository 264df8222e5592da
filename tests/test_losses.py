"""The losses, against numbers worked out by hand."""

from __future__ import annotations

import pytest
import torch

from monai_sagan import losses


def images(*values: float) -> torch.Tensor:
    """Images of one pixel."""
    return torch.tensor(values, dtype=torch.float32).reshape(-1, 1, 1, 1)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_identity_is_the_mean_absolute_difference():
    assert losses.identity(images(1, -1, 0.5), images(0, 1, 0.5)).item() == 1  # (1 + 2 + 0) / 3


def test_reconstruction_is_the_mean_square():
    assert losses.reconstruction(images(1, -1, 0.5), images(0, 1, 0.5)).item() == pytest.approx(5 / 3)  # (1 + 4) / 3


def test_reconstruction_and_identity_count_every_pixel():
    restored, normal = torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)
    restored[1, 2, 3, 3] = 3
    assert losses.identity(restored, normal).item() == pytest.approx(3 / 96)
    assert losses.reconstruction(restored, normal).item() == pytest.approx(9 / 96)


def test_adversarial_wants_high_scores():
    assert losses.adversarial(images(1, 2, 6)).item() == -3


def test_critic_wants_normal_above_restored():
    assert losses.critic(images(1, 5), images(2, -6)).item() == -5  # -2 - 3


@pytest.mark.parametrize("norm", [0.5, 1.0, 3.0])
def test_penalty_of_a_linear_critic(norm):
    weight = random(1, 4, 4)
    weight *= norm / weight.norm()
    penalty = losses.gradient_penalty(
        lambda x: (x * weight).sum((1, 2, 3)), random(3, 1, 4, 4), random(3, 1, 4, 4, seed=1), random(3, 1, 1, 1).abs()
    )
    assert penalty.item() == pytest.approx((norm - 1) ** 2)


def test_penalty_is_taken_at_the_mixed_images():
    # The critic x^2 / 2 has the gradient x: at 0.25 * 4 + 0.75 * 8 = 7 and at 1 * -3 + 0 * 5 = -3.
    penalty = losses.gradient_penalty(lambda x: x.square() / 2, images(4, -3), images(8, 5), images(0.25, 1))
    assert penalty.item() == pytest.approx(((7 - 1) ** 2 + (3 - 1) ** 2) / 2)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_penalty_equals_finite_differences(alpha):
    torch.manual_seed(0)
    layers = torch.nn.Sequential(torch.nn.Conv2d(1, 3, 3), torch.nn.Tanh(), torch.nn.Conv2d(3, 1, 2)).double()
    normal, restored = random(2, 1, 4, 4), random(2, 1, 4, 4, seed=1)
    penalty = losses.gradient_penalty(layers, normal, restored, torch.full((2, 1, 1, 1), alpha, dtype=torch.float64))
    expected, step = [], 1e-6
    for mixed in alpha * normal + (1 - alpha) * restored:
        nudges = step * torch.eye(16, dtype=torch.float64).reshape(16, 1, 4, 4)
        slope = (layers(mixed + nudges) - layers(mixed - nudges)).flatten() / (2 * step)
        expected.append((slope.norm().item() - 1) ** 2)
    assert penalty.item() == pytest.approx(sum(expected) / 2, rel=1e-6)


def test_penalty_trains_the_critic_only():
    weight = torch.tensor([3.0, 4.0], requires_grad=True)
    restored = torch.ones(2, 2, 1, 1, requires_grad=True)
    penalty = losses.gradient_penalty(
        lambda x: (x.flatten(1) * weight).sum(1), torch.zeros(2, 2, 1, 1), restored.detach(), torch.rand(2, 1, 1, 1)
    )
    penalty.backward()
    # (|w| - 1)^2 has the gradient 2 (|w| - 1) w / |w|, here 8 * (0.6, 0.8).
    torch.testing.assert_close(weight.grad, torch.tensor([4.8, 6.4]))
    assert restored.grad is None


def test_penalty_of_a_flat_critic_can_be_trained_away():
    weight = torch.zeros(2, requires_grad=True)
    images = torch.rand(2, 2, 1, 1)
    penalty = losses.gradient_penalty(lambda x: (x.flatten(1) * weight).sum(1), images, images, torch.rand(2, 1, 1, 1))
    penalty.backward()
    assert penalty.item() == 1
    assert weight.grad.isfinite().all()


def test_penalty_leaves_its_images_alone():
    normal, restored = random(2, 1, 4, 4), random(2, 1, 4, 4, seed=1)
    copies = normal.clone(), restored.clone()
    losses.gradient_penalty(lambda x: x.square().sum((1, 2, 3)), normal, restored, random(2, 1, 1, 1))
    assert torch.equal(normal, copies[0])
    assert torch.equal(restored, copies[1])
    assert not normal.requires_grad
    assert not restored.requires_grad
