"""The model that the test labels like best is kept apart, and only on request."""

from __future__ import annotations

import math

import pytest
import torch
from ignite.engine import Engine
from torch import nn

from monai_sagan.files import load_tensors
from monai_sagan.handlers.oracle import OracleTest
from monai_sagan.metrics import roc_auc
from monai_sagan.models.scorer import Scorer

LABELS = [0, 1, None, 0, 1, 0]


class Brighten(nn.Module):
    """A restoration that differs from the image by a share of its brightness; the sign of the share decides the AUC."""

    def __init__(self):
        super().__init__()
        self.share = nn.Parameter(torch.zeros(()))

    def forward(self, image):
        return image - self.share.abs() * (image + 1 if self.share >= 0 else 1 - image)


@pytest.fixture
def images():
    """Abnormal images are brighter, but for one."""
    return torch.tensor([10, 200, 255, 40, 30, 20], dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 8, 8)


@pytest.fixture
def oracle(tmp_path, images):
    def build(network, labels=LABELS, enabled=True):
        return OracleTest(tmp_path / "oracle.pt", Scorer(network, (8, 8)), lambda: images, labels, dict, 50, enabled)

    return build


def validate(handler, epoch):
    """Run a validation as MONAI's handler does after an epoch of training."""
    engine = Engine(lambda engine, batch: batch)
    handler.attach(engine)
    engine.state.epoch, engine.state.max_epochs = epoch - 1, epoch
    engine.run([0], max_epochs=epoch)


def run(handler, network, shares, first=1):
    for epoch, share in enumerate(shares, first):
        network.share.data.fill_(share)
        validate(handler, epoch)


def test_the_highest_test_auc_is_kept(tmp_path, oracle, images):
    network = Brighten()
    handler = oracle(network)
    run(handler, network, [-0.5, 0.5, 0.7, -0.2])
    known = [i for i, label in enumerate(LABELS) if label is not None]
    network.share.data.fill_(0.5)
    best = roc_auc(Scorer(network, (8, 8)).score(images[known]), [LABELS[i] for i in known])
    assert best == pytest.approx(5 / 6)
    assert handler.history == [(50, pytest.approx(1 - best)), (100, best), (150, best), (200, pytest.approx(1 - best))]
    assert load_tensors(tmp_path / "oracle.pt") == {"iteration": 100, "oracle_test": best}  # the first of equals


def test_off_means_off(tmp_path, oracle):
    handler = OracleTest(
        tmp_path / "oracle.pt", Scorer(Brighten(), (8, 8)), lambda: pytest.fail("read"), [None], dict, 50
    )
    validate(handler, 1)
    assert handler.state_dict() == oracle(Brighten()).state_dict()
    assert not list(tmp_path.iterdir())


def test_a_broken_network_is_never_the_best(tmp_path, oracle):
    network = Brighten()
    handler = oracle(network)
    run(handler, network, [math.nan, -0.5, math.nan])
    assert load_tensors(tmp_path / "oracle.pt")["iteration"] == 100
    assert [math.isnan(auc) for _, auc in handler.history] == [True, False, True]


def test_state_goes_on(tmp_path, oracle):
    network = Brighten()
    first, second = oracle(network), oracle(network)
    run(first, network, [0.5])
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    run(second, network, [-0.5], first=2)
    assert load_tensors(tmp_path / "oracle.pt")["iteration"] == 50
    assert [iteration for iteration, _ in second.history] == [50, 100]


@pytest.mark.parametrize("labels", [[0] * 6, [None] * 6, [1, None] * 3])
def test_both_kinds_are_needed(labels, oracle, refused):
    with refused("oracle_test", "normal and abnormal"):
        oracle(Brighten(), labels)


def test_random_numbers_are_left_alone(oracle):
    network = Brighten()
    handler = oracle(network)
    torch.manual_seed(3)
    wanted = torch.rand(4)
    torch.manual_seed(3)
    run(handler, network, [0.1])
    assert torch.equal(torch.rand(4), wanted)
