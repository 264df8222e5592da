"""The methods that learn from synthetic anomalies; what holds of every method is in test_contract.py."""

from __future__ import annotations

import pytest
import torch
from ignite.engine import Events
from tiny import tiny

from monai_sagan.data.batches import TrainingBatches
from monai_sagan.engines import StagedTrainer
from monai_sagan.engines.stages import make_stages
from monai_sagan.methods import find_method, make_network, resolve_settings
from monai_sagan.methods.method import Computing
from monai_sagan.methods.synthetic import SyntheticStage
from monai_sagan.transforms.synthesis import CUTPASTE, FPI, NSA, PII

RECIPES = {"cutpaste": CUTPASTE, "fpi": FPI, "pii": PII, "nsa": NSA}
each = pytest.mark.parametrize("method", RECIPES)


def textures(count=12):
    """uint8 (N, 1, 64, 64), smooth."""
    coarse = torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return (60 + 190 * torch.nn.functional.interpolate(coarse, (64, 64), mode="bicubic").clamp(0, 1)).to(torch.uint8)


def stage(method="nsa", within_step=None, seed=0):
    torch.manual_seed(seed)
    settings = tiny(method)
    network = make_network(settings).train()
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    return SyntheticStage(network, optimizer, RECIPES[method], Computing(), within_step=within_step)


def batch(count=4):
    return {"normal": textures(count) / 127.5 - 1}


@each
def test_titles_recipes_and_streams(method):
    found = find_method(method)
    assert found.recipe is RECIPES[method]
    assert found.streams == ("normal",)
    assert not found.restores
    assert resolve_settings("paper", method).image_size == (224, 224)
    assert resolve_settings("recommended", method).image_size == (64, 64)


@each
def test_the_loss_falls(method):
    settings = tiny(method, max_iterations=30, iterations_per_epoch=30, augment=False)
    torch.manual_seed(0)
    network = make_network(settings)
    data = TrainingBatches(textures(), textures(), 4, 30, streams=("normal",))
    trainer, losses = StagedTrainer("cpu", 1, data, make_stages(network, settings)), []
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda engine: losses.append(engine.state.output["loss"].item())
    )
    trainer.run()
    assert sum(losses[-5:]) < 0.6 * sum(losses[:5])


def test_the_rate_falls_along_a_cosine():
    settings = tiny("nsa", learning_rate=1e-3)
    network = make_network(settings)
    only = find_method("nsa").stages(network, settings, Computing())[0]
    rates = [only.learning_rate(done, 100, 10) for done in (0, 50, 100)]
    assert rates == pytest.approx([1e-3, (1e-3 + 1e-6) / 2, 1e-6])
    assert stage().learning_rate(0, 100, 10) is None


@each
def test_images_and_labels_of_a_step(method):
    one = stage(method)
    torch.manual_seed(3)
    variant, inputs = one.draw(batch(), 1)
    image, label = inputs
    assert image.shape == label.shape == (4, 1, 64, 64)
    assert not torch.equal(image, batch()["normal"])
    output = {}
    for _, new in one.step(variant, *inputs):
        output |= new
    assert torch.equal(output["image"], image)
    assert torch.equal(output["label"], label)
    expected = torch.nn.functional.binary_cross_entropy(output["pred"].sigmoid(), label)
    torch.testing.assert_close(output["loss"], expected)


@each
def test_a_step_draws_nothing(method):
    for within_step in (False, True):
        one = stage(method, within_step)
        variant, inputs = one.draw(batch(), 1)
        state = torch.get_rng_state()
        list(one.step(variant, *inputs))
        assert torch.equal(torch.get_rng_state(), state)


@each
def test_anomalies_made_within_a_step_are_the_same(method):
    """As a GPU makes them, which replays whole steps."""
    weights = []
    for within_step in (False, True):
        one = stage(method, within_step)
        torch.manual_seed(5)
        variant, inputs = one.draw(batch(), 1)
        list(one.step(variant, *inputs))
        weights.append([parameter.detach().clone() for parameter in one.network.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*weights, strict=True))


def test_the_score_is_the_mean_of_probabilities():
    settings = tiny("pii")
    found = find_method("pii")
    network = make_network(settings).eval()
    image = batch()["normal"]
    with torch.no_grad():
        detection = found.detect(network, image)
        torch.testing.assert_close(detection.anomaly_map, network((image + 1) / 2).sigmoid())
    assert detection.score is None
    assert detection.restored is None


@pytest.mark.parametrize("size", [[70, 70], [64, 80]])
def test_sizes_that_do_not_fit(size, refused):
    with refused("image_size is", "32 must divide both sides"):
        resolve_settings("recommended", "nsa", image_size=size)
