"""A run stops when a loss is not a number, and says which and since when."""

from __future__ import annotations

import math

import pytest
import torch
from ignite.engine import Engine, Events

from monai_sagan.handlers import StopOnNonFinite


def run(values, interval=50, epoch_length=10, epochs=2):
    """A trainer whose losses are 1 but where ``values`` says otherwise: {(name, iteration): value}."""

    def step(engine, batch):
        losses = {name: values.get((name, engine.state.iteration), 1.0) for name in ("critic", "loss")}
        return {name: torch.tensor(value) for name, value in losses.items()} | {
            "image": torch.full((2, 1, 4, 4), math.nan),  # only scalars are watched
            "note": "text",
        }

    engine = Engine(step)
    StopOnNonFinite(interval).attach(engine)
    saved = []
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda engine: saved.append(engine.state.epoch))
    engine.run([None] * epoch_length, max_epochs=epochs)
    return saved


def test_a_sound_run_goes_through():
    assert run({}) == [1, 2]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_first_iteration_is_named_even_when_it_passes(value, refused):
    with refused("loss critic", "since iteration 13;", "learning_rate"):
        run({("critic", 13): value})


def test_the_earliest_loss_is_named(refused):
    with refused("loss loss", "since iteration 4;"):
        run({("critic", 5): math.nan, ("loss", 4): math.inf, ("loss", 9): math.nan})


def test_it_looks_at_the_interval(refused):
    with refused("since iteration 3;"):
        run({("critic", 3): math.nan, ("loss", 5): math.nan}, interval=4)


def test_it_stops_before_a_later_handler_saves(refused):
    saved = []
    engine = Engine(lambda engine, batch: {"loss": torch.tensor(math.nan if engine.state.epoch == 2 else 1.0)})
    StopOnNonFinite().attach(engine)
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda engine: saved.append(engine.state.epoch))
    with refused("since iteration 6;"):
        engine.run([None] * 5, max_epochs=3)
    assert saved == [1]


def test_large_iterations_keep_their_digits(refused):
    engine = Engine(lambda engine, batch: {"loss": torch.tensor(math.nan)})

    def resume(engine):
        engine.state.iteration, engine.state.epoch = 9_999_990, 999_999

    engine.add_event_handler(Events.STARTED, resume)
    StopOnNonFinite().attach(engine)
    with refused("since iteration 9999991;"):
        engine.run([None] * 10, max_epochs=1_000_000)
