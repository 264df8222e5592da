"""The benchmark as a user calls it, at the smallest size."""

from __future__ import annotations

import json

import pytest

from monai_sagan.bench.measure import ratio, time_side_by_side
from monai_sagan.bench.workloads import Size
from monai_sagan.cli import main

TINY = ["--device", "cpu", "--rounds", "1", "--threads", "1", "--channels", "4", "--num_res_blocks", "1"]
TINY += ["--batch_size", "2", "--images", "8"]


def test_tables_and_figures(tmp_path, capsys):
    output = tmp_path / "bench.json"
    assert main(["bench", "inference", "sides", *TINY, "--sides", "64", "--output", str(output)]) == 0
    shown = capsys.readouterr().out
    assert "a large matrix product reaches: float32" in shown
    found = json.loads(output.read_text())
    assert [name for name in found["inference"] if "bfloat16" not in name] == ["one by one", "batches"]
    for row in found["inference"].values():
        assert row["per_second"] > 0
        assert row["flop_per_second"] == pytest.approx(row["flop"] * row["per_second"])
        assert 0 < row["share of matrix rate"] < 1
        assert row["peak_bytes"] > 1e7
        assert row["operations"] > 50
        assert row["waits"] == 1  # the benchmark itself reads one number, so that the batch is done
    one, two = (found["inference"][name]["flop"] for name in ("one by one", "batches"))
    assert two == pytest.approx(2 * one)  # twice the images, the same network
    assert list(found["sides"]) == ["64, all images", "64, one image"]
    assert all(row["peak_bytes"] > 1e7 for row in found["sides"].values())


def test_ratios_are_of_each_round():
    assert ratio([2.0, 3.0, 8.0], [1.0, 1.0, 2.0]) == (3.0, 2.0, 4.0)


def test_unknown_section(capsys):
    assert main(["bench", "speed"]) == 2
    assert "no section 'speed'; the sections are training, inference, growth, sides" in capsys.readouterr().err


def test_a_gpu_that_is_not_there(capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert main(["bench", "--device", "cuda"]) == 2
    assert "device is 'cuda'" in capsys.readouterr().err


def test_a_workload_that_fails_is_one_line(refused):
    with refused("the benchmark of 'eager' failed", "batch_size 50 is larger than the 8 normal training images"):
        time_side_by_side({"eager": ("eager", Size(4, 1, batch_size=50, images=8))}, "cpu", rounds=1, threads=1)


def test_a_size_that_fails_is_said_and_the_others_go_on(capsys, tmp_path):
    output = tmp_path / "bench.json"
    assert main(["bench", "sides", *TINY, "--sides", "16", "64", "--output", str(output)]) == 0
    found = json.loads(output.read_text())["sides"]
    assert "the benchmark of 'all images' failed" in found["16, all images"]["failed"]
    assert found["64, all images"]["peak_bytes"] > 1e7
    assert "the benchmark of 'all images' failed" in capsys.readouterr().out


def test_a_method_beside_sagan(tmp_path, capsys):
    output = tmp_path / "bench.json"
    assert main(["bench", "training", "--method", "two_stages.TwoStages", *TINY, "--output", str(output)]) == 0
    shown = capsys.readouterr().out
    assert "two_stages.TwoStages at recommended" in shown
    found = {label: row for label, row in json.loads(output.read_text())["training"].items() if "bfloat16" not in label}
    assert list(found) == ["sagan eager", "two_stages.TwoStages 1 eager", "two_stages.TwoStages 2 eager"]
    assert found["sagan eager"]["ratio"] == 1
    for row in found.values():
        assert row["per_second"] > 0
        assert row["flop"] > 0
        assert row["images_per_second"] == pytest.approx(2 * row["per_second"])  # of the batch size that was asked


def test_an_unknown_method(capsys):
    assert main(["bench", "--method", "brainomly"]) == 2
    assert "the nearest is brainomaly" in capsys.readouterr().err
