"""Restoring and scoring in batches."""

from __future__ import annotations

import pytest
import torch

from monai_sagan import SaganGenerator
from monai_sagan.engines.scoring import restore, score


def generator(**settings) -> SaganGenerator:
    torch.manual_seed(0)
    return SaganGenerator(channels=4, num_res_blocks=1, **settings)


def pixels(count: int, channels: int = 1) -> torch.Tensor:
    draw = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, channels, 64, 64), dtype=torch.uint8, generator=draw)


@pytest.mark.parametrize("channels", [1, 3])
def test_score_is_half_the_mean_difference(channels):
    network, images = generator(in_channels=channels), pixels(5, channels)
    scores = score(network, images)
    image = images.float() / 127.5 - 1
    with torch.no_grad():
        expected = (image - network.eval()(image)).abs().mean((1, 2, 3)) / 2
    torch.testing.assert_close(scores, expected, rtol=0, atol=1e-6)
    assert scores.dtype == torch.float32
    assert 0 < scores.min() < scores.max() < 1


def test_restore_gives_images_restored_and_maps():
    network, images = generator(), pixels(5)
    parts = list(restore(network, images, batch_size=2))
    assert [len(image) for image, _, _ in parts] == [2, 2, 1]
    image, restored, maps = (torch.cat(part) for part in zip(*parts, strict=True))
    assert image.min() == -1
    assert image.max() == 1
    torch.testing.assert_close(image, images.float() / 127.5 - 1, rtol=0, atol=1e-6)
    assert torch.equal(maps, (image - restored).abs() / 2)
    assert not restored.requires_grad


@pytest.mark.parametrize("mask_seed", [None, 3])
def test_scores_do_not_depend_on_the_batch_size(mask_seed):
    network, images = generator(), pixels(7)
    whole = score(network, images, batch_size=7, mask_seed=mask_seed)
    for batch_size in (1, 2, 3, 100):
        # What is left is float32's rounding: convolutions sum in another order for another batch size.
        torch.testing.assert_close(score(network, images, batch_size, mask_seed), whole, rtol=0, atol=1e-6)


def test_scores_are_bitwise_repeatable():
    network, images = generator(), pixels(4)
    assert torch.equal(score(network, images, 2), score(network, images, 2))


def test_mask_follows_its_seed_alone():
    network, images = generator(keep_prob=0.5), pixels(4)
    first = score(network, images, mask_seed=1)
    torch.manual_seed(99)
    torch.rand(5)
    assert torch.equal(score(network, images, mask_seed=1), first)
    assert not torch.equal(score(network, images, mask_seed=2), first)
    assert not torch.equal(score(network, images), first)


def test_mask_is_off_whatever_mode_the_network_was_in():
    network, images = generator(keep_prob=0.5), pixels(2)
    assert torch.equal(score(network.train(), images), score(network.eval(), images))
    assert not network.training


def test_no_images_give_no_scores():
    scores = score(generator(), pixels(0))
    assert scores.shape == (0,)
    assert scores.dtype == torch.float32
    assert list(restore(generator(), pixels(0))) == []
