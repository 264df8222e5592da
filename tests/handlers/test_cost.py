"""The cost of a run, in one part or several."""

from __future__ import annotations

import json

from ignite.engine import Engine, Events

from monai_sagan.handlers import TrainingCost


def train(path, epochs, done=0):
    """A run of ten iterations an epoch, from one that was resumed after ``done``."""
    engine = Engine(lambda engine, batch: None)

    def resume():
        engine.state.iteration, engine.state.epoch = done, done // 10

    engine.add_event_handler(Events.STARTED, resume)
    TrainingCost(path).attach(engine)
    engine.run(range(10), max_epochs=epochs)
    return json.loads(path.read_text())


def test_a_resumed_run_adds_its_own(tmp_path):
    first = train(tmp_path / "cost.json", 2)
    assert (first["iteration"], first["iterations"]) == (20, 20)
    assert first["seconds"] >= 0
    assert first["peak_bytes"] > 1e6
    (tmp_path / "cost.json").write_text(json.dumps(first | {"seconds": 100.0, "peak_bytes": 10**15}))
    both = train(tmp_path / "cost.json", 4, done=20)
    assert (both["iteration"], both["iterations"], both["peak_bytes"]) == (40, 40, 10**15)
    assert both["seconds"] >= 100


def test_without_the_earlier_part_it_says_what_it_counts(tmp_path):
    train(tmp_path / "cost.json", 2)
    for found in ({"iteration": 10, "seconds": 100.0}, {}):  # of another place, or broken
        (tmp_path / "cost.json").write_text(json.dumps(found))
        later = train(tmp_path / "cost.json", 4, done=20)
        assert (later["iteration"], later["iterations"]) == (40, 20)
        assert later["seconds"] < 100
