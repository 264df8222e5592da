"""Every method by the command that a user types: training, report, four exports, prediction."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import carry_out
from PIL import Image
from tiny import TINY

from monai_sagan.artifact import open_artifact
from monai_sagan.artifact.export import export_artifact
from monai_sagan.bundle.pack import pack_bundle
from monai_sagan.data.datasets.phantom import write_phantom
from monai_sagan.methods import find_method
from monai_sagan.models.facts import FORMATS
from monai_sagan.models.trained import load_trained
from monai_sagan.predict import predict
from monai_sagan.settings import as_plain

CONFIG = Path(__file__).parents[2] / "bundles" / "folder" / "train.json"
COUNTS = {"train_normal": 20, "unlabeled_normal": 8, "unlabeled_abnormal": 12, "test_normal": 6, "test_abnormal": 6}
OPTIONS_OF_ALL = {"image_size", "in_channels", "batch_size"}
each = pytest.mark.parametrize("method", TINY)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_phantom(tmp_path_factory.mktemp("data") / "phantom", counts=COUNTS)


def words(method, dataset, output, *more):
    """The command of the README, for two iterations a stage."""
    from monai.bundle import ConfigParser

    keys = ConfigParser.load_config_file(str(CONFIG))
    options = {name if name in keys else f"settings#{name}": value for name, value in TINY[method].items()}
    iterations = 2 * find_method(method).stages_count
    shape = {"batch_size": 4, "max_iterations": iterations, "iterations_per_epoch": 2, "device": "cpu"}
    given = {"dataset_dir": dataset, "output_dir": output, "method": method, **shape, **options}
    flags = [f"--{name}={value}" for name, value in given.items()]
    return ["python", "-m", "monai.bundle", "run", "--config_file", str(CONFIG), *flags, *more]


@pytest.fixture(scope="module")
def run_of(dataset, tmp_path_factory):
    """The output folder of a finished run of each method."""
    runs = {}

    def run(method):
        if method not in runs:
            output = tmp_path_factory.mktemp("runs") / "run"
            assert carry_out(words(method, dataset, output)) == 0
            runs[method] = output
        return runs[method]

    return run


@each
def test_the_command_leaves_what_every_run_leaves(method, run_of):
    run = run_of(method)
    metrics = json.loads((run / "metrics.json").read_text())
    assert 0 <= metrics["aucp"]["auc"] <= 1
    assert json.loads((run / "config.json").read_text())["method"] == method
    trained = load_trained(run / "model.pt")
    assert trained.settings.method == method
    assert set(TINY[method]) <= set(as_plain(trained.settings))
    if "unlabeled" not in find_method(method).streams:  # not even for choosing a checkpoint
        assert (run / "model.pt").read_bytes() == (run / "model_last.pt").read_bytes()
    page = (run / "report.html").read_text()
    assert find_method(method).title in page
    assert list((run / "heatmaps").glob("*.png"))


@each
@pytest.mark.parametrize("format", FORMATS)
def test_exports_score_as_the_model_does(method, format, run_of, tmp_path):
    run = run_of(method)
    trained = load_trained(run / "model.pt")
    artifact = open_artifact(export_artifact(run, tmp_path / format, format))
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (3, trained.settings.in_channels, *trained.settings.image_size), np.uint8)
    outputs = artifact.run(images)
    _, found = next(trained.batches(torch.from_numpy(images)))
    assert np.abs(outputs["score"] - found.score.numpy()).max() < 1e-5
    in_order = found.score.numpy()[np.argsort(outputs["score"])]
    assert (np.diff(in_order) > -1e-5).all()  # the same order, but for what rounding ties
    assert np.abs(outputs["anomaly_map"] - found.anomaly_map.numpy()).max() < 1e-4
    assert ("restored" in outputs) == (found.restored is not None)


@each
def test_predict_scores_as_the_evaluation_did(method, run_of, dataset, tmp_path):
    run = run_of(method)
    with (run / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    (tmp_path / "in").mkdir()
    expected = {}
    for row in rows:
        name = Path(row["image"]).name
        Image.open(dataset / "images" / name).save(tmp_path / "in" / name)
        expected[name] = float(row["score"])
    predict(export_artifact(run, tmp_path / "artifact"), tmp_path / "in", tmp_path / "out", jobs=1)
    with (tmp_path / "out" / "scores.csv").open() as file:
        found = {Path(row["image"]).name: float(row["score"]) for row in csv.DictReader(file)}
    assert found == pytest.approx(expected, abs=2e-6)


@each
def test_a_wrong_option_is_one_line_that_names_the_options(method, dataset, tmp_path, capsys):
    assert carry_out(words(method, dataset, tmp_path / "run", "--settings#no_such_option=1")) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "no_such_option" in lines[0]
    assert "the options are" in lines[0]
    assert not (tmp_path / "run").exists()


@each
def test_a_packed_run_has_the_options_of_its_method(method, run_of, tmp_path):
    from monai.bundle import ConfigParser

    packed = pack_bundle("folder", tmp_path / "packed", run_of(method))
    parser = ConfigParser(ConfigParser.load_config_file(str(packed / "configs" / "train.json")))
    assert parser.get_parsed_content("settings") == load_trained(run_of(method) / "model.pt").settings


def test_a_packed_bundle_trains_the_same_model_again(dataset, tmp_path):
    more = ["--settings#second_rate=0.03", "--seed=5", "--oracle_test=true"]
    assert carry_out(words("two_stages.TwoStages", dataset, tmp_path / "run", *more)) == 0
    assert (tmp_path / "run" / "model_oracle_test.pt").is_file()  # every handler takes a method that does not restore
    packed = pack_bundle("folder", tmp_path / "packed", tmp_path / "run")
    train = json.loads((packed / "configs" / "train.json").read_text())
    assert train["settings"]["second_rate"] == 0.03
    places = [f"--dataset_dir={dataset}", f"--output_dir={tmp_path / 'again'}", "--device=cpu"]
    run = ["python", "-m", "monai.bundle", "run", "--config_file"]
    assert carry_out([*run, str(packed / "configs" / "train.json"), *places]) == 0
    first, again = (load_trained(tmp_path / name / "model.pt") for name in ("run", "again"))
    assert first.settings == again.settings
    for name, weights in first.network.state_dict().items():
        assert torch.equal(weights, again.network.state_dict()[name]), name


@pytest.mark.parametrize("method", ["brainomaly", "two_stages.TwoStages"])
def test_evaluation_and_inference_score_as_the_run_did(method, run_of, dataset, tmp_path):
    run, bundle = run_of(method), CONFIG.parent
    common = ["--device=cpu"]
    start = ["python", "-m", "monai.bundle", "run", "--config_file"]
    evaluate = [f"--run_dir={run}", f"--dataset_dir={dataset}", f"--output_dir={tmp_path / 'evaluation'}"]
    assert carry_out([*start, str(bundle / "evaluate.json"), *evaluate, *common]) == 0
    assert scores_of(tmp_path / "evaluation") == pytest.approx(scores_of(run), abs=1e-6)
    infer = [f"--model={run / 'model.pt'}", f"--dataset_dir={dataset / 'images'}", f"--output_dir={tmp_path / 'out'}"]
    assert carry_out([*start, str(bundle / "inference.json"), *infer, *common]) == 0
    found, expected = scores_of(tmp_path / "out"), scores_of(run)
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-6)


def scores_of(folder):
    with (folder / "scores.csv").open() as file:
        return {Path(row["image"]).name: float(row["score"]) for row in csv.DictReader(file)}
