"""Bundles: found and copied whole; a command that runs one refuses unknown keys and fails in one line."""

from __future__ import annotations

import io
import json
import logging
import shutil
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest
from monai.bundle import ConfigParser
from torch.utils.data import DataLoader, Dataset

from monai_sagan.bundle import (
    bundle_names,
    bundle_path,
    check_command_line,
    copy_bundle,
    folders,
    show_errors_in_one_line,
)
from monai_sagan.bundle.folders import nearest
from monai_sagan.errors import SaganError

ROOT = Path(__file__).resolve().parents[1]
FILES = ("train.json", "metadata.json", "logging.conf", "README.md", "LICENSE")
CONFIG = {
    "max_iterations": 3,
    "amp": True,
    "network_def": {"_target_": "builtins.dict", "channels": [4, 8]},
    "train": {"trainer": {"_target_": "builtins.dict", "n_critic": 2}, "handlers": [{"interval": 1}]},
}


@pytest.fixture(autouse=True)
def hook(monkeypatch):
    """Each test may replace the process's hook for errors, here one that prints ``previous``."""
    monkeypatch.delenv("MONAI_SAGAN_TRACEBACK", raising=False)
    monkeypatch.setattr(sys, "excepthook", lambda *error: print("previous", file=sys.stderr))


def make_bundles(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).mkdir(parents=True)
        for file in FILES:
            (folder / name / file).write_text("{}")


@pytest.fixture(params=["checkout", "wheel"])
def bundles(request, tmp_path, monkeypatch):
    """The folder of the bundles ``phantom`` and ``rsna``, beside the package or inside it."""
    package = tmp_path / "root" / "monai_sagan"
    folder = (package if request.param == "wheel" else package.parent) / "bundles"
    make_bundles(folder, "rsna", "phantom")
    (folder / "__pycache__").mkdir()
    monkeypatch.setattr(folders, "__file__", str(package / "bundle" / "folders.py"))
    return folder


# Where the bundles are.


def test_names_and_paths(bundles):
    assert bundle_names() == ["phantom", "rsna"]
    assert bundle_path("rsna") == str(bundles / "rsna")


@pytest.mark.parametrize(
    ("name", "hint"),
    [("rnsa", "the nearest is 'rsna' of"), ("Phantoms", "the nearest is 'phantom' of"), ("chexpert", "there are"),
     ("../bundles/rsna", "there are"), ("", "there are")],
)  # fmt: skip
def test_unknown_bundle_names_the_others(bundles, name, hint):
    with pytest.raises(SaganError, match=rf"no bundle {name!r}; {hint}: phantom, rsna$"):
        bundle_path(name)


@pytest.mark.parametrize(
    ("word", "closest"),
    [("budgt", "budget"), ("apm", "amp"), ("Batch_Size", "batch_size"), ("bacth_size", "batch_size"),
     ("iterations", "max_iterations"), ("iteration_per_epoch", "iterations_per_epoch"), ("gird", "grid"),
     ("lambda_i", "lambda_id"), ("critic_beta", "critic_betas"), ("output_di", "output_dir"),
     ("epochs", ""), ("x", ""), ("", "")],
)  # fmt: skip
def test_the_closest_spelling(word, closest):
    keys = json.loads((ROOT / "bundles" / "rsna" / "train.json").read_text())
    assert nearest(word, [*keys, "budget"]) == closest


def test_what_is_far_is_not_suggested():
    keys = json.loads((ROOT / "bundles" / "rsna" / "train.json").read_text())
    assert "audit" in keys
    assert nearest("budgt", keys) == ""


def test_no_bundles_at_all(tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "__file__", str(tmp_path / "monai_sagan" / "bundle" / "folders.py"))
    with pytest.raises(SaganError, match="install it again"):
        bundle_names()


def test_copy_makes_real_files_and_the_folders_above(bundles, tmp_path):
    target = copy_bundle("rsna", tmp_path / "a" / "b")
    assert target == tmp_path / "a" / "b"
    assert sorted(path.name for path in target.iterdir()) == sorted(FILES)
    assert not any(path.is_symlink() for path in target.iterdir())


def test_copy_into_the_empty_folder_one_stands_in(bundles, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    copy_bundle("rsna", ".")
    assert Path("train.json").is_file()


def test_copy_of_a_read_only_file_can_be_changed(bundles, tmp_path):
    (bundles / "rsna" / "train.json").chmod(0o444)
    assert (copy_bundle("rsna", tmp_path / "mine") / "train.json").stat().st_mode & 0o200


def test_copy_refuses_what_is_there(bundles, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("precious")
    with pytest.raises(SaganError, match="mine is not empty"):
        copy_bundle("rsna", tmp_path / "mine")
    with pytest.raises(SaganError, match=r"cannot write to .*notes.txt"):
        copy_bundle("rsna", tmp_path / "mine" / "notes.txt")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]


def test_copy_that_fails_leaves_nothing(bundles, tmp_path, monkeypatch):
    def fail(source, target):
        raise OSError(28, "No space left on device")

    (tmp_path / "full").mkdir()
    monkeypatch.setattr(shutil, "copyfile", fail)
    with pytest.raises(SaganError, match="No space left on device"):
        copy_bundle("rsna", tmp_path / "full" / "mine")
    assert not any((tmp_path / "full").iterdir())


def test_wheel_has_the_bundles_inside(tmp_path):
    setuptools = pytest.importorskip("setuptools", "77", reason="building a wheel takes setuptools >= 77")
    assert setuptools
    source = tmp_path / "source"  # a copy: building leaves folders behind
    shutil.copytree(ROOT / "monai_sagan", source / "monai_sagan", ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("setup.py", "pyproject.toml", "LICENSE"):
        shutil.copy(ROOT / file, source)
    make_bundles(source / "bundles", "toy")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--wheel-dir", str(tmp_path), str(source)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("monai_sagan-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {f"monai_sagan/bundles/toy/{file}" for file in FILES} <= set(names)
    assert {"monai_sagan/py.typed", "monai_sagan/cli.py", "monai_sagan/networks/generator.py"} <= set(names)


# Which overrides of a command are refused.


@pytest.fixture
def config_file(tmp_path):
    file = tmp_path / "train.json"
    file.write_text(json.dumps(CONFIG))
    return str(file)


@pytest.mark.parametrize(
    "words",
    [
        "",
        "run --max_iterations 4 --amp",
        "run --max-iterations=4 --noamp --run_id run --logging_file False",
        "run run initialize --train#trainer#n_critic -1",
        "run --train::trainer#new_argument 1 --network_def#channels#1 16 --train#handlers#0#interval 2",
        "run --workflow_type infer --_meta_#version 2 --+network_def {}",
        "run --tracking mlflow --experiment_name mine",
        "run -- --verbose",
        "run - --anything else",
        "run_workflow ConfigWorkflow --max_iterations 4",
        "ckpt_export --unknown 4",
    ],
)
def test_valid_command_lines(words, config_file):
    verb, *rest = words.split() or [""]
    check_command_line([verb, "--config_file", config_file, *rest])


@pytest.mark.parametrize(
    ("words", "wrong", "nearest"),
    [
        ("--max_iterationz 1", "max_iterationz", "max_iterations"),
        ("--max-iteration=1", "max_iteration", "max_iterations"),
        ("--ampp", "ampp", "amp"),
        ("--noampp", "ampp", "amp"),
        ("--meta_fil x", "meta_fil", "meta_file"),
        ("--train#traner 1", "train#traner", "train#trainer"),
        ("--train::handlers::0::intervall 1", "train::handlers::0::intervall", "train#handlers#0#interval"),
        ("--tain#trainer#n_critic 1", "tain#trainer#n_critic", "train"),
        ("--train#trainer#n_citric#deep 1", "train#trainer#n_citric#deep", "train#trainer#n_critic"),
    ],
)
def test_wrong_key_and_the_nearest(words, wrong, nearest, config_file):
    with pytest.raises(SaganError, match=rf"^--{wrong} is not a key of \S+train.json; the nearest is --{nearest}$"):
        check_command_line(["run", "--config_file", config_file, *words.split()])


@pytest.mark.parametrize(
    ("option", "hint"),
    [
        ("-x", "no key is similar"),
        ("--budgt", "no key is similar"),
        ("--max_iterations#x", "that value has no parts"),
        ("--train#handlers#3", "train#handlers has 0"),
        ("--train#trainer#new#deep", "train#trainer has _target_, n_critic"),
    ],
)
def test_where_nothing_is_near(option, hint, config_file):
    with pytest.raises(SaganError, match=rf"^--{option.lstrip('-')} is not a key of \S+; {hint}$"):
        check_command_line(["run", "--config_file", config_file, option, "1"])


def test_options_beside_the_config_are_suggested_and_not_taken(config_file):
    with pytest.raises(SaganError, match=r"; the nearest is --budget$"):
        check_command_line(["run", "--config_file", config_file, "--budgt", "small"], ["budget"])
    with pytest.raises(SaganError, match=r"^--budget is not a key"):
        check_command_line(["run", "--config_file", config_file, "--budget", "small"], ["budget"])


def test_several_config_files_are_merged(config_file, tmp_path):
    overlay = tmp_path / "more.json"
    overlay.write_text(json.dumps({"+train": {"val_interval": 5}, "network_def#width": 3, "extra": 1}))
    words = ["run", "--config_file", str([config_file, str(overlay)]), "--extra", "2", "--train#val_interval", "3"]
    check_command_line([*words, "--network_def#width", "4"])
    with pytest.raises(SaganError, match=r"^--extras is not a key of \S+train.json and \S+more.json; .* --extra$"):
        check_command_line([*words, "--extras", "2"])


def test_args_file_counts_too(config_file, tmp_path):
    args_file = tmp_path / "args.json"
    args_file.write_text(json.dumps({"config_file": config_file, "max_iterations": 1, "train#trainer#n_critic": 1}))
    check_command_line(["run", "--args_file", str(args_file)])
    args_file.write_text(json.dumps({"config_file": [config_file], "max_iterationz": 1}))
    with pytest.raises(SaganError, match=r"nearest is --max_iterations$"):
        check_command_line(["run", "--args_file", str(args_file), "--amp"])


def test_other_programs_are_left_alone(monkeypatch):
    before = sys.excepthook
    monkeypatch.setattr(
        sys, "argv", ["/usr/bin/pytest", "run", "--config_file", "missing.json", "--max_iterationz", "1"]
    )
    check_command_line()
    assert sys.excepthook is before


def test_the_process_is_monai_bundle(config_file, monkeypatch):
    program = str(Path("site-packages", "monai", "bundle", "__main__.py"))
    monkeypatch.setattr(sys, "argv", [program, "run", "--config_file", config_file, "--max_iterationz", "1"])
    with pytest.raises(SaganError, match="max_iterationz"):
        check_command_line()


def test_the_real_command_ends_with_one_line(tmp_path):
    make_bundles(tmp_path, "toy")
    imports, check = "$from monai_sagan.bundle import check_command_line", "$check_command_line()"
    config = {"imports": [imports], "epochs": 1, "initialize": [check], "run": ["$print('ran')"]}
    (tmp_path / "toy" / "train.json").write_text(json.dumps(config))
    command = [sys.executable, "-m", "monai.bundle", "run", "--logging_file", "False"]
    command += ["--config_file", str(tmp_path / "toy" / "train.json"), "--epochz", "2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "ran" not in done.stdout
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: --epochz is not a key of ")


# What an error looks like.


def shown(error: BaseException, capsys: pytest.CaptureFixture[str]) -> str:
    show_errors_in_one_line()
    sys.excepthook(type(error), error, error.__traceback__)
    return capsys.readouterr().err.removesuffix("\n")


def failure(config: dict[str, object], key: str) -> BaseException:
    """The error that MONAI raises for one key of a config."""
    with pytest.raises(RuntimeError) as info:
        ConfigParser(config).get_parsed_content(key)
    return info.value


def test_sagan_error_anywhere_in_the_chain(bundles, capsys):
    imports = "$from monai_sagan.bundle import bundle_path"
    error = failure({"imports": [imports], "path": "$bundle_path('none such')"}, "path")
    assert shown(error, capsys).startswith("error: no bundle 'none such'; there are: phantom, rsna")


def test_sagan_error_as_context(capsys):
    error = KeyError("y")
    error.__context__ = SaganError("no folder x")
    assert shown(error, capsys) == "error: no folder x"
    error.__suppress_context__ = True
    assert shown(error, capsys) == "previous"


class Broken(Dataset[int]):
    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        try:
            raise SaganError("cannot read a.dcm; export it again")
        except SaganError as error:
            raise RuntimeError("applying a transform") from error


def test_sagan_error_in_a_worker(capsys):
    with pytest.raises(RuntimeError) as info:
        list(DataLoader(Broken(), num_workers=1))
    assert shown(info.value, capsys) == "error: cannot read a.dcm; export it again"


def test_component_with_a_wrong_argument(capsys):
    config = {"net": {"block": {"_target_": "torch.nn.Linear", "in_feature": 1, "out_features": 1}}}
    line = shown(failure(config, "net#block"), capsys)
    assert line.startswith("error: net#block (torch.nn.Linear): TypeError: ")
    assert "in_feature" in line
    assert line.endswith("(MONAI_SAGAN_TRACEBACK=1 shows the complete trace)")
    assert "\n" not in line


def test_expression_is_shown_as_written(capsys):
    config = {"a": {"b": 0}, "run": ["$@a#b + 1 / @a#b"]}
    line = shown(failure(config, "run#0"), capsys)
    assert line.startswith("error: run#0 ($@a#b + 1 / @a#b): ZeroDivisionError: division by zero (")


def test_missing_package_is_named_without_its_trace(capsys):
    missing = "$__import__('monai').utils.optional_import('no_such_package')[0].Logger()"
    line = shown(failure({"logger": missing}, "logger"), capsys)
    assert "no_such_package" in line
    assert "Traceback" not in line


def test_a_full_disk(capsys):
    error = OSError(28, "No space left on device", "model.pt")
    line = "error: cannot write model.pt (No space left on device); make room, then give the same command again"
    assert shown(error, capsys) == line
    config = {"run": ["$(_ for _ in ()).throw(OSError(28, 'No space left on device', 'model.pt'))"]}
    assert shown(failure(config, "run#0"), capsys) == line
    assert shown(OSError(27, "File too large"), capsys).startswith("error: cannot write (File too large); make room")
    assert shown(FileNotFoundError(2, "No such file", "x"), capsys) == "previous"


def test_a_full_disk_that_a_thread_meets_is_shown_once(capsys, monkeypatch):
    """The thread that waits for it raises the same error."""
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    show_errors_in_one_line()
    for error in (OSError(28, "No space left on device"), ValueError("a bug")):

        def fail(error=error):
            raise error

        thread = threading.Thread(target=fail)
        thread.start()
        thread.join()
    shown_text = capsys.readouterr().err
    assert "a bug" in shown_text
    assert "No space left" not in shown_text


def test_interruption(capsys):
    assert shown(KeyboardInterrupt(), capsys) == "stopped; the same command continues the run"


def test_everything_else_goes_to_the_previous_hook(capsys):
    assert shown(ValueError("a bug"), capsys) == "previous"


def test_installed_once(capsys):
    show_errors_in_one_line()
    hook = sys.excepthook
    show_errors_in_one_line()
    assert sys.excepthook is hook


def test_ignite_does_not_say_it_again():
    text, root = io.StringIO(), logging.getLogger()
    console = logging.StreamHandler(text)
    root.addHandler(console)
    try:
        for _ in range(2):
            show_errors_in_one_line()
        for name, line in {
            "ignite.engine.engine.SaganTrainer": "Engine run is terminating due to exception: x.pt holds code",
            "ignite.engine": "another line",
            "mine": "Engine run is terminating due to me",
        }.items():
            logging.getLogger(name).error(line)
    finally:
        root.removeHandler(console)
    assert text.getvalue().splitlines() == ["another line", "Engine run is terminating due to me"]
    assert len(console.filters) == 1


def test_traceback_on_demand(monkeypatch, capsys):
    monkeypatch.setenv("MONAI_SAGAN_TRACEBACK", "1")
    assert shown(SaganError("no folder x"), capsys) == "previous"
