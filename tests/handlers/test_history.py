"""The table of training curves: right means, and the same file however often the run was broken off."""

from __future__ import annotations

import csv

import pytest
import torch
from ignite.engine import Engine, Events

from monai_sagan.data.batches import TrainingBatches
from monai_sagan.engines import SaganTrainer
from monai_sagan.files import load_tensors
from monai_sagan.handlers import KeepModels, ResumeCheckpoint
from monai_sagan.handlers.history import History
from monai_sagan.networks import SaganDiscriminator, SaganGenerator


class BrokenOffError(Exception):
    pass


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def run(folder, epochs, length=6, broken_off_at=None, interval=4, every=2, validated=(), summary_writer=None):
    """Iteration i has the output a = i, and b = 10 i on each second, which is carried along until then."""
    models = KeepModels(folder / "best.pt", folder / "last.pt", lambda **values: values, length)
    history = History(folder / "history.csv", models, interval, summary_writer)
    kept = {}

    def step(engine, batch):
        i = engine.state.iteration
        if i == broken_off_at:
            raise BrokenOffError
        if i % 2 == 0:
            kept["b"] = torch.tensor(10.0 * i)
        return {"a": torch.tensor(float(i)), "image": torch.zeros(2), "note": "text"} | kept

    def validate(engine):
        if engine.state.epoch in validated:
            models.history.append((engine.state.iteration, engine.state.epoch / 10))

    engine = Engine(step)
    engine.add_event_handler(Events.EPOCH_COMPLETED, validate)
    history.attach(engine)
    objects = {"history": history, "models": models}
    ResumeCheckpoint(folder / "checkpoint.pt", objects, {}, interval=every).attach(engine)
    if broken_off_at:
        with pytest.raises(BrokenOffError):
            engine.run([None] * length, max_epochs=epochs)
    else:
        engine.run([None] * length, max_epochs=epochs)
    return history


def test_means_since_the_row_before(tmp_path):
    run(tmp_path, 2, validated=(1, 2))
    assert read(tmp_path / "history.csv") == [
        {"iteration": "4", "a": "2.5", "b": "30", "aucp": ""},
        {"iteration": "6", "a": "5.5", "b": "60", "aucp": "0.1"},
        {"iteration": "10", "a": "8.5", "b": "90", "aucp": ""},
        {"iteration": "12", "a": "11.5", "b": "120", "aucp": "0.2"},
    ]


def test_no_value_is_an_empty_cell(tmp_path):
    run(tmp_path, 1, interval=1, length=3)
    assert [row["b"] for row in read(tmp_path / "history.csv")] == ["", "20", ""]


def test_without_models(tmp_path):
    engine = Engine(lambda engine, batch: {"loss": torch.tensor(float(batch))})
    History(tmp_path / "history.csv", interval=2).attach(engine)
    engine.run([1, 2, 3, 6], max_epochs=1)
    assert (tmp_path / "history.csv").read_text() == "iteration,loss\n2,1.5\n4,4.5\n"


class Writer:
    """Keeps what a summary writer is given."""

    def __init__(self):
        self.points, self.flushed = [], 0

    def add_scalar(self, name, value, step):
        self.points.append((step, name, value))

    def flush(self):
        self.flushed += 1


def test_tensorboard_draws_the_same_rows(tmp_path):
    writer = Writer()
    run(tmp_path, 2, validated=(1, 2), summary_writer=writer)
    rows = [
        (int(row["iteration"]), name, pytest.approx(float(row[name])))
        for row in read(tmp_path / "history.csv")
        for name in ("a", "b", "aucp")
        if row[name]
    ]
    assert writer.points == rows
    assert writer.flushed


def test_a_resumed_run_draws_no_row_twice(tmp_path):
    first, second = Writer(), Writer()
    run(tmp_path, 2, every=1, summary_writer=first)
    run(tmp_path, 3, every=1, summary_writer=second)
    assert {step for step, *_ in first.points} == {4, 6, 10, 12}
    assert {step for step, *_ in second.points} == {16, 18}


def test_nothing_is_read_from_the_device_between_epochs(tmp_path):
    """A tensor without data fails as soon as anybody looks at its value."""
    engine = Engine(lambda engine, batch: {"loss": torch.zeros((), device="meta")})
    history = History(tmp_path / "history.csv", interval=2)
    history.attach(engine)
    with pytest.raises(RuntimeError, match="meta"):
        engine.run([None] * 7, max_epochs=1)
    assert engine.state.iteration == 7
    assert len(history._unread) == 4
    assert not (tmp_path / "history.csv").exists()


@pytest.mark.parametrize(("epochs", "broken_off_at"), [(2, None), (4, 9), (4, 16), (4, 20)])
@pytest.mark.parametrize("every", [1, 2])
def test_a_resumed_run_writes_the_same_file(tmp_path, epochs, broken_off_at, every):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run(whole, 4, validated=(2, 4))
    run(parts, epochs, broken_off_at=broken_off_at, every=every, validated=(2, 4))
    run(parts, 4, every=every, validated=(2, 4))
    assert (parts / "history.csv").read_text() == (whole / "history.csv").read_text()


def test_rows_beyond_the_checkpoint_leave_the_file_at_once(tmp_path):
    run(tmp_path, 4, broken_off_at=20, every=2)  # the checkpoint is of iteration 12, the last row of 18
    assert read(tmp_path / "history.csv")[-1]["iteration"] == "18"
    run(tmp_path, 4, broken_off_at=13, every=2)
    assert read(tmp_path / "history.csv")[-1]["iteration"] == "12"


def test_state_is_plain(tmp_path):
    history = run(tmp_path, 2, every=1)
    state = load_tensors(tmp_path / "checkpoint.pt")["states"]["history"]
    again = History(tmp_path / "again.csv")
    again.load_state_dict(state)
    assert again.rows == history.rows
    empty = History(tmp_path / "empty.csv")
    empty.load_state_dict(History(tmp_path / "none.csv").state_dict())
    assert empty.rows == []


def train(folder, epochs, random_pixels):
    torch.manual_seed(0)
    network, critic = SaganGenerator(channels=4, num_res_blocks=1), SaganDiscriminator(channels=4)
    optimizers = [torch.optim.Adam(part.parameters(), 1e-3) for part in (network, critic)]
    history = History(folder / "history.csv", interval=2)
    objects = {"network": network, "optimizer": optimizers[0], "critic": critic, "critic_optimizer": optimizers[1]}
    checkpoint = ResumeCheckpoint(folder / "checkpoint.pt", objects | {"history": history}, {})
    data = TrainingBatches(random_pixels(4), random_pixels(4, seed=1), 2, 3)
    handlers = [history, checkpoint]
    SaganTrainer("cpu", epochs, data, network, optimizers[0], critic, optimizers[1], train_handlers=handlers).run()


def test_a_real_trainer_stopped_and_resumed(tmp_path, random_pixels):
    """Epochs of an odd number of iterations: the generator's last losses are not there at once after a resume."""
    train(tmp_path / "whole", 2, random_pixels)
    train(tmp_path / "parts", 1, random_pixels)
    train(tmp_path / "parts", 2, random_pixels)
    text = (tmp_path / "whole" / "history.csv").read_text()
    assert (tmp_path / "parts" / "history.csv").read_text() == text
    names = ["iteration", "critic", "gradient_penalty", "loss", "adversarial", "identity", "reconstruction"]
    rows = read(tmp_path / "whole" / "history.csv")
    assert list(rows[0]) == names
    assert [row["iteration"] for row in rows] == ["2", "3", "5", "6"]
    assert [row["identity"] != "" for row in rows] == [True, False, True, True]
