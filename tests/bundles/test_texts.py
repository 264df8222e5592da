"""Paths and names are what was typed, whatever python-fire and MONAI would make of the words."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from command_line import carry_out
from monai.bundle import ConfigWorkflow
from PIL import Image

from monai_sagan.bundle import bundle_path
from monai_sagan.bundle.texts import is_text_option, text_as_typed
from monai_sagan.cli import main
from monai_sagan.study.plan import Bundle

ODD = ["2024", "007", "1e3", "0x1F", "1_000", "None", "True", "a,b", "[x]", "{a}", "(a)", "data#1", "#1", "2024#1",
       "it's", "a b", "1,2", "x::y", "100%", "a&b#1&num;"]  # fmt: skip
SMALL = {"channels": 4, "num_res_blocks": 1, "batch_size": 2, "max_iterations": 2, "iterations_per_epoch": 2}


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """A bundle's command in an empty folder: its exit code, and what it prints as errors."""
    monkeypatch.chdir(tmp_path)

    def command(name, config, *words):
        code = carry_out(["python", "-m", "monai.bundle", "run", "--config_file",
                          str(Path(bundle_path(name)) / f"{config}.json"), *words])  # fmt: skip
        return code, capsys.readouterr().err

    return command


def write_images(folder):
    rng = np.random.default_rng(0)
    for part, count in (("normal", 8), ("unlabeled", 8), ("test/normal", 3), ("test/abnormal", 3)):
        (folder / part).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(rng.integers(0, 256, (64, 64), dtype=np.uint8)).save(folder / part / f"{i}.png")


@pytest.mark.parametrize("word", ODD)
def test_a_path_is_the_word_that_was_typed(word, run):
    for option, name, config, message in (
        ("dataset_dir", "rsna", "train", f"error: no RSNA data in {word}: expected"),
        ("run_dir", "rsna", "evaluate", f"no trained model in {Path(word)};"),
        ("model", "rsna", "inference", f"no file {word}"),
    ):
        for words in ([f"--{option}", word], [f"--{option}={word}"]):
            code, said = run(name, config, *words)
            assert code == 1
            assert message in said
            assert said.count("\n") == 1


def test_a_quoted_word_is_what_is_quoted(run):
    assert "no RSNA data in 2024: expected" in run("rsna", "train", "--dataset_dir", "'2024'")[1]
    assert "no RSNA data in a#1: expected" in run("rsna", "train", "--dataset-dir", '"a#1"')[1]


@pytest.mark.parametrize("words", [["--dataset_dir"], ["--nodataset_dir"], ["--dataset_dir", "--amp"]])
def test_an_option_without_a_value(words, run):
    assert run("rsna", "train", *words)[1] == "error: --dataset_dir has no value; give a path or a name\n"


def test_what_may_be_left_out_may_be_none(run, tmp_path):
    (tmp_path / "x" / "images").mkdir(parents=True)
    (tmp_path / "x" / "data.json").write_text("{}")
    for word, given in (("None", False), ("7.0", True), ("none.json", True)):
        code, said = run("rsna", "train", "--dataset_dir", "x", "--split_file", word)
        assert code == 1
        assert ("split_file is not an option" in said) == given


def test_a_reference_stays_one(run):
    assert (
        "no RSNA data in out/data:"
        in run("rsna", "train", "--output_dir", "out/data", "--dataset_dir", "@output_dir")[1]
    )
    component = "{'_target_': 'monai_sagan.bundle.path_in', 'folder': 'a', 'name': 'b'}"
    assert "no RSNA data in a/b:" in run("rsna", "train", "--dataset_dir", component)[1]


def test_all_paths_of_a_run_at_once(run, tmp_path):
    write_images(tmp_path / "a,b#1")
    words = [f"--{name}={value}" for name, value in SMALL.items()]
    words += ["--dataset_dir", "a,b#1", "--output_dir", "1e3", "--cache_dir", "[x]", "--device", "cpu"]
    code, said = run("folder", "train", *words)
    assert code == 0, said
    assert {path.name for path in tmp_path.iterdir()} == {"a,b#1", "1e3", "[x]"}
    config = json.loads((tmp_path / "1e3" / "config.json").read_text())
    assert (config["dataset_dir"], config["overrides"]) == ("a,b#1", None)
    code, said = run("folder", "evaluate", "--dataset_dir=a,b#1", "--run_dir=1e3", "--output_dir=2.0", "--device=cpu")
    assert code == 0, said
    code, said = run("folder", "inference", "--dataset_dir=a,b#1/test", "--model=1e3/model.pt", "--output_dir=None",
                     "--overlays=none", "--device=cpu")  # fmt: skip
    assert code == 0, said
    rows = [list(csv.DictReader((tmp_path / name / "scores.csv").open())) for name in ("1e3", "2.0", "None")]
    assert [len(found) for found in rows] == [6, 6, 6]


# From elsewhere.


@pytest.mark.parametrize(("value", "message"), [
    (2024, "no RSNA data in 2024: expected"),
    ("a#1", "no RSNA data in a#1: expected"),
    (1000.0, "error: dataset_dir is 1000.0; it is a path or a name: write it in quotes"),
    (["a", "b"], "error: dataset_dir is ['a', 'b']; it is a path or a name: write it in quotes"),
])  # fmt: skip
def test_values_of_a_file(value, message, run, tmp_path):
    (tmp_path / "args.json").write_text(json.dumps({"dataset_dir": value}))
    code, said = run("rsna", "train", "--args_file", "args.json")
    assert code == 1
    assert message in said


def test_a_number_in_a_program(tmp_path, monkeypatch, refused):
    monkeypatch.chdir(tmp_path)
    config = str(Path(bundle_path("rsna")) / "train.json")
    for value, message in (
        (2024, "no RSNA data in 2024"),
        (Path("p"), "no RSNA data in p"),
        (2.5, "dataset_dir is 2.5"),
    ):
        flow = ConfigWorkflow(config, logging_file=False, workflow_type="train", dataset_dir=value, device="cpu")
        with pytest.raises(RuntimeError) as caught:
            flow.initialize()
        assert message in str(caught.getrepr(chain=True))


# The command monai-sagan.


def test_a_column_called_by_a_number(tmp_path, capsys):
    write_images(tmp_path / "set")
    names = [path.relative_to(tmp_path / "set") for path in (tmp_path / "set").rglob("*.png")]
    (tmp_path / "set" / "2024").write_text("1,split\n" + "".join(f"{name},{name.parts[0]}\n" for name in names))
    (tmp_path / "set" / "2024").rename(tmp_path / "set" / "images.csv")
    assert main(["data", str(tmp_path / "set"), "--image_column", "1", "--jobs", "1"]) == 0
    assert "table" in capsys.readouterr().out


def test_a_study_takes_words_as_typed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    bundle = Bundle(Path(bundle_path("rsna")) / "train.json")
    for word in ("2024", "a,b", "x#1"):
        assert bundle.read("dataset_dir", {"dataset_dir": word}) == word
    assert bundle.read("dataset_dir", {"dataset_dir": 2024}) == "2024"
    words = ["table2", "--config_file", str(bundle.path), "--output_dir", "out", "--dataset_dir", "1e3"]
    assert main(["study", *words, "--device", "cpu"]) == 2
    assert f"no RSNA data in {tmp_path / '1e3'}" in capsys.readouterr().err


@pytest.mark.parametrize(("option", "text"), [
    ("dataset_dir", True), ("split_file", True), ("datalist#image_column", True), ("model", True), ("table", True),
    ("experiment_name", True), ("preset", False), ("unlabeled_size", False), ("grid", False), ("device", False),
])  # fmt: skip
def test_which_options_are_texts(option, text):
    assert is_text_option(option) == text


def test_words():
    assert text_as_typed("dataset_dir", "None") == "None"
    assert text_as_typed("split_file", "None") is None
    assert text_as_typed("split_file", "none.json") == "none.json"
