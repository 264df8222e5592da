"""The first things of a run: its folder, its log, and what it was asked to do."""

from __future__ import annotations

import json
import logging
import os
from logging.handlers import MemoryHandler
from pathlib import Path

import pytest
import torch

from monai_sagan.data.digests import describe_run
from monai_sagan.files import load_tensors, save_tensors
from monai_sagan.methods import resolve_settings
from monai_sagan.records import write_records
from monai_sagan.runs.start import end_run, start_run
from monai_sagan.settings import as_plain


@pytest.fixture(autouse=True)
def root_logger():
    """Runs log through the root logger; put it back afterwards."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    root.setLevel(logging.INFO)
    yield
    assert set(root.handlers) == set(handlers), "a run was not ended"
    root.setLevel(level)


def begin(output_dir, *settings, **values):
    """A whole run, which does nothing; its ``config.json``."""
    output = start_run(output_dir, *settings, **values)
    write_records(output)
    end_run(output)
    return json.loads((output / "config.json").read_text())


def test_folder_log_and_config(tmp_path):
    settings = resolve_settings("official", channels=4)
    values = {"preset": "official", "seed": 3, "device": torch.device("cpu"), "dataset_dir": Path("data")}
    output = start_run(tmp_path / "new" / "run", settings, **values, anomaly_ratio=None)
    assert output == (tmp_path / "new" / "run").resolve()
    assert [path.name for path in output.iterdir()] == [".lock"]  # nothing else before all is checked
    write_records(output)
    config = json.loads((output / "config.json").read_text())
    assert config == as_plain(settings) | {
        "kind": "training run",
        "preset": "official",
        "seed": 3,
        "device": "cpu",
        "dataset_dir": "data",
        "anomaly_ratio": None,
    }
    logging.getLogger("monai_sagan.any").info("later words")
    end_run(output)
    logging.getLogger("monai_sagan.any").info("words after the end")
    assert sorted(path.name for path in output.iterdir()) == ["config.json", "log.txt"]
    first, second, third = (output / "log.txt").read_text().splitlines()
    assert str(output) in first
    assert "channels 4" in second
    assert third.endswith("later words")


def test_relative_folders_are_shown_in_full(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert start_run("runs/x") == tmp_path.resolve() / "runs" / "x"
    write_records("runs/x")
    end_run("runs/x")
    assert json.loads((tmp_path / "runs" / "x" / "config.json").read_text()) == {"kind": "training run"}


def test_a_run_that_is_refused_leaves_nothing(tmp_path):
    begin(tmp_path / "old", seed=1)
    before = {path.name: path.read_bytes() for path in (tmp_path / "old").iterdir()}
    for name in ("old", "new"):
        start_run(tmp_path / name, seed=2)
        end_run(tmp_path / name)
    assert {path.name: path.read_bytes() for path in (tmp_path / "old").iterdir()} == before
    assert not (tmp_path / "new").exists()


def test_a_second_run_goes_on_with_the_log(tmp_path):
    begin(tmp_path, seed=1)
    start_run(tmp_path, seed=9)  # one that failed before it began, as in a notebook
    assert begin(tmp_path, seed=2)["seed"] == 2
    log = (tmp_path / "log.txt").read_text()
    assert "seed 1" in log
    assert "seed 2" in log
    assert "seed 9" not in log


def test_what_cannot_be_written(tmp_path, refused):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with refused(folder, "cannot write", "--output_dir"):
            start_run(folder)
    (tmp_path / "run" / "log.txt").mkdir(parents=True)
    with refused(tmp_path / "run"):
        begin(tmp_path / "run")
    end_run(tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["log.txt"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
def test_a_log_that_cannot_be_written_ends_the_run_in_one_line(tmp_path, refused):
    (tmp_path / "log.txt").symlink_to("/dev/full")
    with refused(tmp_path, "No space left"):
        begin(tmp_path)
    end_run(tmp_path)
    (tmp_path / "log.txt").unlink()
    start_run(tmp_path)
    write_records(tmp_path)
    with open("/dev/full", "w") as full:
        os.dup2(full.fileno(), log_handle())
    with pytest.raises(OSError, match=r"No space left on device: .*log.txt"):
        logging.getLogger("monai_sagan.any").info("words")
    end_run(tmp_path)


def log_handle():
    (lines,) = (handler for handler in logging.getLogger().handlers if isinstance(handler, MemoryHandler))
    return lines.target.stream.fileno()


@pytest.mark.parametrize(
    ("values", "kind"), [({}, "training run"), ({"run_dir": "r"}, "evaluation"), ({"model": "m.pt"}, "prediction")]
)
def test_a_run_says_what_it_is(tmp_path, values, kind, refused):
    assert begin(tmp_path, **values)["kind"] == kind
    others = [other for other in ({"run_dir": "r"}, {"model": "m.pt"}) if other != values]
    with refused(tmp_path, f"holds a{'n' * (kind[0] == 'e')} {kind}", "name another folder"):
        start_run(tmp_path, **others[0])


def test_a_gpu_that_is_not_there(tmp_path, monkeypatch, refused):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with refused("device is 'cuda'", "sees 0 GPUs", "use cpu"):
        start_run(tmp_path / "run", device="cuda")
    assert not (tmp_path / "run").exists()


def test_an_evaluation_tells_what_its_run_was_made_with(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    begin(tmp_path / "run", resolve_settings("paper"), seed=3, device="cuda")
    config = begin(tmp_path / "evaluation", run_dir=str(tmp_path / "run"), device="cpu")
    assert (config["seed"], config["device"], config["batch_size"]) == (3, "cpu", 64)
    values = {"run_dir": str(tmp_path / "nowhere")}
    assert begin(tmp_path / "other", **values) == values | {"kind": "evaluation"}


def test_the_seed_is_the_one_that_the_model_was_made_with(tmp_path, save_model):
    """Whatever was done to the run's ``config.json`` since."""
    begin(tmp_path / "run", seed=3)
    save_model(tmp_path / "run" / "model.pt")
    splits = {name: [] for name in ("train_normal", "train_unlabeled", "valid_normal", "valid_unlabeled")}
    content = load_tensors(tmp_path / "run" / "model.pt")
    save_tensors(content | {"run": describe_run(splits, seed=4)}, tmp_path / "run" / "model.pt")
    assert begin(tmp_path / "evaluation", run_dir=str(tmp_path / "run"))["seed"] == 4
