"""MONAI's own checks, and the model zoo's kind of test, on the packed copy of every bundle, from another folder."""

from __future__ import annotations

import csv
import json
import logging
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from monai.bundle import (
    ConfigWorkflow,
    ckpt_export,
    load_bundle_config,
    onnx_export,
    verify_metadata,
    verify_net_in_out,
)

from monai_sagan.bundle import bundle_names, bundle_path
from monai_sagan.bundle.pack import pack_bundle
from monai_sagan.data.datasets.phantom import write_phantom
from monai_sagan.files import load_tensors
from monai_sagan.models.trained import load_trained

SCHEMA = Path(__file__).with_name("metadata_schema.json")
COUNTS = {"train_normal": 20, "unlabeled_normal": 8, "unlabeled_abnormal": 12, "test_normal": 6, "test_abnormal": 6}
SMALL = {
    "channels": 4,
    "num_res_blocks": 1,
    "batch_size": 4,
    "max_iterations": 2,
    "iterations_per_epoch": 2,
    "anomaly_ratio": None,
    "device": "cpu",
}


def workflow(config: Path, kind: str | None, **values: object) -> ConfigWorkflow:
    """The zoo's way of running a config: all steps in this process, and the properties in between."""
    flow = ConfigWorkflow(str(config), workflow_type=kind, logging_file=False, **values)
    flow.initialize()
    assert flow.check_properties() == []
    flow.run()
    flow.finalize()
    return flow


def scores(file: Path) -> dict[str, str]:
    with file.open(newline="") as rows:
        return {Path(row["image"]).name: row["score"] for row in csv.DictReader(rows)}


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch, tmp_path):
    """Another current folder."""
    monkeypatch.chdir(tmp_path)
    root = logging.getLogger()
    before = root.handlers[:]
    yield
    for handler in set(root.handlers) - set(before):  # a run's own log.txt
        root.removeHandler(handler)
        handler.close()


@pytest.fixture(scope="module")
def dataset_dir(tmp_path_factory):
    return write_phantom(tmp_path_factory.mktemp("data") / "phantom", counts=COUNTS)


@pytest.fixture(scope="module")
def run(tmp_path_factory, dataset_dir):
    """A run of unusual settings, to be packed into every bundle: all read the Med-AD layout."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    values = {"grid": [1, 2], "keep_prob": 0.9, "abnormal_region_restoration": False}  # a smaller graph to export
    config = Path(bundle_path("rsna")) / "train.json"
    workflow(config, "train", **SMALL, **values, dataset_dir=str(dataset_dir), output_dir=str(folder))
    return folder


@pytest.fixture(scope="module", params=bundle_names())
def packed(request, tmp_path_factory, run):
    folder = tmp_path_factory.mktemp("packed")
    own = shutil.copytree(run, folder / "run", ignore=shutil.ignore_patterns("cache", "heatmaps", "tensorboard"))
    config = json.loads((own / "config.json").read_text())
    assert config["bundle"] == "rsna"
    (own / "config.json").write_text(json.dumps(config | {"bundle": request.param}))
    return pack_bundle(request.param, folder / request.param, own)


# What MONAI's verbs say.


def test_the_metadata_fit_the_specification(packed):
    verify_metadata(meta_file=str(packed / "configs/metadata.json"), filepath=str(SCHEMA))


@pytest.mark.parametrize("config", ["train", "inference"])
def test_the_network_takes_and_gives_what_the_metadata_say(packed, config):
    files = (str(packed / f"configs/{name}.json") for name in ("metadata", config))
    verify_net_in_out("network_def", *files, device="cpu")


def test_the_weights_leave_as_torchscript(packed, tmp_path):
    config = str(packed / "configs/train.json")
    ckpt_export(filepath=str(tmp_path / "model.ts"), config_file=config, bundle_root=str(packed))
    extra = {"metadata.json": "", "train.json": ""}
    script = torch.jit.load(str(tmp_path / "model.ts"), _extra_files=extra).eval()
    image = torch.linspace(-1, 1, 2 * 64 * 64).view(2, 1, 64, 64).sin()
    with torch.inference_mode():
        wanted = load_trained(packed / "models/artifact").network(image)
        torch.testing.assert_close(script(image), wanted, rtol=0, atol=1e-4)
    assert json.loads(extra["train.json"]) == json.loads(Path(config).read_text())
    assert json.loads(extra["metadata.json"])["name"].startswith("SAGAN")


def test_the_weights_leave_as_onnx(packed, tmp_path):
    config, meta = (str(packed / f"configs/{name}.json") for name in ("train", "metadata"))
    file = str(tmp_path / "model.onnx")
    onnx_export(
        net_id="network_def",
        filepath=file,
        ckpt_file=str(packed / "models/model.pt"),
        meta_file=meta,
        config_file=config,
    )
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    image = np.random.default_rng(0).uniform(-1, 1, (1, 1, 64, 64)).astype(np.float32)
    found = session.run(None, {session.get_inputs()[0].name: image})[0]
    with torch.inference_mode():
        wanted = load_trained(packed / "models/artifact").network(torch.from_numpy(image))
    np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_the_configs_are_read_by_their_names(packed):
    parser = load_bundle_config(str(packed), "train.json")
    assert parser["_meta_::network_data_format::inputs::image::num_channels"] == 1
    network = parser.get_parsed_content("network_def")
    network.load_state_dict(load_tensors(packed / "models/model.pt"))
    assert (network.rows, network.cols, network.keep_prob) == (1, 2, 0.9)


# What the model zoo's tests do.


def test_a_packed_bundle_trains(packed, dataset_dir, tmp_path):
    values = {name: SMALL[name] for name in ("anomaly_ratio", "device")}  # the others are the packed run's own
    flow = workflow(packed / "configs/train.json", "train", **values, dataset_dir=str(dataset_dir), output_dir="out")
    assert flow.bundle_root == str(packed)
    assert load_trained("out/model_last.pt").settings == load_trained(packed / "models/artifact").settings
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_packed_bundle_evaluates_and_infers_with_its_own_model(packed, run, dataset_dir, tmp_path):
    before = sorted(packed.rglob("*"))
    values = {"dataset_dir": str(dataset_dir), "device": "cpu"}
    flow = ConfigWorkflow(str(packed / "configs/evaluate.json"), logging_file=False, output_dir="eval", **values)
    flow.initialize()
    flow.run()
    flow.finalize()
    metrics, wanted = (json.loads((folder / "metrics.json").read_text()) for folder in (Path("eval"), run))
    validated = {"aucp", "aucp_se"}  # of the training, which the packed weights do not know
    assert metrics["aucp"] == {name: value for name, value in wanted["aucp"].items() if name not in validated}

    values["dataset_dir"] = str(dataset_dir / "images")
    flow = workflow(packed / "configs/inference.json", "infer", output_dir="found", **values)
    assert flow.bundle_root == str(packed)
    assert scores(Path("eval/scores.csv")) == scores(run / "scores.csv")
    assert scores(Path("eval/scores.csv")).items() <= scores(Path("found/scores.csv")).items()
    assert {path.name for path in tmp_path.iterdir()} == {"eval", "found"}
    assert sorted(packed.rglob("*")) == before


# What a config may hold.


@pytest.mark.parametrize("config", ["evaluate", "inference"])
@pytest.mark.parametrize("name", bundle_names())
def test_no_expression_in_what_runs_a_model(name, config):
    assert "$" not in (Path(bundle_path(name)) / f"{config}.json").read_text()


@pytest.mark.parametrize("config", ["train", "multi_gpu_train"])
@pytest.mark.parametrize("name", bundle_names())
def test_expressions_of_a_training_only_pass_values_on(name, config):
    """They name a value of another component, call one of its methods, or join a path: logic lives in the package."""
    text = (Path(bundle_path(name)) / f"{config}.json").read_text()
    expressions = re.findall(r'"\$([^"]*)"', text)
    assert all(len(expression) < 90 for expression in expressions)
    calls = {call for expression in expressions for call in re.findall(r"(\w+)\(", expression)}
    assert calls <= {"str", "stored", "plan", "decoding", "check", "run", "evaluate"}


def test_inference_runs_where_expressions_are_off(run, dataset_dir, tmp_path):
    bundle = pack_bundle("rsna", tmp_path / "bundle", run)
    command = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run"]
    command += ["--config_file", str(bundle / "configs/inference.json"), "--workflow_type", "infer"]
    command += ["--dataset_dir", str(dataset_dir / "images"), "--output_dir", "out", "--overlays", "none"]
    done = subprocess.run(
        command, env=os.environ | {"MONAI_EVAL_EXPR": "0"}, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert scores(run / "scores.csv").items() <= scores(Path("out/scores.csv")).items()


METADATA = json.loads((Path(bundle_path("phantom")) / "metadata.json").read_text())


@pytest.mark.parametrize("key", ["task", "version", "required_packages_version", "network_data_format"])
def test_the_schema_misses_what_is_not_there(key, tmp_path):
    file = tmp_path / "metadata.json"
    file.write_text(json.dumps({name: value for name, value in METADATA.items() if name != key}))
    with pytest.raises(ValueError, match=key):
        verify_metadata(meta_file=str(file), filepath=str(SCHEMA))


def test_a_network_of_other_channels_is_refused():
    files = (str(Path(bundle_path("phantom")) / f"{name}.json") for name in ("metadata", "train"))
    with pytest.raises((ValueError, RuntimeError), match="channel"):
        verify_net_in_out("network_def", *files, device="cpu", in_channels=3)


# Tracking.


def test_a_tracked_run_goes_on_with_more_iterations(dataset_dir, tmp_path):
    """Also where its first part was killed, so that MLflow takes it for one that still runs."""
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy", reason="MONAI tracks into an SQLite file, for which mlflow-skinny needs it")
    config = Path(bundle_path("rsna")) / "train.json"
    values = SMALL | {"max_iterations": 2, "dataset_dir": str(dataset_dir), "output_dir": "out"}
    workflow(config, "train", tracking="mlflow", **values)
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'out/mlruns.db'}")
    (experiment,) = (found for found in client.search_experiments() if found.name == "monai_experiment")
    (first,) = client.search_runs([experiment.experiment_id])
    client.set_terminated(first.info.run_id, "RUNNING")
    workflow(config, "train", tracking="mlflow", **values | {"max_iterations": 4})
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.info.run_id == first.info.run_id
    assert found.data.params["max_iterations"] == "2"
    assert [point.step for point in client.get_metric_history(found.info.run_id, "aucp")] == [2, 4]


def test_mlflow_follows_a_training(dataset_dir, tmp_path):
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy", reason="MONAI tracks into an SQLite file, for which mlflow-skinny needs it")
    config = Path(bundle_path("rsna")) / "train.json"
    values = SMALL | {"max_iterations": 4, "dataset_dir": str(dataset_dir), "output_dir": "out"}
    workflow(config, "train", tracking="mlflow", **values)
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'out/mlruns.db'}")
    (experiment,) = (found for found in client.search_experiments() if found.name == "monai_experiment")
    (found,) = client.search_runs([experiment.experiment_id])
    rows = list(csv.DictReader(Path("out/history.csv").read_text().splitlines()))
    assert found.data.metrics.keys() == rows[0].keys() - {"iteration"}
    for name in found.data.metrics:
        points = client.get_metric_history(found.info.run_id, name)
        assert [(point.step, pytest.approx(point.value, rel=1e-5)) for point in points] == [
            (int(row["iteration"]), float(row[name])) for row in rows if row[name]
        ]
    config = json.loads(Path("out/config.json").read_text())
    assert {name: str(value) for name, value in config.items()}.items() <= found.data.params.items()
    assert (found.data.params["channels"], found.data.params["max_epochs"]) == ("4", "2")
    ours, monai = sorted(artifact.path for artifact in client.list_artifacts(found.info.run_id))
    assert (ours, monai[:7]) == ("config.json", "config_")
    for name in (ours, monai):
        assert Path(client.download_artifacts(found.info.run_id, name)).read_text() == Path("out", name).read_text()
    assert {path.name for path in tmp_path.iterdir()} == {"out"}
