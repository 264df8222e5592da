"""The averaged weights, by hand."""

from __future__ import annotations

import pytest
import torch
from ignite.engine import Engine
from torch import nn

from monai_sagan.handlers import AverageWeights


def trained_to_its_iteration(network):
    """A trainer that sets the only weight to the iteration's number."""

    def step(engine, batch):
        with torch.no_grad():
            network.weight.fill_(engine.state.iteration)

    return Engine(step)


def run(decay, interval, iterations, state=None):
    network = nn.Linear(1, 1, bias=False)
    average = AverageWeights(network, decay, interval)
    engine = trained_to_its_iteration(network)
    average.attach(engine)
    if state:
        average.load_state_dict(state)
    engine.run([None] * iterations)
    return network, average


@pytest.mark.parametrize("decay", [0.5, 0.9])
def test_average_by_hand(decay):
    network, average = run(decay, 1, 4)
    wanted = 1.0  # the first update takes the weights as they are
    for value in (2, 3, 4):
        wanted = decay * wanted + (1 - decay) * value
    assert average.network.weight.item() == pytest.approx(wanted)
    assert average.network is not network
    assert network.weight.item() == 4


def test_only_each_interval_counts():
    _, average = run(0.5, 2, 5)  # at 2 and 4
    assert average.network.weight.item() == pytest.approx(3)


def test_decay_0_keeps_no_average():
    network, average = run(0, 1, 3)
    assert average.network is network
    assert network.weight.item() == 3
    assert average.state_dict() == {}
    average.load_state_dict({})


def test_state_goes_on():
    _, first = run(0.5, 1, 3)
    _, second = run(0.5, 1, 1, first.state_dict())  # iteration 1 again
    assert second.network.weight.item() == pytest.approx(0.5 * first.network.weight.item() + 0.5)
