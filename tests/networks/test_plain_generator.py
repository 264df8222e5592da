"""Brainomaly's networks: their sizes, and parity with the published ones."""

from __future__ import annotations

import pytest
import torch
from golden import golden, load_in_order

from monai_sagan.networks import SaganDiscriminator
from monai_sagan.networks.plain_generator import PlainGenerator


def test_published_sizes():
    assert sum(p.numel() for p in PlainGenerator(3).parameters()) == 8_408_576
    assert sum(p.numel() for p in SaganDiscriminator(3).parameters()) == 44_721_088
    assert sum(p.numel() for p in PlainGenerator(1).parameters()) == 8_408_576 - 2 * 64 * 49


def test_the_networks_equal_the_published_ones():
    numbers = golden("methods.npz")
    generator, critic = PlainGenerator(3, 16, 2).eval(), SaganDiscriminator(3, 16).eval()
    load_in_order(generator, numbers["brainomaly.g_shapes"])
    load_in_order(critic, numbers["brainomaly.d_shapes"])
    image = torch.from_numpy(numbers["brainomaly.x"])
    with torch.no_grad():
        change, restored, score = generator.body(image), generator(image), critic(image)
    torch.testing.assert_close(change, torch.from_numpy(numbers["brainomaly.additive"]), atol=5e-5, rtol=0)
    torch.testing.assert_close(restored, torch.from_numpy(numbers["brainomaly.restored"]), atol=5e-5, rtol=0)
    torch.testing.assert_close(score, torch.from_numpy(numbers["brainomaly.critic"]), atol=1e-5, rtol=0)


def test_training_and_evaluation_compute_the_same():
    network, image = PlainGenerator(1, 4, 1), torch.rand(2, 1, 64, 64) * 2 - 1
    assert torch.equal(network.train()(image), network.eval()(image))


def test_images_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="3 channels"):
        PlainGenerator(1, 4, 1)(torch.zeros(1, 3, 64, 64))
    with pytest.raises(ValueError, match="sides that 4 divides"):
        PlainGenerator(1, 4, 1)(torch.zeros(1, 1, 66, 64))
