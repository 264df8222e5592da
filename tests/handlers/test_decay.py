"""The learning rate over a run, and after a resume."""

from __future__ import annotations

import pytest
import torch
from ignite.engine import Engine, Events

from monai_sagan.handlers import LinearDecay


def rates(share, epochs=10, resumed_at=0):
    """The learning rates of both optimizers in each epoch of a run."""
    optimizers = [torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=9.0) for _ in range(2)]
    seen = []
    engine = Engine(lambda engine, batch: seen.append([o.param_groups[0]["lr"] for o in optimizers]))
    LinearDecay(optimizers, 2.0, share).attach(engine)

    def resume(engine):
        engine.state.epoch, engine.state.iteration = resumed_at, resumed_at

    engine.add_event_handler(Events.STARTED, resume)
    engine.run([None], max_epochs=epochs)
    assert all(first == second for first, second in seen)
    return [first for first, _ in seen]


def test_it_falls_over_the_share():
    assert rates(0.5) == pytest.approx([2, 2, 2, 2, 2, 2, 1.6, 1.2, 0.8, 0.4])
    assert rates(1.0, epochs=4) == pytest.approx([2, 1.5, 1, 0.5])
    assert rates(0.25, epochs=4) == pytest.approx([2, 2, 2, 2])


def test_no_share_no_decay():
    assert rates(0.0) == [2.0] * 10


@pytest.mark.parametrize("resumed_at", [3, 8])
def test_it_holds_after_a_resume(resumed_at):
    assert rates(0.5, resumed_at=resumed_at) == rates(0.5)[resumed_at:]
