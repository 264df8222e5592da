"""Parts below a bundle's options: what an option decides is refused, all else is part of what a run was made with."""

from __future__ import annotations

import json
import logging
import re
from copy import deepcopy
from pathlib import Path

import pytest
from command_line import carry_out
from monai.bundle import ConfigWorkflow

from monai_sagan.bundle import bundle_names, bundle_path, copy_bundle
from monai_sagan.bundle.pack import pack_bundle
from monai_sagan.data.datasets.phantom import write_phantom
from monai_sagan.errors import SaganError
from monai_sagan.files import load_tensors, save_tensors
from monai_sagan.study.plan import Bundle

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


def read(values=None, name="rsna", file="train.json", more=(), **options):
    """What `find_overrides` makes of a config, or the message of its error; nothing else of it is made."""
    folder = Path(bundle_path(name)) if name in bundle_names() else Path(name)
    files = [str(folder / file), *map(str, more)]
    flow = ConfigWorkflow(files, logging_file=False, workflow_type=None, init_id="nothing", **options, **(values or {}))
    flow.initialize()
    try:
        return flow.parser.get_parsed_content("overrides")
    except RuntimeError as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, SaganError):
            cause = cause.__cause__
        return str(cause)


DECIDED = [
    ("average#decay", "$@settings.ema_decay * 2", "ema_decay"),
    ("average::decay", 0.1, "ema_decay"),
    ("stages#amp", True, "amp"),
    ("chosen_method#name", "pu", "method"),
    ("settings#method", "pu", "method"),
    ("train#trainer#max_epochs", 1, "max_iterations"),
    ("train#dataset#batch_size", 4, "batch_size"),
    ("train#dataset#length", 4, "iterations_per_epoch"),
    ("network_def#checkpoint_images", 6, "checkpoint_images"),
    ("chosen_engine#amp", True, "amp"),
    ("settings#channels", 6, "channels"),
    ("flags#strict", True, "strict"),
    ("train#trainer#engine", "eager", "engine"),
    ("train#handlers#0#interval", 2, "val_interval"),
    ("average#decay", 0.9, "ema_decay"),
    ("planned_splits#seed", 4, "seed"),
    ("images#mixed_images", True, "mixed_images"),
    ("images#how", {"_target_": "monai_sagan.data.cache.HowToDecode", "image_size": [32, 32]}, "image_size"),
    ("validate#evaluator#device", "cpu", "device"),
    ("datalist#split_seed", 4, "split_seed"),
    ("dataset_options", {"split_file": "@split_file", "third_class": "@third_class", "split_seed": 4}, "split_seed"),
    ("train#trainer", {"_target_": "mine.Trainer", "seed": 4}, "seed"),
    # arguments that the package's components do not take, called as options
    ("network_def#channels", 6, "channels"),
    ("train#trainer#n_critic", 3, "n_critic"),
    ("average#learning_rate", "$0.1", "learning_rate"),
    ("train#dataset#in_channels", 3, "in_channels"),
]


@pytest.mark.parametrize(("key", "value", "option"), DECIDED)
def test_what_an_option_decides_is_refused_with_its_name(key, value, option):
    said = read({key: value})
    assert f"is decided by --{option}" in said
    assert said.startswith(key.replace("::", "#"))
    assert "\n" not in said


FREE = [
    ("average#start", (3, 4), [3, 4]),
    ("train#inferer", {"_target_": "monai.inferers.SlidingWindowInferer"}, ...),
    ("handlers#stop_on_nonfinite#_disabled_", True, True),
    ("run", ["$@train#trainer.run()"], ["$@train#trainer.run()"]),
    ("network_def", {"_target_": "mine.Generator", "channels": "$@settings.channels"}, ...),
    ("network_def#checkpoint_images", "$@checkpoint_images", "$@checkpoint_images"),  # the option in other words
    ("split_images#train", "@split_images#train_normal", "@split_images#train_normal"),
    ("extra", {"_target_": "builtins.dict"}, {"_target_": "builtins.dict"}),
    ("network", Path, "builtins.type"),
]


@pytest.mark.parametrize(("key", "value", "recorded"), FREE)
def test_all_else_is_recorded(key, value, recorded):
    assert read(deepcopy({key: value})) == {key: value if recorded is ... else recorded}


def test_the_examples_of_the_guide():
    section = (Path(__file__).parents[2] / "docs/guides/training.md").read_text().split("## Below the options")[1]
    examples = re.findall(r"`--([\w#]+#\w+) (\w+)`", section.split("\n## ")[0])
    config = json.loads((Path(bundle_path("rsna")) / "train.json").read_text())
    assert len(examples) == 2
    for key, _ in examples:
        component = config
        for part in key.split("#")[:-1]:
            component = component[part]  # MONAI itself refuses what is below a component that is not there
    (refused_key, value), (recorded_key, other) = examples
    assert read({refused_key: int(value)}).startswith(f"{refused_key} is decided by --{refused_key.split('#')[-1]};")
    assert read({recorded_key: int(other)}) == {recorded_key: int(other)}


def test_a_handler_more_or_less_is_recorded():
    handlers = json.loads((Path(bundle_path("rsna")) / "train.json").read_text())["train"]["handlers"]
    more = {"_target_": "monai.handlers.StatsHandler"}
    assert read({"train#handlers": [*handlers, more]}) == {"train#handlers#1": more}
    assert read({"train#handlers": []}) == {"train#handlers#0": None}


@pytest.mark.parametrize("file", ["train.json", "evaluate.json", "inference.json"])
@pytest.mark.parametrize("name", bundle_names())
def test_a_bundle_as_it_stands_overrides_nothing(name, file, tmp_path):
    assert read(name=name, file=file) is None
    assert read(name=copy_bundle(name, tmp_path / "copy"), file=file) is None
    assert read(name=pack_bundle(name, tmp_path / "packed"), file=f"configs/{file}") is None


@pytest.mark.parametrize(
    "values",
    [
        {"max_iterations": 40, "batch_size": 8, "grid": [2, 2], "anomaly_ratio": "none", "critic_betas": [0, 0.9]},
        {"dataset_dir": "here@home", "output_dir": "a@b", "cache_dir": "/tmp/c", "device": "cpu", "amp": True},
        {"dataset_dir": {"_target_": "monai_sagan.bundle.path_in", "folder": "@output_dir", "name": "data"}},
        {"_meta_#version": "2"},
    ],
)
def test_options_are_no_overrides(values):
    assert read(values) is None


def test_several_gpus_and_tracking_are_no_overrides(tmp_path):
    multi = Path(bundle_path("rsna")) / "multi_gpu_train.json"
    assert read(more=[multi]) is None
    assert read({"handlers#progress#interval": 7}, more=[multi]) == {"handlers#progress#interval": 7}
    assert read({"output_dir": str(tmp_path)}, tracking="mlflow") is None


def test_a_bundle_of_ones_own_is_compared_below_the_block_at_its_top(tmp_path):
    folder = copy_bundle("folder", tmp_path / "shelf")
    config = json.loads((folder / "train.json").read_text())
    config |= {"bundle": "shelf", "drawer": 3, "bundle_root": {"_target_": "monai_sagan.bundle.bundle_folder"}}
    config["datalist"] = {"_target_": "shelf.read_shelf", "dataset_dir": "@dataset_dir", "drawer": "@drawer"}
    (folder / "train.json").write_text(json.dumps(config))
    assert read(name=folder) is None
    assert read({"drawer": 4}, name=folder) is None
    assert "--channels" in read({"settings#channels": 4}, name=folder)
    config["handlers"]["progress"]["interval"] = 7  # not on a command line, but other than in all bundles
    (folder / "train.json").write_text(json.dumps(config))
    assert read(name=folder) == {"handlers#progress#interval": 7}


def test_evaluation_and_inference_have_options_too():
    assert "--batch_size" in read({"run#0#batch_size": 4}, file="evaluate.json")
    assert "--mixed_images" in read({"flags#mixed_images": True}, file="evaluate.json")
    assert "--batch_size" in read({"dataset#batch_size": 4}, file="inference.json")
    assert read({"postprocessing#keys": "x"}, file="inference.json") == {"postprocessing#keys": "x"}


def test_a_study_asks_for_the_same(refused):
    bundle, override = Bundle(Path(bundle_path("rsna")) / "train.json"), {"handlers#progress#interval": 7}
    assert bundle.run_config({})["overrides"] is None
    assert bundle.run_config(override)["overrides"] == override
    with refused("train#trainer#seed is decided by --seed"):
        bundle.run_config({"train#trainer#seed": 5})


# Runs.


@pytest.fixture(scope="module")
def dataset_dir(tmp_path_factory):
    return write_phantom(tmp_path_factory.mktemp("data") / "phantom", counts=COUNTS)


@pytest.fixture(autouse=True)
def _quiet_log():
    root = logging.getLogger()
    before = root.handlers[:]
    yield
    for handler in set(root.handlers) - set(before):
        root.removeHandler(handler)
        handler.close()


def train(output_dir, dataset_dir, **values):
    values = {**SMALL, "dataset_dir": str(dataset_dir), "output_dir": str(output_dir), **values}
    config = str(Path(bundle_path("rsna")) / "train.json")
    flow = ConfigWorkflow(config, workflow_type="train", logging_file=False, **values)
    flow.initialize()
    flow.run()
    flow.finalize()


def contents(folder: Path) -> dict[str, bytes]:
    kept = (path for path in folder.rglob("*") if path.is_file() and "tensorboard" not in path.parts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in kept if path.name not in ("log.txt", ".lock")}


@pytest.mark.parametrize("way", ["command line", "args_file", "overlay", "component", "merged"])
def test_it_is_refused_in_one_line_wherever_it_comes_from(way, tmp_path, dataset_dir, capsys):
    config, more = str(Path(bundle_path("rsna")) / "train.json"), tmp_path / "more.json"
    overlays = {
        "overlay": {"train#trainer#seed": 3},
        "component": {"average": {"_target_": "mine.Average", "decay": 0.1}},
    }
    overlays |= {"args_file": {"train#trainer#seed": 3}, "merged": {"+train#trainer": {"seed": 3}}}
    more.write_text(json.dumps(overlays.get(way, {})))
    words = ["--config_file", str([config, str(more)]) if way in ("overlay", "component", "merged") else config]
    words += ["--args_file", str(more)] if way == "args_file" else []
    words += ["--train#trainer#seed", "3"] if way == "command line" else []
    words += ["--dataset_dir", str(dataset_dir), "--output_dir", str(tmp_path / "run")]
    assert carry_out(["python", "-m", "monai.bundle", "run", *words]) == 1
    option = "ema_decay" if way == "component" else "seed"
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert lines[0].endswith(f"is decided by --{option}; set it there")
    assert not (tmp_path / "run").exists()


def test_a_run_with_overrides_is_told_from_one_without(tmp_path, dataset_dir):
    output, override = tmp_path / "run", {"handlers#progress#interval": 7}
    train(output, dataset_dir, **override)
    config = json.loads((output / "config.json").read_text())
    assert config["overrides"] == override
    before = contents(output)
    for values in ({}, {"handlers#progress#interval": 9}):
        with pytest.raises((SaganError, RuntimeError)) as caught:
            train(output, dataset_dir, **values)
        assert "was made with overrides {'handlers#progress#interval': 7}" in str(caught.getrepr(chain=True))
    assert {name: before[name] for name in ("checkpoint.pt", "model.pt", "scores.csv", "metrics.json")}.items() <= (
        contents(output).items()
    )
    train(output, dataset_dir, **override, max_iterations=6)
    assert load_tensors(output / "model_last.pt")["iteration"] == 6
    packed = json.loads((pack_bundle("rsna", tmp_path / "packed", output) / "configs/train.json").read_text())
    assert packed["handlers"]["progress"]["interval"] == 7
    assert read(name=tmp_path / "packed", file="configs/train.json") == override


def test_a_finished_run_does_not_become_shorter(tmp_path, dataset_dir):
    output = tmp_path / "run"
    train(output, dataset_dir)
    train(output, dataset_dir)  # the same command again changes nothing
    before = contents(output)
    with pytest.raises((SaganError, RuntimeError)) as caught:
        train(output, dataset_dir, max_iterations=2)
    said = str(caught.getrepr(chain=True))
    assert "has done 4 iterations already, this run asks for 2; give --max_iterations 4 or more" in said
    for name in ("checkpoint.pt", "model.pt", "model_last.pt", "metrics.json", "scores.csv", "history.csv"):
        assert (output / name).read_bytes() == before[name]


def test_a_run_of_before_overrides_were_recorded_goes_on(tmp_path, dataset_dir):
    output = tmp_path / "run"
    train(output, dataset_dir)
    content = load_tensors(output / "checkpoint.pt")
    assert content["settings"].pop("overrides") is None
    save_tensors(content, output / "checkpoint.pt")
    train(output, dataset_dir, max_iterations=6)
    assert load_tensors(output / "model_last.pt")["iteration"] == 6


def test_a_network_whose_models_could_not_be_read_ends_the_run_at_once(tmp_path, dataset_dir):
    other = {"_target_": "monai_sagan.networks.generator.SaganGenerator", "channels": "$@settings.channels"}
    with pytest.raises((SaganError, RuntimeError)) as caught:
        train(tmp_path / "run", dataset_dir, network_def=other)
    assert "the network is not the one of its settings" in str(caught.getrepr(chain=True))
    assert not (tmp_path / "run" / "model.pt").exists()
