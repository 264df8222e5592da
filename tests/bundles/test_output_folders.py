"""What a refused command, a second process or a full disk does to the folder of a finished run: nothing."""

from __future__ import annotations

import csv
import json
import logging
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from monai.bundle import ConfigWorkflow

from monai_sagan.bundle import bundle_path
from monai_sagan.data.datasets.phantom import phantom_image
from monai_sagan.data.prepare import prepare
from monai_sagan.errors import SaganError
from monai_sagan.files import load_tensors
from monai_sagan.predict import predict
from monai_sagan.runs.start import end_run
from monai_sagan.study import run_study

SMALL = {
    "channels": 4,
    "num_res_blocks": 1,
    "batch_size": 4,
    "max_iterations": 2,
    "iterations_per_epoch": 2,
    "device": "cpu",
    "engine": "eager",
}


@pytest.fixture(autouse=True)
def _as_processes_that_end():
    """Each command is a process of its own, and a failed one does not hold its folder any longer than it lives."""
    handlers = logging.getLogger().handlers[:]
    yield
    end_run()
    assert logging.getLogger().handlers == handlers


def run(config: str, **values: object) -> None:
    """A command; the user's own error comes out of MONAI's."""
    path = str(Path(bundle_path("folder")) / f"{config}.json")
    flow = ConfigWorkflow(path, logging_file=False, workflow_type="train", **{"device": "cpu"} | values)
    try:
        flow.initialize()
        flow.run()
        flow.finalize()
    except RuntimeError as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, SaganError):
            cause = cause.__cause__
        raise (cause or error) from None
    finally:
        end_run()


def train(data: Path, output_dir: Path, **values: object) -> Path:
    run("train", **SMALL | {"dataset_dir": str(data), "output_dir": str(output_dir)} | values)
    return output_dir


@pytest.fixture(scope="module")
def dataset_dir(tmp_path_factory):
    """Images in a table that says no splits: they are drawn by ``split_seed``."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("data")
    rows = []
    for i in range(60):
        Image.fromarray(phantom_image(7, i, abnormal=i >= 44)[0]).save(folder / f"{i}.png")
        rows.append([f"{i}.png", int(i >= 44)])
    with (folder / "images.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["image", "label"], *rows])
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory, dataset_dir):
    return train(dataset_dir, tmp_path_factory.mktemp("runs") / "run", valid_fraction=0.2)


@pytest.fixture
def finished_run(tmp_path, finished):
    """A finished run, which must be the same in the end, down to the times of its files."""
    folder = shutil.copytree(finished, tmp_path / "run")
    before = content(folder)
    yield folder
    assert content(folder) == before


def content(folder: Path) -> dict[str, tuple[bytes, int]]:
    found = {path: path.stat() for path in sorted(folder.rglob("*")) if path.is_file()}
    return {str(path): (path.read_bytes(), stat.st_mtime_ns) for path, stat in found.items()}


REFUSED = [
    {"seed": 1},
    {"split_seed": 1},
    {"valid_fraction": 0.3},
    {"channels": 8},
    {"image_size": 96},
    {"learning_rate": 0.001},
    {"batch_size": 64},
    {"oracle_test": "true"},
    {"device": "cuda:7"},
    {"max_iterations": 3},
    {"anomaly_ratio": 1.5},
    {"max_unreadable": 7},
    {"dataset_dir": "/none"},
]


@pytest.mark.parametrize("values", REFUSED, ids=str)
def test_a_refused_training_changes_nothing(dataset_dir, finished_run, values):
    with pytest.raises(SaganError):
        train(dataset_dir, finished_run, **{"valid_fraction": 0.2} | values)


def test_a_refused_training_leaves_no_folder(dataset_dir, tmp_path):
    with pytest.raises(SaganError):
        train(dataset_dir, tmp_path / "new" / "run", batch_size=64, cache_dir=str(tmp_path / "cache"))
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


def test_unreadable_images_and_strict_leaks_change_nothing(dataset_dir, finished_run, tmp_path, refused):
    other, values = shutil.copytree(dataset_dir, tmp_path / "data"), {"cache_dir": str(tmp_path / "cache")}
    (other / "0.png").write_bytes(b"broken")
    with refused("1 of 60 images are unreadable", other / "0.png"):
        train(other, finished_run, **values)
    for i in range(2, 40):
        shutil.copyfile(other / "1.png", other / f"{i}.png")
    with refused("strict"):
        train(other, finished_run, **values, strict="true", max_unreadable=0.5)


def test_the_leak_guard_holds_after_refused_commands(dataset_dir, finished_run, tmp_path, refused):
    """And whatever ``splits.json`` and ``config.json`` say: the model's file knows better."""
    values = {"dataset_dir": str(dataset_dir), "run_dir": str(finished_run), "cache_dir": str(tmp_path / "cache")}
    with refused("was made with splits"):
        train(dataset_dir, finished_run, valid_fraction=0.2, split_seed=1)
    other = shutil.copytree(finished_run, tmp_path / "other")
    train(dataset_dir, tmp_path / "leaking", valid_fraction=0.2, split_seed=1, seed=5)
    for name in ("splits.json", "config.json"):
        shutil.copyfile(tmp_path / "leaking" / name, other / name)
    for folder in (finished_run, other):
        with refused("test images were", "by", folder, "split_seed"):
            run("evaluate", **values | {"run_dir": str(folder)}, split_seed=1, output_dir=str(tmp_path / "out"))
        assert not (tmp_path / "out").exists()
        run("evaluate", **values | {"run_dir": str(folder)}, output_dir=str(tmp_path / "out"))
        assert json.loads((tmp_path / "out" / "config.json").read_text())["seed"] == 0
        metrics, wanted = (json.loads((at / "metrics.json").read_text()) for at in (tmp_path / "out", finished_run))
        assert metrics["aucp"] == wanted["aucp"]
        assert ("baselines" in metrics) == (folder == finished_run)
        shutil.rmtree(tmp_path / "out")


# Another kind's folder.


@pytest.fixture(scope="module")
def others(tmp_path_factory, dataset_dir, finished):
    """A folder of each kind of output."""
    from monai_sagan.artifact.export import export_artifact
    from monai_sagan.data.datasets.image_table import read_table

    place = tmp_path_factory.mktemp("others")
    run("evaluate", dataset_dir=str(dataset_dir), run_dir=str(finished), output_dir=str(place / "evaluation"))
    inputs = {"dataset_dir": str(dataset_dir), "model": str(finished / "model.pt")}
    run("inference", **inputs, output_dir=str(place / "inference"))
    artifact = export_artifact(finished, place / "artifact")
    predict(artifact, dataset_dir, place / "prediction", overlays="none", jobs=1)
    prepare(read_table(dataset_dir / "images.csv").datalist, place / "prepared", image_size=32, jobs=1)
    return {path.name: path for path in place.iterdir()} | {"run": finished}


VERBS = {
    "run": lambda data, run_dir, artifact, out: train(data, out),
    "evaluation": lambda data, run_dir, artifact, out: run(
        "evaluate", dataset_dir=str(data), run_dir=str(run_dir), output_dir=str(out)
    ),
    "inference": lambda data, run_dir, artifact, out: run(
        "inference", dataset_dir=str(data), model=str(run_dir / "model.pt"), output_dir=str(out)
    ),
    "prediction": lambda data, run_dir, artifact, out: predict(artifact, data, out, jobs=1),
    "prepared": lambda data, run_dir, artifact, out: prepare({}, out, image_size=32),
    "study": lambda data, run_dir, artifact, out: run_study(
        {"a": {}}, Path(bundle_path("folder")) / "train.json", out, SMALL | {"dataset_dir": str(data)}, [0], 1, "small"
    ),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("kind", ["run", "evaluation", "inference", "prediction", "prepared", "artifact"])
def test_a_verb_refuses_the_folder_of_another_kind(verb, kind, dataset_dir, finished, others, refused):
    if verb == kind:
        return
    before = content(others[kind])
    with refused("name a"):
        VERBS[verb](dataset_dir, finished, others["artifact"], others[kind])
    assert content(others[kind]) == before
    assert not (others[kind] / ".lock").exists()


def test_results_go_below_the_run_or_beside_the_model(dataset_dir, finished, tmp_path, monkeypatch, refused):
    monkeypatch.chdir(tmp_path)
    folder = shutil.copytree(finished, tmp_path / "run")
    run("evaluate", dataset_dir=str(dataset_dir), run_dir="run")
    run("inference", dataset_dir=str(dataset_dir), model="run/model.pt")
    assert {"evaluation", "inference"} < {path.name for path in folder.iterdir()}
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    with refused("no trained model in runs/folder", "--run_dir"):
        run("evaluate", dataset_dir=str(dataset_dir))
    with refused("no file runs/folder/model.pt", "--model"):
        run("inference", dataset_dir=str(dataset_dir))
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


# Two at once.


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such locks")
def test_a_folder_that_another_process_works_in(dataset_dir, finished_run, finished, tmp_path, refused):
    script = (
        "import sys\nfrom contextlib import ExitStack\nfrom monai_sagan.output_folder import hold_folder\n"
        "with ExitStack() as stack:\n"
        "    for kind, folder in zip(sys.argv[1::2], sys.argv[2::2]):\n"
        "        stack.enter_context(hold_folder(folder, kind))\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    kinds = ("training run", "evaluation", "prediction")
    held = dict(zip(kinds, (finished_run, tmp_path / "evaluation", tmp_path / "found"), strict=True))
    words = [str(word) for pair in held.items() for word in pair]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, "-c", script, *words], text=True, **pipes)
    try:
        assert process.stdout.readline() == "held\n"
        for verb, folder in zip(("run", "evaluation", "inference"), held.values(), strict=True):
            with refused(folder, f"in use by process {process.pid}"):
                VERBS[verb](dataset_dir, finished, None, folder)
    finally:
        process.communicate()
    assert not (tmp_path / "evaluation").exists()


def test_a_notebook_tries_again_after_a_failure(dataset_dir, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    path = str(Path(bundle_path("folder")) / "train.json")
    values = SMALL | {"dataset_dir": str(dataset_dir), "output_dir": str(tmp_path / "run")}
    ConfigWorkflow(path, logging_file=False, workflow_type="train", **values).initialize()  # and no more
    train(dataset_dir, tmp_path / "run")
    assert (tmp_path / "run" / "log.txt").read_text().count("everything that this run writes") == 2
    assert not (tmp_path / "run" / ".lock").exists()


def test_only_the_runs_own_models_are_evaluated(dataset_dir, finished, tmp_path, refused):
    """A model that another run put there is named, however it came there."""
    folder = shutil.copytree(finished, tmp_path / "run")
    other = train(dataset_dir, tmp_path / "other", valid_fraction=0.2, seed=1)
    shutil.copyfile(other / "model.pt", folder / "model.pt")
    before = (folder / "metrics.json").read_bytes()
    with refused(folder / "model.pt", "was made with seed 1, this run has 0"):
        train(dataset_dir, folder, valid_fraction=0.2)
    with refused("was made with seed", "this run has"):
        run("evaluate", dataset_dir=str(dataset_dir), run_dir=str(folder))
    assert (folder / "metrics.json").read_bytes() == before


# A full disk.


def test_a_training_goes_on_after_a_full_disk(dataset_dir, finished, tmp_path, small_files, refused):
    """The models fit, the checkpoint does not; then there is room again."""
    values = {"valid_fraction": 0.2, "max_iterations": 4}
    folder, whole = shutil.copytree(finished, tmp_path / "run"), train(dataset_dir, tmp_path / "whole", **values)
    before = (folder / "checkpoint.pt").read_bytes()
    size = (folder / "model.pt").stat().st_size
    with small_files(2 * size), refused(f"cannot write {folder / 'checkpoint.pt'} (File too large)", "make room"):
        train(dataset_dir, folder, **values)
    assert (folder / "checkpoint.pt").read_bytes() == before
    train(dataset_dir, folder, **values)
    for name in ("model_last.pt", "checkpoint.pt"):
        assert load_tensors(folder / name)["iteration"] == 4
    for name in ("history.csv", "scores.csv"):
        assert (folder / name).read_text() == (whole / name).read_text()
