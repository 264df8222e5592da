"""The commands as a user types them, and what they say when something is wrong: one line, exit code 1, no trace."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from command_line import carry_out
from PIL import Image

REPOSITORY = Path(__file__).parents[2]
SIZES = {"channels": 4, "num_res_blocks": 1, "batch_size": 2, "max_iterations": 2, "iterations_per_epoch": 2}
SMALL = [*(f"--{name}={value}" for name, value in SIZES.items()), "--device=cpu"]


Result = subprocess.CompletedProcess[str]


@pytest.fixture
def run_here(capsys, monkeypatch):
    """The command in this process, which has imported everything already."""

    def run(*words: str, cwd: Path = REPOSITORY) -> Result:
        monkeypatch.chdir(cwd)
        code = carry_out(["python", "-m", "monai.bundle", "run", *words])
        return Result(words, code, *capsys.readouterr())

    return run


def med_ad(folder: Path, count: int = 10) -> Path:
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    names = [f"{i:02d}.png" for i in range(5 * count)]
    for name in names:
        Image.fromarray(rng.integers(0, 256, (64, 64), dtype=np.uint8)).save(folder / "images" / name)
    parts = [names[i * count : (i + 1) * count] for i in range(5)]
    lists = {"train": {"0": parts[0], "unlabeled": {"0": parts[1], "1": parts[2]}}}
    lists["test"] = {"0": parts[3], "1": parts[4]}
    (folder / "data.json").write_text(json.dumps(lists))
    return folder


def broken_image(folder: Path) -> None:
    (folder / "images" / "03.png").write_text("no picture")


def other_size(folder: Path) -> None:
    Image.fromarray(np.zeros((80, 64), np.uint8)).save(folder / "images" / "03.png")


def other_mode(folder: Path) -> None:
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(folder / "images" / "03.png")


def nan_pixels(folder: Path) -> None:
    pixels = np.zeros((64, 64), np.float32)
    pixels[3, 4] = np.nan
    Image.fromarray(pixels).save(folder / "images" / "03.tif")
    (folder / "images" / "03.png").unlink()
    text = (folder / "data.json").read_text()
    (folder / "data.json").write_text(text.replace("03.png", "03.tif"))


def broken_json(folder: Path) -> None:
    (folder / "data.json").write_text('{"train": ')


def empty_split(folder: Path) -> None:
    lists = json.loads((folder / "data.json").read_text())
    lists["train"]["unlabeled"] = []
    (folder / "data.json").write_text(json.dumps(lists))


def missing_file(folder: Path) -> None:
    (folder / "images" / "03.png").unlink()


BREAKS = [
    (broken_image, "03.png is not a readable image"),
    (other_size, "03.png is 64 x 80 L"),
    (other_mode, "03.png is 64 x 64 RGB"),
    (nan_pixels, "03.tif is not a readable image (1 NaN"),
    (broken_json, "data.json is not readable JSON"),
    (empty_split, "the dataset has no unlabeled images"),
    (missing_file, "03.png is not there; restore it"),
]


def assert_one_line(result: Result, message: str) -> None:
    assert result.returncode == 1
    lines = [line for line in result.stderr.splitlines() if "Engine run is terminating" not in line]
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    assert message in lines[0]
    assert "Traceback" not in result.stdout + result.stderr


@pytest.mark.parametrize(("spoil", "message"), BREAKS, ids=lambda value: getattr(value, "__name__", ""))
def test_broken_data_is_named_in_one_line(spoil, message, tmp_path, run_here):
    folder = med_ad(tmp_path / "data")
    spoil(folder)
    output = tmp_path / "run"
    config = "bundles/rsna/train.json"
    words = ["--config_file", config, "--dataset_dir", str(folder), "--output_dir", str(output)]
    result = run_here(*words, *SMALL, "--anomaly_ratio=0.5")
    assert_one_line(result, message)
    assert {path.name for path in output.glob("*")} <= {"cache"}


def test_without_data_the_rsna_bundle_says_what_it_expects(tmp_path, run_here):
    result = run_here("--config_file", str(REPOSITORY / "bundles/rsna/train.json"), cwd=tmp_path)
    assert_one_line(result, "no RSNA data in data/rsna: expected either images/ with data.json")
    assert "stage_2_train_images/" in result.stderr
    assert "bundles/phantom/train.json" in result.stderr


def test_an_unknown_key_is_named_with_the_nearest(tmp_path, run_here):
    result = run_here("--config_file", "bundles/rsna/train.json", "--max_iteration", "2", "--output_dir", str(tmp_path))
    assert_one_line(result, "--max_iteration is not a key")
    assert "--max_iterations" in result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", [["--max_iteration", "2"], ["--dataset_dir", "nowhere"], ["--channels=0"]])
def test_train_is_a_face_of_monais_command(words, tmp_path, run_here, capsys):
    words = [*words, "--output_dir", str(tmp_path / "run")]
    expected = run_here("--config_file", str(REPOSITORY / "bundles/folder/train.json"), *words)
    code = carry_out(["monai-sagan", "train", "folder", *words])
    assert (code, capsys.readouterr().err) == (expected.returncode, expected.stderr)
    assert code == 1


def test_train_trains(tmp_path, capsys):
    folder = med_ad(tmp_path / "data")
    words = ["--dataset_dir", str(folder), "--output_dir", str(tmp_path / "run"), "--anomaly_ratio", "0.5", *SMALL]
    assert carry_out(["monai-sagan", "train", "rsna", *words]) == 0, capsys.readouterr().err
    assert (tmp_path / "run" / "metrics.json").is_file()


def test_the_command_works_from_any_folder(tmp_path, run_here):
    folder = med_ad(tmp_path / "data")
    lists = json.loads((folder / "data.json").read_text())
    known = lists["train"]["unlabeled"]
    lists["train"]["unlabeled"] = [*known["0"], *known["1"]]  # nobody knows their labels now
    (folder / "data.json").write_text(json.dumps(lists))
    config = str(REPOSITORY / "bundles/rsna/train.json")
    words = ["--config_file", config, "--dataset_dir", str(folder), *SMALL, "--anomaly_ratio", "none"]
    result = run_here(*words, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"data", "runs"}
    assert "everything that this run writes goes below" in result.stdout
    assert (tmp_path / "runs/rsna/metrics.json").is_file()
