"""The best model without labels and the last one are kept."""

from __future__ import annotations

import math

import pytest
import torch
from ignite.engine import Engine
from ignite.metrics import Average

from monai_sagan.files import load_tensors
from monai_sagan.handlers import KeepModels, scores_and_labels

NAN = math.nan


def content(iteration, aucp):
    return {"model": {"weight": torch.tensor(float(iteration))}, "iteration": iteration, "aucp": aucp}


def validate(handler, value, epoch):
    """Run a validation whose metric has this value, as MONAI's handler does after an epoch of training."""
    engine = Engine(lambda engine, batch: batch)
    Average().attach(engine, handler.metric)
    handler.attach(engine)
    engine.state.epoch, engine.state.max_epochs = epoch - 1, epoch
    engine.run([value], max_epochs=epoch)


@pytest.fixture
def keep(tmp_path):
    return lambda: KeepModels(tmp_path / "model.pt", tmp_path / "model_last.pt", content, iterations_per_epoch=100)


@pytest.mark.parametrize(
    ("values", "best"),
    [
        ([0.6], 1),
        ([0.6, 0.8, 0.7], 2),
        ([0.7, 0.7, 0.7], 1),  # the first of equals
        ([NAN, 0.2, NAN], 2),
        ([0.5, NAN, math.inf], 1),
    ],
)
def test_best_and_last(tmp_path, keep, values, best):
    handler = keep()
    for epoch, value in enumerate(values, 1):
        validate(handler, value, epoch)
        last = load_tensors(tmp_path / "model_last.pt")
        assert last["iteration"] == 100 * epoch
        assert last["aucp"] == pytest.approx(value, nan_ok=True)
    chosen = load_tensors(tmp_path / "model.pt")
    assert (chosen["iteration"], chosen["model"]["weight"]) == (100 * best, 100 * best)
    assert chosen["aucp"] == pytest.approx(values[best - 1])
    assert [iteration for iteration, _ in handler.history] == [100 * (i + 1) for i in range(len(values))]


def test_the_standard_error_is_kept_with_the_metric(tmp_path, caplog):
    """Where it is known: not with one image of a kind, and not where no one measures it."""
    handler = KeepModels(tmp_path / "model.pt", tmp_path / "last.pt", lambda **values: values, 100)
    for epoch, error in enumerate((0.05, NAN, None), 1):
        engine = Engine(lambda engine, batch: batch)
        handler.attach(engine)
        engine.state.metrics = {"aucp": 0.6} | ({} if error is None else {"aucp_se": error})
        engine.state.epoch = epoch
        with caplog.at_level("INFO"):
            handler(engine)
        kept = load_tensors(tmp_path / "last.pt")
        assert kept.get("aucp_se") == (0.05 if epoch == 1 else None)
    messages = [record.getMessage() for record in caplog.records]
    assert [" (standard error 0.0500)" in message for message in messages] == [True, False, False]


def test_nan_alone_is_never_the_best(tmp_path, keep):
    validate(keep(), NAN, 1)
    assert not (tmp_path / "model.pt").exists()
    assert (tmp_path / "model_last.pt").exists()


def test_state_goes_on(tmp_path, keep):
    first, second = keep(), keep()
    validate(first, 0.8, 1)
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert second.state_dict() == first.state_dict()
    validate(second, 0.7, 2)
    assert load_tensors(tmp_path / "model.pt")["iteration"] == 100
    assert second.history == [(100, 0.8), (200, 0.7)]
    assert first.history == [(100, 0.8)]


def test_another_metric(tmp_path):
    handler = KeepModels(tmp_path / "a.pt", tmp_path / "b.pt", lambda **values: values, 10, metric="ap")
    validate(handler, 0.25, 3)
    assert load_tensors(tmp_path / "a.pt") == {"iteration": 30, "ap": 0.25}


def test_what_metrics_take():
    output = {"anomaly_score": torch.ones(3), "label": torch.zeros(3), "image": torch.zeros(1)}
    assert [part.tolist() for part in scores_and_labels(output)] == [[1, 1, 1], [0, 0, 0]]
