"""An interrupted run goes on bit for bit, and only with the settings it began with."""

from __future__ import annotations

import threading
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from torch.utils.tensorboard import SummaryWriter

from monai_sagan.data.batches import TrainingBatches
from monai_sagan.engines import SaganTrainer
from monai_sagan.errors import show_errors_in_one_line
from monai_sagan.files import load_tensors, save_tensors
from monai_sagan.handlers import AverageWeights, ResumeCheckpoint
from monai_sagan.handlers.checkpoint import check_settings
from monai_sagan.networks import SaganDiscriminator, SaganGenerator
from monai_sagan.records import drop_records, keep_records, record_text

LENGTH = 3  # iterations an epoch: the generator's turns, each second, do not fall on its ends


class BrokenOffError(Exception):
    pass


def train(folder, epochs, random_pixels, broken_off_at=None, share=0.5, first_weights=0):
    """A tiny run with all that a checkpoint holds; the losses by iteration come with it."""
    torch.manual_seed(first_weights)
    network = SaganGenerator(channels=4, num_res_blocks=1)
    critic = SaganDiscriminator(channels=4)
    optimizers = [torch.optim.Adam(part.parameters(), 1e-3, betas=(0.5, 0.999)) for part in (network, critic)]
    average = AverageWeights(network, 0.5, interval=2)
    objects = {
        "network": network,
        "optimizer": optimizers[0],
        "discriminator": critic,
        "discriminator_optimizer": optimizers[1],
        "average": average,
    }
    losses = {}

    def watch(engine):
        scalars = {k: v for k, v in engine.state.output.items() if torch.is_tensor(v) and not v.ndim}
        trained = scalars if engine.state.iteration % 2 == 0 else ("critic", "gradient_penalty")
        losses[engine.state.iteration] = {name: scalars[name].item() for name in trained}
        if engine.state.iteration == broken_off_at:
            raise BrokenOffError

    checkpoint = ResumeCheckpoint(folder / "checkpoint.pt", objects, {"channels": 4, "max_iterations": epochs * LENGTH})
    data = TrainingBatches(random_pixels(6), random_pixels(6, seed=1), 2, LENGTH, augment=True)
    handlers = [average, checkpoint]
    trainer = SaganTrainer("cpu", epochs, data, network, optimizers[0], critic, optimizers[1], train_handlers=handlers)
    stage = trainer.stages.placed[0].stage
    stage.rate, stage.decay = 1e-3, share
    trainer.add_event_handler(Events.ITERATION_COMPLETED, watch)
    if broken_off_at:
        with pytest.raises(BrokenOffError):
            trainer.run()
    else:
        trainer.run()
    return SimpleNamespace(losses=losses, states={name: thing.state_dict() for name, thing in objects.items()})


def flat(state, prefix=""):
    """All tensors and numbers in nested states, by their place."""
    pairs = state.items() if isinstance(state, dict) else enumerate(state) if isinstance(state, (list, tuple)) else ()
    found = {} if pairs else {prefix: state}
    for key, value in pairs:
        found |= flat(value, f"{prefix}/{key}")
    return found


def assert_equal(one, other):
    one, other = flat(one), flat(other)
    assert one.keys() == other.keys()
    for place, value in one.items():
        assert torch.equal(value, other[place]) if torch.is_tensor(value) else value == other[place], place


def test_two_epochs_and_two_more_are_four(tmp_path, random_pixels):
    whole = train(tmp_path / "whole", 4, random_pixels, share=0)
    first = train(tmp_path / "parts", 2, random_pixels, share=0)
    second = train(tmp_path / "parts", 4, random_pixels, share=0, first_weights=99)
    assert first.losses | second.losses == whole.losses
    assert min(second.losses) == 2 * LENGTH + 1
    assert_equal(second.states, whole.states)
    assert_equal(load_tensors(tmp_path / "parts" / "checkpoint.pt"), load_tensors(tmp_path / "whole" / "checkpoint.pt"))
    assert whole.states["optimizer"]["state"][0]["step"] == 2 * LENGTH  # Adam's moments were compared as well
    assert whole.states["average"]["n_averaged"] == 2 * LENGTH
    again = train(tmp_path / "parts", 4, random_pixels, share=0, first_weights=98)  # is done: loads, and no more
    assert again.losses == {}
    assert_equal(again.states, whole.states)


def test_a_run_broken_off_amid_an_epoch_goes_on(tmp_path, random_pixels):
    whole = train(tmp_path / "whole", 3, random_pixels)
    train(tmp_path / "parts", 3, random_pixels, broken_off_at=2 * LENGTH - 1)
    second = train(tmp_path / "parts", 3, random_pixels, first_weights=99)
    assert min(second.losses) == LENGTH + 1
    assert second.losses == {i: losses for i, losses in whole.losses.items() if i > LENGTH}
    assert_equal(second.states, whole.states)
    assert len({state["lr"] for state in whole.states["optimizer"]["param_groups"]}) == 1
    assert second.states["optimizer"]["param_groups"][0]["lr"] < 1e-3


class Counter:
    """Anything with a state."""

    def __init__(self, count=0):
        self.count = count

    def state_dict(self):
        return {"count": self.count}

    def load_state_dict(self, state):
        self.count = state["count"]


def run(path, epochs=2, settings=None, names=("counter",), kind=Counter, **options):
    counters = {name: kind() for name in names}

    def step(engine, batch):
        for counter in counters.values():
            counter.count += 1

    engine = Engine(step)
    settings = {"width": 4, "max_iterations": 5 * epochs} | (settings or {})
    ResumeCheckpoint(path, counters, settings, **options).attach(engine)
    engine.run([None] * 5, max_epochs=epochs)
    return counters["counter"].count if "counter" in counters else None


def test_plain_round_trip(tmp_path):
    path = tmp_path / "new" / "checkpoint.pt"
    assert run(path) == 10
    content = torch.load(path, weights_only=True)
    assert content == {
        "iteration": 10,
        "device": "cpu",
        "settings": {"width": 4, "max_iterations": 10},
        "states": {"counter": {"count": 10}},
    }
    assert run(path, epochs=3) == 15
    assert run(path, epochs=3) == 15


@pytest.mark.parametrize(("interval", "epochs", "saved"), [(1, 3, [5, 10, 15]), (2, 3, [10, 15]), (10, 3, [15])])
def test_interval(tmp_path, interval, epochs, saved):
    seen = []

    class Noted(Counter):
        def state_dict(self):
            seen.append(self.count)
            return super().state_dict()

    run(tmp_path / "checkpoint.pt", epochs, kind=Noted, interval=interval)
    assert seen == saved


def test_other_settings_are_named(tmp_path, refused):
    path = tmp_path / "checkpoint.pt"
    run(path)
    with refused(path, "width 4", "this run has 8", "output_dir"):
        run(path, settings={"width": 8})
    with refused(path, "depth None", "this run has 2"):  # one that the older run did not know
        run(path, settings={"depth": 2})
    with refused(path, "max_iterations 10"):
        run(path, settings={"max_iterations": 20}, may_differ=())
    assert run(path, epochs=3, settings={"width": 8}, may_differ=("width", "max_iterations")) == 15


def test_a_run_does_not_become_shorter(tmp_path, refused):
    path = tmp_path / "checkpoint.pt"
    run(path, epochs=3)
    before = path.read_bytes()
    with refused(path, "has done 15 iterations", "asks for 10", "--max_iterations 15"):
        run(path, epochs=2)
    assert path.read_bytes() == before
    assert run(path, epochs=3) == 15  # which is what it has done
    assert run(path, epochs=4) == 20


def test_files_of_another_kind(tmp_path, refused):
    path = tmp_path / "checkpoint.pt"
    run(path)
    with refused(path, "not a checkpoint of this kind"):
        run(path, names=("other",))
    with refused(path, "not a checkpoint of this kind"):
        run(path, names=("counter", "other"))
    for content in ({"model": {}}, {"iteration": 1, "settings": {}}):
        save_tensors(content, path)
        with refused(path, "not a checkpoint of this kind"):
            run(path)
    path.write_bytes(b"text")
    with refused(path):
        run(path)
    path.unlink()
    path.mkdir()  # not a file: nothing to resume; saving fails in its own words
    with pytest.raises(OSError, match="checkpoint"):
        run(path)


def test_another_precision_goes_on_and_is_said(tmp_path, caplog):
    path = tmp_path / "checkpoint.pt"
    run(path, settings={"amp": False, "engine": "eager"})
    assert run(path, epochs=3, settings={"amp": False, "engine": "eager"}) == 15
    assert "up to rounding" not in caplog.text
    assert run(path, epochs=4, settings={"amp": True, "engine": "compiled"}) == 20
    assert "was made with amp False, this run has True: it resumes, up to rounding" in caplog.text
    assert "was made with engine eager, this run has compiled: it resumes, up to rounding" in caplog.text


def test_a_checkpoint_is_checked_before_anything_is_loaded(tmp_path, refused):
    path = tmp_path / "checkpoint.pt"
    settings = {"width": 4, "max_iterations": 10, "amp": False}
    ResumeCheckpoint(path, {}, settings).check()  # there is none
    check_settings(path, {"width": 8})
    run(path, settings=settings)
    for wanted in ({"width": 4}, {"max_iterations": 20, "amp": True}, {}):
        check_settings(path, wanted)
    with refused(path, "width 4", "this run has 8"):
        check_settings(path, {"width": 8})
    counter = Counter(3)
    ResumeCheckpoint(path, {"counter": counter}, settings | {"amp": True}).check()
    assert counter.count == 3
    with refused(path, "width 4", "this run has 8"):
        ResumeCheckpoint(path, {"counter": counter}, settings | {"width": 8}).check()
    with refused(path, "not a checkpoint of this kind"):
        ResumeCheckpoint(path, {"other": counter}, settings).check()
    path.write_bytes(b"text")
    with refused(path):
        check_settings(path, {})


def test_what_was_recorded_is_written_when_the_checkpoint_fits(tmp_path, refused):
    path = tmp_path / "checkpoint.pt"
    run(path)
    for settings, there in (({"width": 8}, False), ({}, True)):
        keep_records(tmp_path, lambda: None)
        record_text(tmp_path / "config.json", "new")
        with refused(path) if settings else nullcontext():
            run(path, epochs=3, settings=settings)
        assert (tmp_path / "config.json").exists() == there
        drop_records(tmp_path)


@pytest.mark.parametrize("named", [True, False])
def test_a_full_disk_ends_a_training_in_one_line(tmp_path, named, small_files, refused, monkeypatch):
    """Also where TensorBoard's thread meets it, whose error names no file."""
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    show_errors_in_one_line()
    others = set(threading.enumerate())
    writer = SummaryWriter(tmp_path / "tensorboard")
    noise = np.random.default_rng(0).integers(0, 256, (3, 99, 99), np.uint8)

    def write(engine):
        if named:
            save_tensors({"noise": torch.zeros(99_999)}, tmp_path / "model.pt")
        for _ in range(9):
            writer.add_image("noise", noise)
        writer.flush()

    engine = Engine(lambda engine, batch: None)
    ResumeCheckpoint(tmp_path / "checkpoint.pt", {}, {}).attach(engine)
    engine.add_event_handler(Events.ITERATION_COMPLETED, write)
    with small_files(100_000), refused(tmp_path / ("model.pt" if named else ""), "too large", "make room"):
        engine.run([None] * 3)
    for thread in set(threading.enumerate()) - others:  # TensorBoard's, of which nothing more is shown
        thread.join(0 if named else 60)
    assert {path.name for path in tmp_path.iterdir()} == {"tensorboard"}


@pytest.mark.parametrize(
    ("device", "said"), [("cpu", ""), ("cuda:1", ", up to rounding: a GPU may add in another order")]
)
def test_what_resuming_promises_is_said(tmp_path, caplog, device, said):
    engine = Engine(lambda engine, batch: None)
    engine.state.device = torch.device(device)
    engine.state.iteration = 4
    checkpoint = ResumeCheckpoint(tmp_path / "checkpoint.pt", {}, {})
    checkpoint.save(engine)
    with caplog.at_level("INFO"):
        checkpoint.load(engine)
    assert caplog.messages[-1].startswith(f"resumed from {checkpoint.path} at iteration 4{said}")
    assert caplog.messages[-1].endswith("each time" if said else "4")


def test_another_kind_of_device_is_said(tmp_path, caplog):
    engine = Engine(lambda engine, batch: None)
    engine.state.iteration = 4
    checkpoint = ResumeCheckpoint(tmp_path / "checkpoint.pt", {}, {})
    for saved, loaded, warned in (("cuda:0", "cpu", True), ("cuda:0", "cuda:1", False), ("cpu", "cpu", False)):
        engine.state.device = torch.device(saved)
        checkpoint.save(engine)
        engine.state.device = torch.device(loaded)
        caplog.clear()
        checkpoint.load(engine)
        assert ("was made on cuda, this run is on cpu: its draws differ" in caplog.text) == warned
