"""The table of several seeds."""

from __future__ import annotations

import statistics

import pytest

from monai_sagan.metrics import summarize_runs


def run(auc, **more):
    points = [{"specificity_wanted": 0.95, "sensitivity": auc and auc / 2}]
    return {"aucp": {"auc": auc, "auc_ci95": [0, 1], "operating_points": points}, "versions": {"torch": "2"}} | more


def test_mean_deviation_and_each_run():
    values = [0.8, 0.9, 0.85]
    summary = summarize_runs([run(value) for value in values])
    assert summary["aucp"]["auc"] == {
        "mean": pytest.approx(0.85),
        "std": pytest.approx(statistics.stdev(values)),
        "runs": values,
    }
    assert summary["aucp"].keys() == {"auc", "operating_points"}
    assert summary["aucp"]["operating_points"]["0.95"]["sensitivity"]["mean"] == pytest.approx(0.425)
    assert summary.keys() == {"aucp"}


def test_what_a_run_lacks():
    summary = summarize_runs([run(0.5), run(None, last={"auc": 0.7}), {"aucp": {}}])
    assert summary["aucp"]["auc"] == {"mean": 0.5, "std": None, "runs": [0.5, None, None]}
    assert summary["last"]["auc"]["runs"] == [None, 0.7, None]
    assert summarize_runs([]) == {}
    assert summarize_runs([{"warnings": ["text"], "flag": True, "value": float("nan"), "none": {}}]) == {}
