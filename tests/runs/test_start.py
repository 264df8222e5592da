"""The first things of a run: its folder, its log, and what it was asked to do."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch

from monai_sagan.runs.start import start_run
from monai_sagan.settings import as_plain, resolve_settings


@pytest.fixture(autouse=True)
def root_logger():
    """Runs log through the root logger; put it back afterwards."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    root.setLevel(logging.INFO)
    yield
    for handler in set(root.handlers) - set(handlers):
        root.removeHandler(handler)
        handler.close()
    root.setLevel(level)


def test_folder_log_and_config(tmp_path):
    settings = resolve_settings("official", channels=4)
    values = {"preset": "official", "seed": 3, "device": torch.device("cpu"), "dataset_dir": Path("data")}
    output = start_run(tmp_path / "new" / "run", settings, **values, anomaly_ratio=None)
    assert output == (tmp_path / "new" / "run").resolve()
    config = json.loads((output / "config.json").read_text())
    assert config == as_plain(settings) | {
        "preset": "official",
        "seed": 3,
        "device": "cpu",
        "dataset_dir": "data",
        "anomaly_ratio": None,
    }
    logging.getLogger("monai_sagan.any").info("later words")
    first, second, third = (output / "log.txt").read_text().splitlines()
    assert str(output) in first
    assert "channels 4" in second
    assert third.endswith("later words")


def test_relative_folders_are_shown_in_full(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert start_run("runs/x") == tmp_path.resolve() / "runs" / "x"
    assert json.loads((tmp_path / "runs" / "x" / "config.json").read_text()) == {}


def test_a_second_run_goes_on_with_the_log(tmp_path):
    start_run(tmp_path, seed=1)
    start_run(tmp_path, seed=2)
    assert json.loads((tmp_path / "config.json").read_text()) == {"seed": 2}
    log = (tmp_path / "log.txt").read_text()
    assert "seed 1" in log
    assert "seed 2" in log


def test_what_cannot_be_written(tmp_path, refused):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with refused(folder, "cannot write", "--output_dir"):
            start_run(folder)
    (tmp_path / "run" / "log.txt").mkdir(parents=True)
    with refused(tmp_path / "run"):
        start_run(tmp_path / "run")


def test_a_gpu_that_is_not_there(tmp_path, monkeypatch, refused):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with refused("device is 'cuda'", "sees 0 GPUs", "use cpu"):
        start_run(tmp_path / "run", device="cuda")
    assert not (tmp_path / "run").exists()


def test_an_evaluation_tells_what_its_run_was_made_with(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    start_run(tmp_path / "run", resolve_settings("paper"), seed=3, device="cuda")
    start_run(tmp_path / "evaluation", run_dir=str(tmp_path / "run"), device="cpu")
    config = json.loads((tmp_path / "evaluation" / "config.json").read_text())
    assert (config["seed"], config["device"], config["batch_size"]) == (3, "cpu", 64)
    start_run(tmp_path / "other", run_dir=str(tmp_path / "nowhere"))
    assert json.loads((tmp_path / "other" / "config.json").read_text()) == {"run_dir": str(tmp_path / "nowhere")}
