"""Packing a bundle: the specification's layout in real files, nothing of the run's images, all or nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow

from monai_sagan.bundle.pack import pack_bundle
from monai_sagan.cli import main
from monai_sagan.data.digests import splits_digest
from monai_sagan.files import load_tensors, save_tensors
from monai_sagan.models.trained import load_trained
from monai_sagan.networks import SaganGenerator
from monai_sagan.settings import as_plain

CONFIGS = {"configs/metadata.json", "configs/train.json", "configs/evaluate.json", "configs/inference.json"}
LAYOUT = CONFIGS | {"configs/logging.conf", "docs/README.md", "docs/data_license.txt", "LICENSE"}
OF_A_RUN = {"model.pt", "splits.json", "config.json", "history.csv", "artifact"}
SECRET = "hospital of St. Elsewhere"  # stands in a path, in an id and in the dataset's folder


@pytest.fixture
def run(tmp_path, save_model):
    """What a training run leaves of itself, on images in a folder whose name is nobody's business."""
    folder = tmp_path / "run"
    folder.mkdir()
    save_model(folder / "model.pt", "official", image_size=[64, 96], in_channels=3, grid=[1, 2], gate_norm="none")
    settings = as_plain(load_trained(folder / "model.pt").settings)
    given = {"bundle": "rsna", "preset": "official", "seed": 5, "dataset_dir": f"/data/{SECRET}", "device": "cpu"}
    options = {"split_file": f"/home/{SECRET}/RSNA.json", "split_seed": 3}
    config = settings | given | {"dataset_options": options, "anomaly_ratio": 0.4}
    (folder / "config.json").write_text(json.dumps(config))
    item = {"image": f"/data/{SECRET}/1.png", "label": 0, "digest": "abc", "patient": SECRET}
    splits = {name: [item] for name in ("train_normal", "train_unlabeled", "valid_normal", "valid_unlabeled", "test")}
    (folder / "splits.json").write_text(json.dumps(splits))
    (folder / "history.csv").write_text("iteration,aucp\n7,0.5\n")
    metrics = {"aucp": {"auc": 0.75, "ap": None}, "n_normal": 8, "n_abnormal": 6}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return folder


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def read(folder: Path, name: str) -> dict[str, object]:
    return json.loads((folder / "configs" / f"{name}.json").read_text())


def _bundle_root(config: object, **values: str) -> str:
    flow = ConfigWorkflow(str(config), logging_file=False, init_id="nothing", **values)
    flow.initialize()
    return flow.bundle_root


def test_without_a_run(tmp_path, monkeypatch):
    folder = pack_bundle("rsna", tmp_path / "a" / "rsna")
    assert files(folder) - {"configs/multi_gpu_train.json"} == LAYOUT | {"models/README.md"}
    assert not any(path.is_symlink() for path in folder.rglob("*"))
    assert "bundles/rsna" not in (folder / "docs/README.md").read_text()
    assert read(folder, "evaluate")["run_dir"] == "runs/rsna"
    monkeypatch.chdir(tmp_path)
    for config in ("train", "evaluate", "inference"):
        assert _bundle_root(folder / f"configs/{config}.json") == str(folder)
    assert _bundle_root("a/rsna/configs/train.json") == str(folder)
    assert _bundle_root("a/rsna/configs/train.json", bundle_root="elsewhere") == "elsewhere"
    monkeypatch.chdir(folder)  # without a workflow: the zoo's convention
    assert ConfigParser(read(folder, "train")).get_parsed_content("bundle_root") == str(folder)


def test_with_a_run(tmp_path, run):
    folder = pack_bundle("rsna", tmp_path / "rsna", run)
    assert {path.name for path in (folder / "models").iterdir()} == OF_A_RUN
    train, metadata = read(folder, "train"), read(folder, "metadata")
    wanted = {"preset": "official", "image_size": [64, 96], "in_channels": 3, "channels": 4, "num_res_blocks": 1}
    wanted |= {"grid": [1, 2], "gate_norm": "none", "seed": 5, "split_seed": 3, "anomaly_ratio": 0.4}
    assert wanted.items() <= train.items()
    assert train["learning_rate"] is None  # the preset's
    parser = ConfigParser(train)
    parser.parse()
    network = parser.get_parsed_content("network_def")
    network.load_state_dict(load_tensors(folder / "models/model.pt"))
    trained = load_trained(folder / "models/artifact")
    assert trained.settings == load_trained(run / "model.pt").settings == parser.get_parsed_content("settings")
    assert isinstance(trained.network, SaganGenerator)
    for formats in metadata["network_data_format"].values():
        for tensor in formats.values():
            assert (tensor["num_channels"], tensor["spatial_shape"]) == (3, [64, 96])
    assert metadata["eval_metrics"] == {"auc": 0.75}


def test_the_readme_says_what_was_measured(tmp_path, run):
    for name in ("rsna", "lag", "vindr_cxr", "phantom", "folder"):
        write_config(run, bundle=name)
        readme = (pack_bundle(name, tmp_path / name, run) / "docs/README.md").read_text()
        assert "not been measured" not in readme
        assert readme.endswith(
            "**The packed model's figures** (percent): AUC 75.00, measured by its run on that run's own test images "
            "(8 normal and 6 abnormal). They are of one run, and of the images that it was given.\n"
        )
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["baselines"] = {"linear_pu": {"auc": 0.5}, "pca_reconstruction": {"auc": 0.875}, "mean_intensity": None}
    (run / "metrics.json").write_text(json.dumps(metrics))
    readme = (pack_bundle("folder", tmp_path / "compared", run) / "docs/README.md").read_text()
    assert readme.endswith(" The best baseline on the same images (pca reconstruction): AUC 87.50.\n")
    (run / "metrics.json").unlink()
    write_config(run, bundle="rsna")
    assert "has not been measured" in (pack_bundle("rsna", tmp_path / "again", run) / "docs/README.md").read_text()


def write_config(run, **changes):
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | changes))


def test_a_run_of_another_bundle(tmp_path, run, refused):
    write_config(run, bundle="phantom")
    with refused(run, "a run of the bundle phantom, not of rsna", "pack phantom"):
        pack_bundle("rsna", tmp_path / "rsna", run)
    assert not (tmp_path / "rsna").exists()


def test_nothing_tells_whose_images_they_were(tmp_path, run):
    folder = pack_bundle("rsna", tmp_path / "rsna", run)
    for path in folder.rglob("*"):
        if path.is_file():
            assert SECRET.encode() not in path.read_bytes(), path
            assert str(tmp_path).encode() not in path.read_bytes(), path
    splits = json.loads((folder / "models/splits.json").read_text())
    assert splits["test"] == []
    assert splits["train_normal"] == [{"image": "train_normal/0", "label": 0, "digest": "abc"}]


@pytest.mark.parametrize("missing", ["model.pt", "splits.json", "config.json"])
def test_a_run_that_is_not_whole(missing, tmp_path, run, refused):
    (run / missing).unlink()
    with refused(run / missing):
        pack_bundle("rsna", tmp_path / "rsna", run)
    (run / missing).write_text('{"train_normal": [{}]}' if missing == "splits.json" else "nonsense")
    with refused(run / missing):
        pack_bundle("rsna", tmp_path / "rsna", run)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_splits_that_are_not_those_of_the_model(tmp_path, run, refused):
    content, splits = load_tensors(run / "model.pt"), json.loads((run / "splits.json").read_text())
    made = {"seed": 8, "training": torch.zeros(0), "validation": torch.zeros(0)}
    save_tensors(content | {"run": made | {"splits": splits_digest(splits)}}, run / "model.pt")
    folder = pack_bundle("rsna", tmp_path / "rsna", run)
    assert read(folder, "train")["seed"] == 8  # whatever the run's config.json says since
    save_tensors(content | {"run": made | {"splits": "another"}}, run / "model.pt")
    with refused(run / "splits.json", "not of the run that made", run / "model.pt"):
        pack_bundle("rsna", tmp_path / "other", run)
    assert not (tmp_path / "other").exists()


def test_wrong_names_and_folders(tmp_path, refused):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("precious")
    with refused(tmp_path / "mine", "is not empty"):
        pack_bundle("rsna", tmp_path / "mine")
    with refused("no bundle 'rnsa'", "the nearest is 'rsna'"):
        pack_bundle("rnsa", tmp_path / "new")
    with refused(tmp_path / "none" / "model.pt"):
        pack_bundle("rsna", tmp_path / "new", tmp_path / "none")
    assert {path.name for path in tmp_path.rglob("*")} == {"mine", "notes.txt"}


def test_the_command(tmp_path, capsys):
    assert main(["bundle", "pack", "phantom", str(tmp_path / "phantom")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'phantom'}\n"
    assert main(["bundle", "pack", "phantom", str(tmp_path / "phantom")]) == 2
    assert "is not empty" in capsys.readouterr().err
