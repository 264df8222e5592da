"""What version 0.1.0 wrote still opens: a run to resume, evaluate and report on, its models, an artifact, results.

``version_0_1.zip`` holds generated images, a run of 4 iterations on them with the last model of the same run resumed to
8, an artifact of it and the results of a prediction, all written by that version.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from command_line import carry_out

from monai_sagan.artifact.verify import verify_artifact
from monai_sagan.bundle import bundle_path
from monai_sagan.files import load_tensors
from monai_sagan.models.trained import load_trained, run_models
from monai_sagan.predict import predict
from monai_sagan.report.page import write_report

TRAINED_WITH = {
    **{"dataset_dir": "images", "channels": 1, "num_res_blocks": 0, "iterations_per_epoch": 2, "batch_size": 4},
    **{"valid_fraction": 0.25, "device": "cpu", "engine": "eager", "ema_decay": 0.5, "output_dir": "run"},
}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The current folder, with all that the version left behind."""
    with zipfile.ZipFile(Path(__file__).with_name("version_0_1.zip")) as archive:
        archive.extractall(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(config, **options):
    words = [f"--{key}={value}" for key, value in options.items()]
    config_file = str(Path(bundle_path("folder")) / config)
    return carry_out(["python", "-m", "monai.bundle", "run", "--config_file", config_file, *words])


def test_a_run_is_resumed_as_if_the_version_had_gone_on(place):
    assert run("train.json", **TRAINED_WITH, max_iterations=8) == 0
    found, expected = load_tensors("run/model_last.pt"), load_tensors("resumed_model_last.pt")
    assert found["iteration"] == expected["iteration"] == 8
    assert found["settings"] == expected["settings"] | {"method": "sagan", "output": "tanh"}
    for name, weights in expected["model"].items():  # equal on one machine; others round otherwise
        torch.testing.assert_close(found["model"][name], weights, rtol=0, atol=1e-4)


def test_a_run_of_other_settings_is_still_refused(place, capsys):
    before = {path: path.read_bytes() for path in sorted(place.glob("run/*.*"))}
    assert run("train.json", **TRAINED_WITH, max_iterations=8, seed=1) == 1
    assert "seed" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in before} == before
    assert {path.name for path in place.glob("run/*")} - {path.name for path in before} <= {"heatmaps", ".lock"}


def test_a_run_is_evaluated_and_reported_on(place):
    assert run("evaluate.json", dataset_dir="images", run_dir="run", output_dir="again", device="cpu") == 0
    before, after = (json.loads(Path(folder, "metrics.json").read_text()) for folder in ("run", "again"))
    for name in ("aucp", "last"):
        assert after[name]["auc"] == pytest.approx(before[name]["auc"], abs=1e-6)
    shutil.rmtree("again")
    assert write_report("run").is_file()


def test_its_models_and_its_artifact_score_alike(place):
    trained = {name: load_trained(path) for name, path in run_models("run").items()}
    assert [model.settings.channels for model in trained.values()] == [1, 1]
    assert "all 16 scores" in verify_artifact("artifact")
    folder = Path("predicted")
    recipe = json.loads((folder / "predict.json").read_text())
    (folder / "predict.json").write_text(json.dumps(recipe | {"folder": str(Path("images/test").resolve())}))
    summary = predict("artifact", "images/test", folder, overlays="none")
    assert (summary.scored, summary.skipped) == (8, 0)
