"""An output folder holds one kind of output, and one process writes to it."""

from __future__ import annotations

import ast
import itertools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from monai_sagan import run_files
from monai_sagan.output_folder import check_kind, folder_kind, hold_folder

OUTPUTS = {  # a kind, and what folders of it hold: those of older versions, too
    "training run": ["checkpoint.pt", "model.pt", "model_last.pt", {"preset": "paper", "seed": 0}],
    "evaluation": ["metrics.json", {"run_dir": "runs/rsna", "preset": "paper"}, {"kind": "evaluation"}],
    "inference run": ["scores.csv", {"kind": "inference run"}],  # of older versions
    "prediction": ["predict.json", {"model": "runs/rsna/model.pt"}, {"kind": "prediction"}],
    "prepared dataset": ["prepared.json"],
    "exported model": ["artifact.json"],
    "bundle": ["train.json", "configs/train.json"],
    "study": ["table.md", {"kind": "study"}],
}
EXAMPLES = [(kind, sign) for kind, signs in OUTPUTS.items() for sign in signs]


def fill(folder: Path, sign: object) -> Path:
    path = folder / (sign if isinstance(sign, str) else "config.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("" if isinstance(sign, str) else json.dumps(sign))
    return folder


@pytest.mark.parametrize(("kind", "sign"), EXAMPLES, ids=str)
def test_a_folder_says_what_it_holds(kind, sign, tmp_path, refused):
    assert folder_kind(fill(tmp_path, sign)) == kind
    for other in OUTPUTS:
        if other == kind:
            check_kind(tmp_path, other)
            continue
        with refused(tmp_path, f"holds a{'n' * (kind[0] in 'aei')} {kind}", "name another folder"):
            check_kind(tmp_path, other)
    with refused(tmp_path), hold_folder(tmp_path, next(other for other in OUTPUTS if other != kind)):
        pass
    assert len(list(tmp_path.iterdir())) == 1  # no lock stays


@pytest.mark.parametrize("sign", ["notes.txt", "config.json", {"other": 1}, [1]])
def test_other_folders_are_of_no_kind(sign, tmp_path):
    assert folder_kind(tmp_path / "none") is None
    assert folder_kind(fill(tmp_path, sign)) is None


def test_a_run_whose_config_was_overwritten_is_a_run(tmp_path, refused):
    fill(fill(tmp_path, "checkpoint.pt"), {"model": "model.pt"})
    with refused(tmp_path, "holds a training run", f"for example {tmp_path / 'inference'}"):
        check_kind(tmp_path, "prediction")


def hold_elsewhere(folder: Path) -> subprocess.Popen[str]:
    """Another process that holds the folder until it is ended."""
    script = (
        "import sys\nfrom monai_sagan.output_folder import hold_folder\n"
        "with hold_folder(sys.argv[1], 'study'):\n    print('held', flush=True)\n    sys.stdin.read()\n"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, "-c", script, str(folder)], text=True, **pipes)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such locks")
@pytest.mark.parametrize("ended_by", ["itself", "a signal"])
def test_another_process_is_named_until_it_ends(ended_by, tmp_path, refused):
    folder = tmp_path / "new"
    process = hold_elsewhere(folder)
    with refused(folder, f"in use by process {process.pid}", "study, since 20"), hold_folder(folder, "study"):
        pass
    if ended_by == "itself":
        process.communicate()
        assert not folder.exists()
    else:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    with hold_folder(folder, "study"):
        assert folder.is_dir()
    assert list(folder.parent.rglob(".lock")) == []


def test_what_was_made_and_stayed_empty_is_removed(tmp_path):
    with hold_folder(tmp_path / "a" / "b", "study"):
        pass
    assert list(tmp_path.iterdir()) == []
    with hold_folder(tmp_path / "a" / "b", "study"):
        (tmp_path / "a" / "b" / "file").touch()
    with hold_folder(tmp_path / "a" / "b", "study"):
        pass
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["file"]


def test_one_hold_follows_the_other(tmp_path, refused):
    for first, second in itertools.pairwise(["study"] * 3):
        with hold_folder(tmp_path, first), refused(f"process {os.getpid()}"), hold_folder(tmp_path, second):
            pass


def test_what_a_killed_process_left_unfinished_is_removed(tmp_path):
    (tmp_path / ".draft-x" / "new").mkdir(parents=True)
    with hold_folder(tmp_path, "study"):
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_a_file_in_its_place(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"), hold_folder(tmp_path / "file", "study"):
        pass


@pytest.mark.parametrize("part", ["data", "bundle"])
def test_names_of_output_files_are_spelled_once(part):
    """Elsewhere they are `run_files`' constants; phantoms and the Med-AD layout have names of their own."""
    names = {value for key, value in vars(run_files).items() if key.isupper() and "." in value}
    paths = sorted((Path(run_files.__file__).parent / part).rglob("*.py"))
    for path in paths:
        found = {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)}
        assert not found & names, f"{path.name} spells {found & names}"
    assert len(paths) > 5
    assert len(names) > 10
