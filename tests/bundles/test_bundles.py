"""Every bundle, as MONAI runs it: reduced in size, on generated images in the Med-AD layout."""

from __future__ import annotations

import csv
import json
import logging
import shutil
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigWorkflow

from monai_sagan.bundle import bundle_names, bundle_path
from monai_sagan.bundle.layout import as_text, shared_part
from monai_sagan.data.datasets.phantom import write_phantom
from monai_sagan.errors import SaganError
from monai_sagan.files import load_tensors
from monai_sagan.models.trained import load_trained

SMALL = {
    "channels": 4,
    "num_res_blocks": 1,
    "batch_size": 4,
    "max_iterations": 4,
    "iterations_per_epoch": 2,
    "anomaly_ratio": None,
    "device": "cpu",
}
COUNTS = {"train_normal": 20, "unlabeled_normal": 8, "unlabeled_abnormal": 12, "test_normal": 6, "test_abnormal": 6}


@pytest.fixture(scope="module")
def dataset_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_phantom(tmp_path_factory.mktemp("data") / "phantom", counts=COUNTS)


@pytest.fixture(autouse=True)
def _quiet_log():
    root = logging.getLogger()
    before = root.handlers[:]
    yield
    for handler in set(root.handlers) - set(before):  # a run's own log.txt
        root.removeHandler(handler)
        handler.close()


def workflow(name: str, config: str, **values: object) -> ConfigWorkflow:
    path = Path(bundle_path(name)) / f"{config}.json"
    return ConfigWorkflow(str(path), logging_file=False, workflow_type="train", **values)


def run(name: str, config: str, **values: object) -> None:
    flow = workflow(name, config, **values)
    flow.initialize()
    flow.run()
    flow.finalize()


def train(name: str, dataset_dir: Path, output_dir: Path, **values: object) -> Path:
    run(name, "train", **{**SMALL, "dataset_dir": str(dataset_dir), "output_dir": str(output_dir), **values})
    return output_dir


def test_a_bundle_trains_evaluates_and_infers(dataset_dir, tmp_path):
    """Of one bundle as it stands; test_ecosystem.py does it with the packed copy of every bundle."""
    name = "rsna"
    output = train(name, dataset_dir, tmp_path / "run")

    metrics = json.loads((output / "metrics.json").read_text())
    assert {"aucp", "last", "baselines", "n_normal", "n_abnormal", "warnings", "versions"} <= set(metrics)
    assert "oracle_test" not in metrics
    assert all(0 <= metrics[model][value] <= 1 for model in ("aucp", "last") for value in ("auc", "ap"))
    assert (metrics["n_normal"], metrics["n_abnormal"], metrics["last"]["iteration"]) == (6, 6, 4)
    rows = list(csv.DictReader((output / "scores.csv").open()))
    assert list(rows[0])[:3] == ["image", "label", "score"]
    assert len(rows) == 12
    assert len(list((output / "heatmaps").glob("*.png"))) == 12
    written = {path.name for path in output.iterdir()}
    assert written == {
        *("checkpoint.pt", "model.pt", "model_last.pt", "metrics.json", "scores.csv", "heatmaps", "config.json"),
        *("log.txt", "tensorboard", "cache", "splits.json", "audit.json", "skipped.csv", "history.csv", "report.html"),
        "cost.json",
    }

    assert scalars_of(output / "tensorboard") == curves_of(output / "history.csv")
    assert 0 <= metrics["aucp"]["aucp"] <= 1
    assert 0 <= metrics["aucp"]["aucp_se"] <= 0.5

    again = tmp_path / "evaluation"
    run(name, "evaluate", dataset_dir=str(dataset_dir), run_dir=str(output), output_dir=str(again), device="cpu")
    assert json.loads((again / "metrics.json").read_text())["last"] == metrics["last"]
    for file in ("scores.csv", "splits.json", "audit.json", "history.csv", "skipped.csv"):
        assert (again / file).read_text() == (output / file).read_text()

    found = tmp_path / "inference"
    images, model = str(dataset_dir / "images"), str(output / "model.pt")
    run(name, "inference", dataset_dir=images, model=model, output_dir=str(found), device="cpu")
    scored = {Path(row["image"]).name: row["score"] for row in csv.DictReader((found / "scores.csv").open())}
    assert len(scored) == sum(COUNTS.values())
    for row in rows:  # the same file gets the same score, whatever it is scored along with
        assert scored[Path(row["image"]).name] == row["score"]


def scalars_of(folder):
    """What TensorBoard draws: the points (iteration, value) by name."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder)).Reload()
    return {
        name: [(event.step, pytest.approx(event.value, rel=1e-5)) for event in events.Scalars(name)]
        for name in events.Tags()["scalars"]
    }


def curves_of(path):
    """The columns of ``history.csv`` as points (iteration, value) by name."""
    rows = list(csv.DictReader(path.open()))
    names = [name for name in rows[0] if name != "iteration"]
    return {name: [(int(row["iteration"]), float(row[name])) for row in rows if row[name]] for name in names}


@pytest.mark.parametrize("config", ["train", "evaluate", "inference"])
@pytest.mark.parametrize("name", bundle_names())
def test_a_bundle_knows_its_folder(name, config):
    flow = ConfigWorkflow(str(Path(bundle_path(name)) / f"{config}.json"), logging_file=False, init_id="nothing")
    flow.initialize()
    assert flow.bundle_root == bundle_path(name)


@pytest.mark.parametrize("config", ["train.json", "evaluate.json", "inference.json"])
def test_bundles_differ_only_in_the_block_at_the_top(config):
    contents = {name: json.loads((Path(bundle_path(name)) / config).read_text()) for name in bundle_names()}
    shared = {name: shared_part(config, content) for name, content in contents.items()}
    assert all(part == shared["rsna"] for part in shared.values())
    assert all(len(content) - len(shared["rsna"]) < 20 for content in contents.values())


@pytest.mark.parametrize("name", bundle_names())
def test_configs_are_short_and_in_one_layout(name):
    for path in sorted(set(Path(bundle_path(name)).glob("*.json")) - {Path(bundle_path(name), "metadata.json")}):
        text = path.read_text(encoding="utf-8")
        assert text == as_text(json.loads(text)), f"write it again: python -m monai_sagan.bundle.layout {name}"
        assert max(map(len, text.splitlines())) <= 120
        assert len(text.splitlines()) <= 330
        assert path.name == "train.json" or path.name == "multi_gpu_train.json" or '"$' not in text


@pytest.mark.parametrize("preset", ["paper", "official", "recommended"])
def test_each_preset_trains(preset, dataset_dir, tmp_path):
    output = train("rsna", dataset_dir, tmp_path, preset=preset)
    config = json.loads((output / "config.json").read_text())
    metrics = json.loads((output / "metrics.json").read_text())
    assert config["preset"] == preset
    assert ("aucp_masked" in metrics) == (preset == "official")
    rate = load_tensors(output / "checkpoint.pt")["states"]["optimizer"]["param_groups"][0]["lr"]
    assert rate == {"paper": 5e-5, "official": 5e-5, "recommended": 2e-4}[preset]  # the 2nd of 2 epochs: still whole


def test_a_run_in_two_parts_equals_one_bit_for_bit(dataset_dir, tmp_path):
    values = {"iterations_per_epoch": 10, "ema_decay": 0.9}
    whole = train("phantom", dataset_dir, tmp_path / "whole", max_iterations=40, **values)
    parts = train("phantom", dataset_dir, tmp_path / "parts", max_iterations=20, **values)
    train("phantom", dataset_dir, tmp_path / "parts", max_iterations=40, **values)
    for name in ("checkpoint.pt", "model.pt", "model_last.pt"):
        expected, found = load_tensors(whole / name), load_tensors(parts / name)
        for content in (expected, found):
            content["settings"].pop("max_iterations")  # model.pt may be of the first part
        assert_same(expected, found)
    assert _scores(whole) == _scores(parts)
    assert _losses(whole) == _losses(parts)
    assert (whole / "history.csv").read_text() == (parts / "history.csv").read_text()


def test_the_oracle_is_marked_and_changes_nothing_else(dataset_dir, tmp_path):
    plain = train("rsna", dataset_dir, tmp_path / "plain")
    output = train("rsna", dataset_dir, tmp_path / "oracle", oracle_test="true")
    metrics, without = (json.loads((folder / "metrics.json").read_text()) for folder in (output, plain))
    assert (metrics["aucp"], metrics["last"]) == (without["aucp"], without["last"])
    assert metrics["oracle_test"]["auc"] >= max(metrics["aucp"]["auc"], metrics["last"]["auc"])
    assert "score_oracle_test" in (output / "scores.csv").read_text()
    assert "chosen on the test set" in (output / "report.html").read_text()


def test_bad_images_are_skipped(dataset_dir, tmp_path, refused):
    folder = tmp_path / "data"
    shutil.copytree(dataset_dir, folder)
    bad = folder / "images" / json.loads((folder / "data.json").read_text())["train"]["0"][0]
    bad.write_bytes(b"")
    with pytest.raises((SaganError, RuntimeError)):
        train("rsna", folder, tmp_path / "strict")
    output = train("rsna", folder, tmp_path / "run", max_unreadable=0.05)
    assert str(bad) in (output / "skipped.csv").read_text()
    splits = json.loads((output / "splits.json").read_text())
    assert sum(map(len, splits.values())) == sum(COUNTS.values()) - 1
    assert "skipped" in (output / "log.txt").read_text()


def test_a_dataset_without_a_test(dataset_dir, tmp_path):
    lists = json.loads((dataset_dir / "data.json").read_text())
    lists["test"] = {}
    other = tmp_path / "data"
    other.mkdir()
    (other / "images").symlink_to(dataset_dir / "images")
    (other / "data.json").write_text(json.dumps(lists))
    output = train("folder", other, tmp_path / "run")
    assert (output / "model.pt").is_file()
    assert not (output / "metrics.json").exists()
    assert "inference.json scores any folder" in (output / "log.txt").read_text()


def test_a_run_does_not_go_on_with_other_data(dataset_dir, tmp_path):
    """Nor with other splits of the same data, nor with an oracle that has not seen its beginning."""
    output = train("rsna", dataset_dir, tmp_path / "run")
    before = (output / "metrics.json").read_bytes()
    for values in ({"valid_fraction": 0.2}, {"anomaly_ratio": 0.5}, {"oracle_test": True}):
        with pytest.raises((SaganError, RuntimeError)) as caught:
            train("rsna", dataset_dir, tmp_path / "run", **values)
        assert "was made with" in str(caught.getrepr(chain=True))
    assert (output / "metrics.json").read_bytes() == before
    train("rsna", dataset_dir, tmp_path / "run")


def test_a_run_made_with_another_preparation_goes_on_with_that_one(dataset_dir, tmp_path):
    """As runs of paper and official were before these presets took the published preparation."""
    older = {"preset": "paper", "preparation": "display"}
    output = train("rsna", dataset_dir, tmp_path / "run", **older)
    with pytest.raises((SaganError, RuntimeError)) as caught:
        train("rsna", dataset_dir, output, preset="paper")
    said = str(caught.getrepr(chain=True))
    assert "was made with preparation display, this run has med_ad; set it back" in said
    train("rsna", dataset_dir, output, **older, max_iterations=6)
    values = {"dataset_dir": str(dataset_dir), "run_dir": str(output), "output_dir": str(tmp_path / "again")}
    run("rsna", "evaluate", **values, device="cpu")
    settings = [load_trained(output / name).settings for name in ("model.pt", "model_last.pt")]
    assert [one.preparation for one in settings] == ["display", "display"]
    assert json.loads((tmp_path / "again" / "config.json").read_text())["preparation"] == "display"


def test_evaluation_refuses_images_that_were_trained_on(dataset_dir, tmp_path):
    output = train("rsna", dataset_dir, tmp_path / "run")
    lists = json.loads((dataset_dir / "data.json").read_text())
    lists["train"]["0"], lists["test"]["0"] = lists["test"]["0"], lists["train"]["0"]
    other = tmp_path / "data"
    other.mkdir()
    (other / "images").symlink_to(dataset_dir / "images")
    (other / "data.json").write_text(json.dumps(lists))
    with pytest.raises((SaganError, RuntimeError)) as caught:
        run(
            "rsna",
            "evaluate",
            dataset_dir=str(other),
            run_dir=str(output),
            output_dir=str(tmp_path / "x"),
            device="cpu",
        )
    assert "trained on" in str(caught.getrepr(chain=True))


def assert_same(a: object, b: object) -> None:
    if isinstance(a, dict):
        assert isinstance(b, dict)
        assert a.keys() == b.keys()
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    elif torch.is_tensor(a):
        assert torch.equal(a, b)
    else:
        assert a == b


def _scores(output: Path) -> list[list[str]]:
    return [list(row.values())[1:] for row in csv.DictReader((output / "scores.csv").open())]


def _losses(output: Path) -> list[str]:
    """The logged losses of the last iteration, as printed, without the pace."""
    lines = (output / "log.txt").read_text().splitlines()
    return [line.split("iteration 40/40 ")[1].split(" | ")[0] for line in lines if "iteration 40/40 " in line]


def test_training_never_reads_the_test_images(dataset_dir, tmp_path, monkeypatch):
    from monai_sagan.data.cache import ImageCache

    asked: list[str] = []
    stored = ImageCache.stored

    def watched(self, items):
        asked.extend(item["image"] for item in items)
        return stored(self, items)

    flow = workflow("phantom", "train", **SMALL, dataset_dir=str(dataset_dir), output_dir=str(tmp_path))
    flow.initialize()  # the audit compares test images with the others, and hands nothing on
    monkeypatch.setattr(ImageCache, "stored", watched)
    flow.parser.get_parsed_content("train#trainer").run()
    lists = json.loads((dataset_dir / "data.json").read_text())
    test = {str(dataset_dir / "images" / name) for part in lists["test"].values() for name in part}
    assert asked
    assert not test & set(asked)


def test_the_labels_of_unlabeled_images_change_nothing(dataset_dir, tmp_path):
    lists = json.loads((dataset_dir / "data.json").read_text())
    lists["train"]["unlabeled"] = [*lists["train"]["unlabeled"]["0"], *lists["train"]["unlabeled"]["1"]]
    other = tmp_path / "data"
    other.mkdir()
    (other / "images").symlink_to(dataset_dir / "images")
    (other / "data.json").write_text(json.dumps(lists))
    known = train("phantom", dataset_dir, tmp_path / "known")
    unknown = train("phantom", other, tmp_path / "unknown")
    assert _scores(known) == _scores(unknown)


def test_a_non_finite_loss_names_itself_and_keeps_the_checkpoint(dataset_dir, tmp_path):
    output = train("phantom", dataset_dir, tmp_path)
    before = (output / "checkpoint.pt").read_bytes()
    flow = workflow(
        "phantom",
        "train",
        **{**SMALL, "max_iterations": 8},
        dataset_dir=str(dataset_dir),
        output_dir=str(output),
    )
    flow.initialize()
    trainer = flow.parser.get_parsed_content("train#trainer")
    batch = trainer.data_loader.batch
    trainer.data_loader.batch = lambda step: {k: v * (float("nan") if step == 4 else 1) for k, v in batch(step).items()}
    with pytest.raises(SaganError, match=r"the loss critic is not finite since iteration 5"):
        trainer.run()
    assert (output / "checkpoint.pt").read_bytes() == before


BAD_VALUES = [
    ({"grid": [3, 3]}, "height of 64 does not fit grid"),
    ({"batch_size": 64}, "batch_size 64 is larger than the 18 normal training images"),
    ({"batch_size": "many"}, "batch_size is 'many'; it is a whole number"),
    ({"preset": "best"}, "preset is 'best'; use one of paper, official, recommended"),
    ({"anomaly_ratio": 1.5}, "anomaly_ratio is 1.5"),
    ({"anomaly_ratio": 0.6, "unlabeled_size": 40}, "are missing"),
    ({"max_iterations": 5, "iterations_per_epoch": 2}, "use 4 or 6"),
    ({"image_size": 60}, "at least 64"),
    ({"image_size": 72}, "use 64 or 80"),
]


@pytest.mark.parametrize(("values", "message"), BAD_VALUES)
def test_a_bad_value_is_named_in_one_line(values, message, dataset_dir, tmp_path):
    with pytest.raises((SaganError, RuntimeError)) as caught:
        train("phantom", dataset_dir, tmp_path / "run", **values)
    error: BaseException | None = caught.value
    while error is not None and not isinstance(error, SaganError):
        error = error.__cause__
    assert isinstance(error, SaganError)
    assert message in str(error)
    assert "\n" not in str(error)
    assert not (tmp_path / "run" / "model.pt").exists()
