"""Stages of one run: their places, what each trains, and resuming in and between them."""

from __future__ import annotations

import pytest
import torch
from ignite.engine import Events
from two_stages import Mean, Network, Scale, TwoStages

from monai_sagan.data.batches import TrainingBatches
from monai_sagan.engines import StagedEvaluator, StagedTrainer
from monai_sagan.engines.stages import Stages, checkpoint_objects
from monai_sagan.handlers import AverageWeights, ResumeCheckpoint
from monai_sagan.methods import Stage, find_method, make_network, resolve_settings

LENGTH, EPOCHS = 3, 8


class Empty(Stage):
    modules = optimizers = {}

    def __init__(self, share=1.0, **objects):
        self.share = share
        self.modules = objects

    def draw(self, batch, iteration):
        return None, []

    def step(self, variant, *inputs):
        return iter(())


def ends(shares, epochs):
    return [placed.end for placed in Stages([Empty(share) for share in shares], epochs).placed]


def test_stages_share_the_epochs():
    assert ends([1.0], 7) == [7]
    assert ends([0.25, 0.75], 8) == [2, 8]
    assert ends([0.01, 0.99], 10) == [1, 10]  # each at least one epoch
    assert ends([0.98, 0.01, 0.01], 5) == [3, 4, 5]
    assert ends([1, 1, 2], 4) == [1, 2, 4]


def test_each_epoch_has_a_stage():
    stages = Stages([Empty(0.5), Empty(0.5)], 4)
    assert [stages.at(epoch).first for epoch in range(1, 5)] == [0, 0, 2, 2]
    assert stages.epochs_before_last == 2
    assert stages.plan() == {"stages": {"train": 2}}
    assert Stages([Empty()], 4).plan() == {}


def test_fewer_epochs_than_stages_are_refused(refused):
    with refused("the run has 1 epochs for 2 stages (train, train)"):
        Stages([Empty(), Empty()], 1)


def test_names_of_a_checkpoint_are_unique():
    shared = torch.nn.Linear(1, 1)
    assert Stages([Empty(network=shared), Empty(network=shared)], 2).states() == {"network": shared}
    with pytest.raises(ValueError, match="'network'"):
        Stages([Empty(network=shared), Empty(network=torch.nn.Linear(1, 1))], 2).states()


class StoppedError(Exception):
    pass


def train(folder, random_pixels, stop_at=None, epochs=EPOCHS):
    """A run with everything that a checkpoint holds; its states and the loss of each iteration."""
    torch.manual_seed(0)
    network = Network()
    stages = Stages([Mean(network, 0.01), Scale(network, 0.02)], epochs)
    average = AverageWeights(network, 0.5, start=stages.epochs_before_last)
    objects = checkpoint_objects(stages, average=average)
    checkpoint = ResumeCheckpoint(
        folder / "checkpoint.pt", objects, {"max_iterations": epochs * LENGTH} | stages.plan()
    )
    data = TrainingBatches(random_pixels(8), random_pixels(8, seed=1), 2, LENGTH, streams=("normal",))
    trainer = StagedTrainer("cpu", epochs, data, stages, train_handlers=[average, checkpoint])
    losses = {}

    def watch(engine):
        losses[engine.state.iteration] = float(engine.state.output["loss"])
        if engine.state.iteration == stop_at:
            raise StoppedError

    trainer.add_event_handler(Events.ITERATION_COMPLETED, watch)
    if stop_at is None:
        trainer.run()
    else:
        with pytest.raises(StoppedError):
            trainer.run()
    return network, losses, objects


# The first stage has 2 of 8 epochs: within it, at its end, at the boundary's first iteration, within the second.
@pytest.mark.parametrize("stop_at", [2, 4, 6, 7, 8, 9, 20])
def test_a_run_resumes_bit_for_bit_wherever_it_stopped(stop_at, tmp_path, random_pixels):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    expected, losses, wanted = train(tmp_path / "a", random_pixels)
    train(tmp_path / "b", random_pixels, stop_at)
    found, later, states = train(tmp_path / "b", random_pixels)
    assert later == {iteration: loss for iteration, loss in losses.items() if iteration in later}
    for name, value in expected.state_dict().items():
        assert torch.equal(found.state_dict()[name], value), name
    for name, value in wanted["average"].state_dict().items():
        assert torch.equal(states["average"].state_dict()[name], value), name


def test_a_stage_trains_its_own_modules_alone(tmp_path, random_pixels):
    seen = {}
    torch.manual_seed(0)
    network = Network()
    stages = Stages([Mean(network, 0.01), Scale(network, 0.02)], EPOCHS)
    data = TrainingBatches(random_pixels(8), random_pixels(8, seed=1), 2, LENGTH, streams=("normal",))
    trainer = StagedTrainer("cpu", EPOCHS, data, stages)

    def watch(engine):
        seen[engine.state.epoch] = {name: value.clone() for name, value in network.state_dict().items()} | {
            "rate": torch.tensor(stages.placed[1].stage.optimizers["optimizer"].param_groups[0]["lr"])
        }

    trainer.add_event_handler(Events.EPOCH_COMPLETED, watch)
    trainer.run()
    assert not torch.equal(seen[1]["mean.weight"], seen[2]["mean.weight"])
    assert torch.equal(seen[2]["mean.weight"], seen[8]["mean.weight"])
    assert torch.equal(seen[1]["scale.weight"], seen[2]["scale.weight"])
    assert not torch.equal(seen[3]["scale.weight"], seen[8]["scale.weight"])
    assert seen[2]["seen"] == 0 != seen[3]["seen"] == seen[8]["seen"]
    assert seen[8]["rate"] == pytest.approx(0.02 * (1 - 17 / 18))


def test_another_plan_of_stages_is_not_resumed(tmp_path, random_pixels, refused):
    train(tmp_path, random_pixels)
    with refused("was made with stages"):
        train(tmp_path, random_pixels, epochs=16)


def test_validation_waits_for_the_last_stage():
    network = torch.nn.Identity()
    data = [{"image": torch.zeros(1, 1), "label": torch.zeros(1)}]
    evaluator, seen = StagedEvaluator("cpu", data, network, start=2), []
    evaluator.add_event_handler(Events.STARTED, lambda engine: seen.append(engine.state.epoch))
    for epoch in range(1, 5):
        evaluator.run(global_epoch=epoch)
    assert len(seen) == 2


def test_a_method_of_ones_own_is_found_by_its_path():
    method = find_method("two_stages.TwoStages")
    assert isinstance(method, TwoStages)
    settings = resolve_settings("paper", "two_stages.TwoStages", second_rate=0.5, max_iterations=20)
    assert (settings.method, settings.second_rate, settings.iterations_per_epoch) == ("two_stages.TwoStages", 0.5, 10)
    assert isinstance(make_network(settings), Network)


def test_unknown_methods_and_options_are_named(refused):
    with refused("unknown method 'sagam'; the nearest is sagan"):
        find_method("sagam")
    with refused("cannot be imported"):
        find_method("no_such_module.Method")
    with refused("is not a method"):
        find_method("builtins.int")
    with refused("unknown option 'channels'"):
        resolve_settings("paper", "two_stages.TwoStages", channels=4)
    with refused("preset is 'official'; use one of paper, recommended, quick"):
        resolve_settings("official", "two_stages.TwoStages")
    with refused("leave it out"):
        make_network(resolve_settings("paper", "two_stages.TwoStages"), checkpoint_images=2)
