"""What TensorBoard is given."""

from __future__ import annotations

import torch
from ignite.engine import Engine
from torch import nn

from monai_sagan.handlers import TensorBoardTriptychs, scalar_outputs
from monai_sagan.methods import make_network, resolve_settings
from monai_sagan.models.scorer import Scorer


class Writer:
    """Keeps what a summary writer is told."""

    def __init__(self):
        self.images, self.flushed = [], 0

    def add_images(self, name, images, step):
        self.images.append((name, images, step))

    def flush(self):
        self.flushed += 1


def test_scalars():
    output = {"loss": torch.tensor(0.5), "image": torch.zeros(2, 1), "note": "text", "count": 3}
    assert scalar_outputs(output) == {"loss": 0.5}


def test_triptychs_after_a_validation(random_pixels):
    network = nn.Conv2d(1, 1, 1)
    writer = Writer()
    handler = TensorBoardTriptychs(
        writer, Scorer(network, (64, 64)), random_pixels(5), random_pixels(2, seed=1), 100, count=3
    )
    engine = Engine(lambda engine, batch: None)
    handler.attach(engine)
    engine.state.epoch, engine.state.max_epochs = 6, 7  # as MONAI's handler runs a validation
    engine.run([None], max_epochs=7)
    assert [(name, tuple(images.shape), step) for name, images, step in writer.images] == [
        ("normal", (3, 3, 64, 192), 700),
        ("unlabeled", (2, 3, 64, 192), 700),
    ]
    assert all(images.min() >= 0 and images.max() <= 1 for _, images, _ in writer.images)
    assert writer.flushed == 1
    assert not any(parameter.grad is not None for parameter in network.parameters())


def test_methods_that_do_not_restore_show_two_panels(random_pixels):
    settings = resolve_settings("recommended", "two_stages.TwoStages")
    writer = Writer()
    scorer = Scorer.of(make_network(settings), settings)
    TensorBoardTriptychs(writer, scorer, random_pixels(2), random_pixels(2, seed=1), 100)(Engine(lambda *_: None))
    assert [tuple(images.shape) for _, images, _ in writer.images] == [(2, 3, 64, 128)] * 2
