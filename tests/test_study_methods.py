"""Studies of several methods: each row has the options of its own method, and its own unit of work."""

from __future__ import annotations

import csv
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from two_stages import TwoStages

from monai_sagan.bench.method_steps import parameters_and_flop
from monai_sagan.data.datasets.phantom import write_phantom
from monai_sagan.methods import METHODS, find_method, resolve_settings
from monai_sagan.study import BUDGETS, run_study
from monai_sagan.study.cost import RowCost, costs_as_csv, costs_as_markdown, row_costs
from monai_sagan.study.figure import make_figure
from monai_sagan.study.pace import measure_pace
from monai_sagan.study.plan import Bundle, Run
from monai_sagan.study.rows import named_rows
from monai_sagan.study.table import _markdown, make_entries
from monai_sagan.study.values import check_epochs, describe_skipped, epochs_of, fit_rows

REPOSITORY = Path(__file__).parents[1]
CONFIG = REPOSITORY / "bundles" / "rsna" / "train.json"
TOY = "two_stages.TwoStages"
COUNTS = dict(train_normal=20, unlabeled_normal=9, unlabeled_abnormal=11, test_normal=6, test_abnormal=6)


class Quick(TwoStages):
    """A method with presets of its own for small budgets."""

    presets = {**TwoStages.presets, "small": {"max_iterations": 8, "iterations_per_epoch": 2}}


@pytest.fixture(scope="module")
def bundle():
    return Bundle(CONFIG)


def test_table_2_has_every_method_and_compares_with_sagan():
    name, rows = named_rows("table2")
    assert name == "table2"
    assert [own["method"] for own in rows.values()] == list(METHODS)
    assert next(iter(rows)) == "SAGAN"
    assert list(rows) == [find_method(method).title for method in METHODS]


def test_options_of_one_method_do_not_reach_another(bundle):
    rows = {"SAGAN": {}, "toy": {"method": TOY, "second_rate": 0.5}}
    fitted = fit_rows(bundle, rows, "paper", {"grid": [1, 2], "batch_size": 4, "second_rate": 0.1})
    assert fitted["SAGAN"].values == {"grid": [1, 2], "batch_size": 4}
    assert fitted["toy"].values == {"batch_size": 4, "method": TOY, "settings#second_rate": 0.5}
    assert (fitted["SAGAN"].skipped, fitted["toy"].skipped) == (("second_rate",), ("grid",))
    assert describe_skipped(fitted) == ["second_rate is not an option of SAGAN.", "grid is not an option of toy."]
    assert bundle.settings(fitted["toy"].values).second_rate == 0.5
    assert bundle.run_config(fitted["SAGAN"].values)["grid"] == [1, 2]


def test_a_key_that_no_method_has_is_refused(bundle, refused):
    (one,) = fit_rows(bundle, {"toy": {"method": TOY}}, "paper", {"batch_sise": 4}).values()
    with refused("--batch_sise", "--batch_size"):
        bundle.check_keys(one.values)


@pytest.mark.parametrize("budget", ["small", "medium"])
@pytest.mark.parametrize("method", [*METHODS, TOY])
def test_a_budget_costs_no_more_than_the_preset_of_its_method(method, budget, bundle):
    (one,) = fit_rows(bundle, {"row": {"method": method}}, budget, {}).values()
    bundle.check_keys(one.values)
    found, preset = bundle.settings(one.values), resolve_settings("recommended", method)
    check_epochs(found, method)
    assert found.max_iterations <= min(preset.max_iterations, BUDGETS[budget]["max_iterations"])
    assert found.max_iterations % found.iterations_per_epoch == 0
    if method == "sagan":
        assert one.values == {**BUDGETS[budget], "method": "sagan"}


def test_a_preset_of_the_budgets_name_is_the_budget(bundle):
    (one,) = fit_rows(bundle, {"row": {"method": "test_study_methods.Quick"}}, "small", {}).values()
    assert one.values == {"preset": "small", "method": "test_study_methods.Quick"}
    assert bundle.settings(one.values).max_iterations == 8


def test_what_is_given_wins_over_the_budget(bundle):
    rows = {"a": {"method": TOY}, "b": {"method": TOY, "max_iterations": 20}}
    a, b = fit_rows(bundle, rows, "small", {"iterations_per_epoch": 10}).values()
    assert (a.values["max_iterations"], a.values["iterations_per_epoch"]) == (400, 10)
    assert (b.values["max_iterations"], b.values["iterations_per_epoch"]) == (20, 10)


@pytest.mark.parametrize("stages", [1, 2, 3])
def test_epochs_are_complete_and_enough(stages):
    for iterations in (1, 2, 7, 100, 999):
        for epoch in (1, 10, 1000):
            found = epochs_of(iterations, epoch, stages)
            total, length = found["max_iterations"], found["iterations_per_epoch"]
            assert total % length == 0
            assert total // length >= stages
            assert length <= epoch
            assert total <= max(iterations, stages)
            assert total > iterations - length


def test_too_few_epochs_are_refused_before_anything_runs(tmp_path, refused):
    data = write_phantom(tmp_path / "data", counts=COUNTS)
    rows = {"SAGAN": {"channels": 4}, "toy": {"method": TOY}}
    overrides = {"dataset_dir": str(data), "max_iterations": 4, "iterations_per_epoch": 4, "device": "cpu"}
    with refused("the row toy", "1 epochs are too few for 2 stages"):
        run_study(rows, CONFIG, tmp_path / "study", overrides)
    assert not list(tmp_path.glob("study/*/seed*"))


@pytest.mark.parametrize(
    ("minutes", "overrides", "part"),
    [
        (0, {}, "minutes is 0"),
        (float("nan"), {}, "minutes is nan"),
        (1, {"max_iterations": 5}, "max_iterations"),
    ],
)
def test_wrong_minutes_are_refused(minutes, overrides, part, tmp_path, refused):
    with refused(part):
        run_study({"toy": {"method": TOY}}, CONFIG, tmp_path / "study", overrides, minutes=minutes)


def scored(folder, row, seed, scores, labels):
    """What an evaluated run leaves, of one model."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    run = Run(row, seed, folder / row / f"seed{seed}", (), {}, {})
    run.folder.mkdir(parents=True)
    shown = [f"{score:.8f}" for score in scores]
    with (run.folder / "scores.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", "label", "score", "p_value", "score_last"])
        table.writerows(
            [f"{i}.png", label, s, "0.5", s] for i, (s, label) in enumerate(zip(shown, labels, strict=True))
        )
    found = {"auc": roc_auc_score(labels, scores), "ap": average_precision_score(labels, scores)}
    (run.folder / "metrics.json").write_text(json.dumps({"aucp": found, "last": found}))
    return run


@pytest.fixture
def runs(tmp_path):
    rng = np.random.default_rng(0)
    labels = [0] * 40 + [1] * 40
    rows = {"SAGAN": 2.0, "CutPaste": 0.5}
    return [
        scored(tmp_path, row, seed, rng.normal(size=80) + shift * np.array(labels), labels)
        for row, shift in rows.items()
        for seed in (0, 1)
    ]


def test_rows_of_different_methods_say_what_they_learn_from(runs):
    learns = {"SAGAN": "normal, unlabeled", "CutPaste": "normal"}
    text = _markdown(make_entries(list(learns), runs, {}, learns), [])
    assert "| row | learns from | model |" in text
    assert "| CutPaste | normal | `aucp` |" in text
    alike = dict.fromkeys(learns, "normal")
    assert "learns from" not in _markdown(make_entries(list(learns), runs, {}, alike), [])


def test_differences_of_ap_are_paired_as_those_of_auc(runs):
    entries = make_entries(["SAGAN", "CutPaste"], runs)
    sagan, cutpaste = (entry for entry in entries if entry.model == "aucp")
    assert sagan.ap_difference is None
    for gap, name in ((cutpaste.difference, "auc"), (cutpaste.ap_difference, "ap")):
        assert gap.mean == pytest.approx(cutpaste.figures[name].mean - sagan.figures[name].mean)
        assert gap.low < gap.mean < gap.high
    same = [replace(run, row="copy", folder=run.folder) for run in runs[:2]]
    copy = next(e for e in make_entries(["SAGAN", "copy"], [*runs[:2], *same]) if e.row == "copy")
    assert (copy.ap_difference.mean, copy.ap_difference.low, copy.ap_difference.high) == pytest.approx((0, 0, 0))
    assert make_figure(entries).axes


def test_costs_are_those_of_the_runs_and_networks(runs):
    settings = {"SAGAN": resolve_settings("recommended", "sagan", channels=4, num_res_blocks=1, batch_size=8)}
    for run, seconds in zip(runs[:2], (20.0, 30.0), strict=True):
        cost = {"iteration": 100, "iterations": 100, "seconds": seconds, "peak_bytes": 2**30}
        (run.folder / "cost.json").write_text(json.dumps(cost))
    (found,) = row_costs(runs[:2], settings)
    weights, flop = parameters_and_flop(settings["SAGAN"])
    assert found == RowCost("SAGAN", weights, flop, 100, 25, 8 * 100 / 25, 2**30)
    assert f"| SAGAN | {weights:,} | {flop / 1e9:.3g} | 100 | 25 | 32 | 1.00 GiB |" in costs_as_markdown([found])
    assert costs_as_csv([found]).splitlines()[1] == f"SAGAN,{weights},{flop},100.0,25.0,32.0,{float(2**30)}"
    unknown = row_costs(runs[2:], {"CutPaste": settings["SAGAN"]})  # of runs of an earlier version
    assert costs_as_markdown(unknown).splitlines()[2] == f"| CutPaste | {weights:,} | {flop / 1e9:.3g} |  |  |  |  |"


@pytest.mark.parametrize("method", [*METHODS, TOY])
def test_every_network_can_be_counted(method):
    weights, flop = parameters_and_flop(resolve_settings("recommended", method))
    assert weights > 0
    assert flop > 0


def test_the_pace_of_a_run_is_that_of_its_stages(bundle):
    values = {"method": TOY, "batch_size": 2, "device": "cpu"}
    found = measure_pace(bundle, values, least=0.01)
    stages = found["stages"]
    assert list(stages) == ["mean", "scale"]
    seconds = [stages[name]["seconds_per_iteration"] for name in stages]
    assert found["seconds_per_iteration"] == pytest.approx(0.25 * seconds[0] + 0.75 * seconds[1])
    assert min(seconds) > 0
    assert "max_iterations" not in found["of"]


def test_a_study_of_methods_with_equal_time(tmp_path, monkeypatch, capsys):
    """Paces are measured once; the same command then has nothing left to do."""
    path = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests"), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", path)
    data = write_phantom(tmp_path / "data", counts=COUNTS)
    rows = {"sagan": {"channels": 4, "num_res_blocks": 1}, "toy": {"method": TOY, "second_rate": 0.02}}
    (tmp_path / "two.json").write_text(json.dumps(rows))
    arguments = (str(tmp_path / "two.json"), CONFIG, tmp_path / "study")
    overrides = {"dataset_dir": str(data), "batch_size": 4, "anomaly_ratio": 0.5, "device": "cpu", "engine": "eager"}
    table = run_study(*arguments, overrides, seeds=[0], jobs=2, minutes=0.01)
    for row in rows:
        pace = json.loads((tmp_path / "study" / row / "pace.json").read_text())
        config = json.loads((tmp_path / "study" / row / "seed0" / "config.json").read_text())
        iterations = int(60 * 0.01 / pace["seconds_per_iteration"])
        assert iterations - config["iterations_per_epoch"] < config["max_iterations"] <= max(iterations, 2)
    text = table.read_text()
    assert "| row | learns from | model |" in text
    assert "0.01 minutes a run" in text
    assert "| row | parameters | GFLOP per image | iterations | training, s | images/s | peak memory |" in text
    with (tmp_path / "study" / "cost.csv").open() as file:
        costs = list(csv.DictReader(file))
    assert [cost["row"] for cost in costs] == list(rows)
    assert all(float(cost["seconds"]) > 0 and float(cost["peak_bytes"]) > 1e6 for cost in costs)
    times = {file: file.stat().st_mtime_ns for file in tmp_path.glob("study/*/pace.json")}
    capsys.readouterr()
    run_study(*arguments, overrides, seeds=[0], jobs=2, minutes=0.01)
    assert "2 of them finished" in capsys.readouterr().out
    assert {file: file.stat().st_mtime_ns for file in times} == times
