"""Progress: lines in a log, or a bar on a terminal."""

from __future__ import annotations

import logging
import re
import sys

import pytest
import torch
from ignite.engine import Engine, Events

from monai_sagan.handlers import Progress
from monai_sagan.handlers.progress import _clock


def run(interval, epochs=2, resumed_at=0):
    engine = Engine(lambda engine, batch: {"loss": torch.tensor(0.5), "image": torch.zeros(1, 1, 2, 2), "note": "x"})

    def resume(engine):
        engine.state.iteration, engine.state.epoch = resumed_at, resumed_at // 5

    engine.add_event_handler(Events.STARTED, resume)
    Progress(interval).attach(engine)
    engine.run([None] * 5, max_epochs=epochs)


@pytest.mark.parametrize(("interval", "resumed_at", "shown"), [(4, 0, [4, 8, 10]), (5, 5, [10]), (100, 0, [10])])
def test_lines_without_a_terminal(caplog, interval, resumed_at, shown):
    with caplog.at_level(logging.INFO, logger="monai_sagan"):
        run(interval, resumed_at=resumed_at)
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("monai_sagan")]
    assert [int(re.match(r"iteration (\d+)/10 loss 0.5 \| ", line)[1]) for line in lines] == shown
    assert all(re.search(r"\| [\d.]+ it/s, \d+:\d\d:\d\d left$", line) for line in lines)
    assert lines[-1].endswith("0:00:00 left")


def test_bar_on_a_terminal(caplog, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with caplog.at_level(logging.INFO, logger="monai_sagan"):
        run(3)
    shown = capsys.readouterr().err
    assert "10/10" in shown
    assert "loss 0.5" in shown
    assert not [record for record in caplog.records if record.name.startswith("monai_sagan")]


def test_clock():
    assert [_clock(seconds) for seconds in (0, 61.9, 3600, 90_061)] == ["0:00:00", "0:01:01", "1:00:00", "25:01:01"]
