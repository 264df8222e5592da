"""Two processes that train one model, joined by gloo on the CPU, started as users do: by torchrun."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow

from monai_sagan.bundle import bundle_names, bundle_path
from monai_sagan.data.datasets.phantom import write_phantom
from monai_sagan.distributed import join_processes, main_first, mean_of_processes, rank_and_count

COUNTS = {"train_normal": 40, "unlabeled_normal": 20, "unlabeled_abnormal": 20, "test_normal": 4, "test_abnormal": 4}
SMALL = {
    "channels": 4,
    "num_res_blocks": 1,
    "max_iterations": 4,
    "iterations_per_epoch": 2,
    "anomaly_ratio": None,
    "ema_decay": 0.5,
}


@pytest.fixture(scope="module")
def dataset_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_phantom(tmp_path_factory.mktemp("data") / "phantom", counts=COUNTS)


def torchrun(folder: Path, dies_at: int = 0, **values: object) -> subprocess.CompletedProcess[str]:
    worker = Path(__file__).with_name("worker.py")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(worker)]
    return subprocess.run(
        [*command, "rsna", str(folder), str(dies_at), json.dumps(SMALL | {"batch_size": 8} | values)],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        cwd=folder,
    )


def curves(run: Path) -> list[dict[str, float]]:
    rows = csv.DictReader((run / "history.csv").open())
    return [{name: float(value) for name, value in row.items()} for row in rows]


def test_two_processes_train_as_one_of_twice_the_batch(dataset_dir, tmp_path):
    two, one = tmp_path / "two", tmp_path / "one"
    done = torchrun(tmp_path, dataset_dir=str(dataset_dir), output_dir=str(two))
    assert done.returncode == 0, done.stderr

    values = SMALL | {"batch_size": 16, "dataset_dir": str(dataset_dir), "output_dir": str(one), "device": "cpu"}
    config = str(Path(bundle_path("rsna")) / "train.json")
    flow = ConfigWorkflow(config, logging_file=False, workflow_type="train", **values, cache_dir=str(two / "cache"))
    flow.initialize()
    flow.parser.get_parsed_content("train#trainer").run()

    assert len(curves(two)) == 2
    for ours, expected in zip(curves(two), curves(one), strict=True):
        assert ours == pytest.approx(expected, rel=1e-5, abs=1e-5)
    first, second = (torch.load(tmp_path / f"rank{rank}.pt") for rank in (0, 1))
    for part in ("network", "discriminator"):
        for name, weights in first[part].items():
            assert torch.equal(weights, second[part][name]), name

    # Only one process writes: every log line, every file stands there once.
    log = (two / "log.txt").read_text()
    assert log.count("everything that this run writes") == log.count("validation at iteration 4") == 1
    assert len(list((two / "tensorboard").iterdir())) == 1
    assert len(list((two / "cache").iterdir())) == 1
    assert done.stderr.count("everything that this run writes") + done.stdout.count("everything that this run") == 1
    assert json.loads((two / "metrics.json").read_text())["last"]["iteration"] == 4
    # What several processes saved one process reads: no name in it tells of them.
    one_model, two_model = (torch.load(run / "model_last.pt")["model"] for run in (one, two))
    assert list(one_model) == list(two_model)


def test_a_killed_process_ends_the_run_which_then_goes_on(dataset_dir, tmp_path):
    run = tmp_path / "run"
    done = torchrun(tmp_path, dies_at=3, dataset_dir=str(dataset_dir), output_dir=str(run))
    assert done.returncode != 0
    assert "Signal 9 (SIGKILL)" in done.stderr  # torchrun's report names the process and the signal
    assert torch.load(run / "checkpoint.pt")["iteration"] == 2  # the last whole epoch is there to go on from
    assert not (run / "metrics.json").exists()

    done = torchrun(tmp_path, dataset_dir=str(dataset_dir), output_dir=str(run))
    assert done.returncode == 0, done.stderr
    first, second = (torch.load(tmp_path / f"rank{rank}.pt") for rank in (0, 1))
    for part in ("network", "discriminator"):
        assert all(torch.equal(weights, second[part][name]) for name, weights in first[part].items())
    assert json.loads((run / "metrics.json").read_text())["last"]["iteration"] == 4
    assert (run / "log.txt").read_text().count("resumed from") == 1
    assert not (tmp_path / "runs").exists()  # where TensorBoard writes that was not told where


def test_stages_of_a_method_end_alike_in_both_processes(dataset_dir, tmp_path):
    values = {"method": "two_stages.TwoStages", "channels": None, "num_res_blocks": None}
    done = torchrun(tmp_path, dataset_dir=str(dataset_dir), output_dir=str(tmp_path / "run"), **values)
    assert done.returncode == 0, done.stderr
    first, second = (torch.load(tmp_path / f"rank{rank}.pt") for rank in (0, 1))
    assert set(first) == {"mean", "network"}
    for part in first:
        for name, weights in first[part].items():
            assert torch.equal(weights, second[part][name]), name
    assert first["network"]["seen"] != 0  # the second stage began
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["last"]["iteration"] == 4


def test_what_only_one_process_does():
    """The second file names handlers by their places in the first."""
    for name in bundle_names():
        train, more = (
            json.loads((Path(bundle_path(name)) / f"{file}.json").read_text()) for file in ("train", "multi_gpu_train")
        )
        quiet = [key.split("#")[:-1] for key in more if key.endswith("#_disabled_")]
        parts = [ConfigParser(train)["#".join(ids)]["_target_"].split(".")[-1] for ids in quiet]
        assert parts == ["LateSummaryWriter", "Progress", "TensorBoardTriptychs"]


def test_one_process_needs_no_joining(tmp_path):
    assert rank_and_count() == (0, 1)
    values = [torch.tensor([1.0, 2.0])]
    mean_of_processes(values)
    assert values[0].tolist() == [1, 2]
    with main_first():
        pass


def test_joining_without_torchrun_says_how(monkeypatch, refused):
    monkeypatch.delenv("RANK", raising=False)
    with refused("torchrun --nproc_per_node=2", "multi_gpu_train.json"):
        join_processes()


def test_more_processes_than_gpus(monkeypatch, refused):
    for name, value in {"RANK": "2", "LOCAL_RANK": "2", "LOCAL_WORLD_SIZE": "3"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with refused("--nproc_per_node=3 is more than the 2 GPUs"):
        join_processes()


def test_every_bundle_has_the_same_file():
    files = {name: (Path(bundle_path(name)) / "multi_gpu_train.json").read_text() for name in bundle_names()}
    assert len(set(files.values())) == 1
