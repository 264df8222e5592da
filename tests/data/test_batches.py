"""Batches are a function of seed and step alone; every image takes its turn; pseudo-anomalies come from others."""

from __future__ import annotations

from itertools import islice

import pytest
import torch

from monai_sagan.data.batches import (
    EvaluationBatches,
    TrainingBatches,
    images_at_a_time,
    to_unit_range,
    validation_batches,
)

KEYS = ("normal", "unlabeled", "pseudo", "pseudo_mask")


def constant(values, size=64):
    """An image for each value, which tells its index."""
    return torch.tensor(values, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, size, size).contiguous()


NORMAL = constant(range(0, 100, 10))  # 10 of them
UNLABELED = constant(range(105, 245, 20))  # 7 of them


def batches(batch_size=4, seed=0, **kwargs):
    return TrainingBatches(NORMAL, UNLABELED, batch_size, length=5, seed=seed, **kwargs)


def indices(images, all_images):
    """Which of the constant images a batch holds."""
    values = to_unit_range(all_images[:, 0, 0, 0])
    return [int((values - float(image[0, 0, 0])).abs().argmin()) for image in images]


def same(one, other):
    return all(torch.equal(one[key], other[key]) for key in KEYS)


@pytest.mark.parametrize("options", [{}, {"augment": True}, {"paired": True}])
def test_seed_and_step_decide(options):
    first, second = batches(seed=3, **options), batches(seed=3, **options)
    forward = [first.batch(step) for step in range(8)]
    backward = [second.batch(step) for step in reversed(range(8))][::-1]
    torch.rand(5)  # the global generator plays no part
    assert all(same(one, other) for one, other in zip(forward, backward, strict=True))
    assert not same(forward[0], forward[1])
    assert not same(forward[0], batches(seed=4, **options).batch(0))


def test_iteration_goes_on_at_the_step_that_is_set():
    wanted = [batches().batch(step) for step in range(9)]
    loader = batches()
    assert len(loader) == 5
    assert all(same(got, want) for got, want in zip(islice(loader, 4), wanted[:4], strict=True))
    loader.set_step(7)
    got = iter(loader)
    assert same(next(got), wanted[7])
    assert same(next(got), wanted[8])
    loader.set_step(2)  # while it runs, too
    assert same(next(got), wanted[2])


@pytest.mark.parametrize("batch_size", [2, 3, 4, 7])
def test_every_image_takes_its_turn(batch_size):
    loader = TrainingBatches(NORMAL[..., :8, :8], UNLABELED[..., :8, :8], batch_size, length=5)
    steps = [loader.batch(step) for step in range(30)]
    for key, images in (("normal", NORMAL), ("unlabeled", UNLABELED)):
        order = [index for batch in steps for index in indices(batch[key], images)]
        rounds = [order[i : i + len(images)] for i in range(0, len(order) - len(images) + 1, len(images))]
        assert all(sorted(one) == list(range(len(images))) for one in rounds)
        assert len({tuple(one) for one in rounds}) > 1  # each in an order of its own


def test_shapes_and_ranges():
    pixels = torch.randint(0, 256, (6, 3, 64, 48), dtype=torch.uint8)
    pixels[0], pixels[1] = 0, 255
    for augment in (False, True):
        batch = TrainingBatches(pixels, pixels, 6, 1, augment=augment).batch(0)
        assert set(batch) == set(KEYS)
        for key in KEYS[:3]:
            assert batch[key].shape == (6, 3, 64, 48)
            assert batch[key].dtype == torch.float32
            assert batch[key].min() >= -1
            assert batch[key].max() <= 1
        assert batch["pseudo_mask"].shape == (6, 1, 64, 48)
        assert set(batch["pseudo_mask"].unique().tolist()) == {0, 1}
        assert not torch.equal(batch["normal"], batch["unlabeled"])  # drawn apart
    assert to_unit_range(torch.tensor([0, 255], dtype=torch.uint8)).tolist() == [-1, 1]


@pytest.mark.parametrize("normal", [NORMAL, NORMAL[:2]])
def test_pseudo_anomalies_are_made_of_other_normals(normal):
    loader = TrainingBatches(normal, UNLABELED, 2, length=1)
    low, high = float(to_unit_range(normal).min()), float(to_unit_range(normal).max())
    masks = []
    for step in range(30):
        batch = loader.batch(step)
        masks.extend(batch["pseudo_mask"])
        inside = batch["pseudo_mask"].bool()
        changed = batch["pseudo"] != batch["normal"]
        assert torch.equal(changed, inside)  # all of it: the source is never the image itself
        sides = inside.sum(dim=(2, 3)).float().sqrt()
        assert (sides >= 6).all()
        assert (sides <= 24).all()
        assert batch["pseudo"].min() >= low
        assert batch["pseudo"].max() <= high  # nothing of the unlabeled images, which are brighter
    assert len({tuple(mask.flatten().tolist()) for mask in masks}) > 55  # of 60, each square drawn again


def test_paired_images_stay_together():
    loader = batches(3, paired=True)
    pairs = {}
    for step in range(12):
        batch = loader.batch(step)
        for i, j in zip(indices(batch["normal"], NORMAL), indices(batch["unlabeled"], UNLABELED), strict=True):
            pairs.setdefault(i, set()).add(j)
    assert pairs == {i: {i % 7} for i in range(10)}
    unpaired = {tuple(indices(batches().batch(step)["unlabeled"], UNLABELED)) for step in range(5)}
    assert len(unpaired) == 5


def test_augmentation_moves_images_and_nothing_else():
    ramp = torch.arange(64, dtype=torch.uint8).mul(4).expand(8, 1, 64, 64)
    plain, moved = (TrainingBatches(ramp, ramp, 4, 1, augment=augment).batch(0) for augment in (False, True))
    for key in KEYS[:2]:
        change = (plain[key] - moved[key]).abs().flatten(1)
        assert (change.max(dim=1).values > 0.01).all()
        assert (change.mean(dim=1) < 0.2).all()
    assert not torch.equal(moved["normal"], moved["unlabeled"])
    inside = moved["pseudo_mask"].bool()
    assert torch.equal(moved["pseudo"][~inside], moved["normal"][~inside])  # the pseudo-anomaly moves with its image


def test_too_few_images(refused):
    with refused("batch_size 11", "10 normal"):
        TrainingBatches(NORMAL, constant(range(20)), 11, 1)
    with refused("batch_size 8", "7 unlabeled"):
        batches(8)
    with refused("two normal"):
        TrainingBatches(NORMAL[:1], UNLABELED, 1, 1)


def test_evaluation_batches_keep_the_order():
    labels = torch.arange(10) % 2
    parts = list(EvaluationBatches(NORMAL, labels, batch_size=4))
    assert len(EvaluationBatches(NORMAL, labels, batch_size=4)) == len(parts) == 3
    assert [len(part["image"]) for part in parts] == [4, 4, 2]
    assert torch.equal(torch.cat([part["image"] for part in parts]), to_unit_range(NORMAL))
    assert torch.equal(torch.cat([part["label"] for part in parts]), labels)
    unknown = list(EvaluationBatches(NORMAL, batch_size=5))
    assert [set(part) for part in unknown] == [{"image"}, {"image"}]


def test_validation_batches_label_by_list():
    (batch,) = validation_batches(NORMAL[:3], UNLABELED)
    assert batch["label"].tolist() == [0] * 3 + [1] * 7
    assert torch.equal(batch["image"], to_unit_range(torch.cat([NORMAL[:3], UNLABELED])))
    assert len(validation_batches(NORMAL, UNLABELED, batch_size=5)) == 4


@pytest.mark.parametrize(
    ("size", "count"), [((64, 64), 256), ((3, 32, 32), 256), ((128, 128), 64), ((7, 1, 512, 256), 8), ((4096, 4096), 1)]
)
def test_larger_images_come_fewer_at_a_time(size, count):
    assert images_at_a_time(256, size) == count
