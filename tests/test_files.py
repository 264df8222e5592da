"""Files are whole or not there, and nothing in them is ever executed."""

from __future__ import annotations

import errno
import itertools
import multiprocessing
import os
import pickle
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from monai_sagan.files import build_folder, load_tensors, save_tensors, write_atomic


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_content_replaces_the_old_one(tmp_path):
    path = tmp_path / "new" / "folder" / "file.txt"
    for text in ("first", "second"):
        write_atomic(str(path), lambda unfinished, text=text: unfinished.write_text(text))
        assert path.read_text() == text
    assert names(path.parent) == ["file.txt"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, OSError])
@pytest.mark.parametrize("old", ["old", None])
def test_a_failing_writer_changes_nothing(tmp_path, error, old):
    path = tmp_path / "file.txt"
    if old:
        path.write_text(old)

    def write(unfinished):
        assert unfinished.parent == tmp_path  # the same file system, or the renaming would not be at once
        unfinished.write_text("half of the ne")
        raise error("broken off")

    with pytest.raises(error, match="broken off"):
        write_atomic(path, write)
    assert names(tmp_path) == (["file.txt"] if old else [])
    if old:
        assert path.read_text() == old


def test_until_it_is_whole_the_old_content_is_there(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    seen = []

    def write(unfinished):
        unfinished.write_text("new")
        seen.append(path.read_text())

    write_atomic(path, write)
    assert (seen, path.read_text()) == (["old"], "new")


def test_content_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    done = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: done.append("fsync") or fsync(handle))
    monkeypatch.setattr(os, "replace", lambda *names: done.append("replace") or replace(*names))
    write_atomic(tmp_path / "file", lambda unfinished: unfinished.write_text("x"))
    assert done[:2] == ["fsync", "replace"]


def test_tensors_and_plain_values_come_back(tmp_path):
    content = {"a": torch.arange(5), "b": {"c": [1, 2.5, None, "x", True]}, "d": torch.zeros(2, dtype=torch.bfloat16)}
    save_tensors(content, tmp_path / "file.pt")
    loaded = load_tensors(str(tmp_path / "file.pt"))
    assert loaded.keys() == content.keys()
    assert torch.equal(loaded["a"], content["a"])
    assert loaded["b"] == content["b"]
    assert loaded["d"].dtype == torch.bfloat16


@pytest.mark.parametrize("old", [True, False])
def test_a_full_disk_names_the_file_and_leaves_the_old_one(tmp_path, small_files, old):
    """Not torch's own words about the positions in its archive."""
    path = tmp_path / "checkpoint.pt"
    if old:
        save_tensors({"old": torch.zeros(3)}, path)
    with small_files(100_000), pytest.raises(OSError, match=r"File too large: .*checkpoint.pt") as caught:
        save_tensors({"new": torch.zeros(99_999)}, path)
    assert caught.value.filename == str(path)
    assert names(tmp_path) == ["checkpoint.pt"] * old
    assert not old or load_tensors(path).keys() == {"old"}


def test_plain_values_are_read_without_the_tensors(tmp_path):
    save_tensors({"name": "x", "tensor": torch.arange(5)}, tmp_path / "model.pt")
    content = load_tensors(tmp_path / "model.pt", mmap=True)
    save_tensors({"name": "y"}, tmp_path / "model.pt")  # replaces a file that is still read from
    assert (content["name"], content["tensor"].tolist()) == ("x", [0, 1, 2, 3, 4])


def test_what_cannot_be_loaded(tmp_path, refused):
    path = tmp_path / "model.pt"
    with refused(path, "no file"):
        load_tensors(path)
    save_tensors({"a": torch.zeros(1000)}, path)
    whole = path.read_bytes()
    for content in (b"", whole[:1], whole[:100], whole[: len(whole) // 2], whole[:-30], b"PK\x03\x04" + bytes(200)):
        path.write_bytes(content)
        with refused(path, "cut or damaged", "train again", "another"):
            load_tensors(path)
    path.write_bytes(b"text\n" * 50)
    with refused(path, "does not hold plain weights"):
        load_tensors(path)
    torch.save([1, 2], path)
    with refused(path, "holds a list"):
        load_tensors(path)
    with refused(tmp_path):
        load_tensors(tmp_path)


class Code:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.filterwarnings("error:Detected pickle protocol")
@pytest.mark.parametrize("save", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))])
def test_code_is_refused_and_not_executed(tmp_path, save, refused):
    path, trace = tmp_path / "model.pt", tmp_path / "executed"
    save({"tensor": torch.zeros(2), "model": Code(trace)}, path)
    with refused(path, "holds code (io.open)", "nothing was executed") as caught:
        load_tensors(path)
    assert "weights_only" not in str(caught.value)
    assert not trace.exists()
    torch.load(path, weights_only=False) if save is torch.save else pickle.loads(path.read_bytes())
    assert trace.exists()  # it would have been


@pytest.mark.parametrize(
    ("content", "named"), [(torch.nn.Linear(1, 1), "torch.nn.modules.linear.Linear"), (np.float64(1), "scalar")]
)
def test_objects_are_named(tmp_path, content, named, refused):
    torch.save({"a": content}, tmp_path / "model.pt")
    with refused("model.pt holds code", named):
        load_tensors(tmp_path / "model.pt")


def save_forever(path, saved):
    for number in itertools.count(1):
        save_tensors({"number": number, "values": torch.full((300_000,), float(number))}, path)
        saved.value = number


def test_a_killed_process_leaves_a_whole_file(tmp_path):
    path = tmp_path / "checkpoint.pt"
    draw = random.Random(0)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "monai_sagan.data.cache"])  # once, not for each process
    for _ in range(5):
        saved = context.Value("q", 0)
        process = context.Process(target=save_forever, args=(path, saved), daemon=True)
        process.start()
        deadline = time.monotonic() + 60
        while not saved.value and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(draw.uniform(0, 0.15))
        os.kill(process.pid, signal.SIGKILL)
        process.join(timeout=30)
        assert process.exitcode == -signal.SIGKILL
        content = load_tensors(path)
        assert content["number"] >= saved.value > 0
        assert len(content["values"]) == 300_000
        assert (content["values"] == content["number"]).all()


# Folders that take their place when they are complete.


def listed(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@pytest.mark.parametrize("replace", [False, True])
def test_a_new_folder_appears_when_it_is_complete(tmp_path, replace):
    place = tmp_path / "above" / "place"
    with build_folder(place, replace) as draft:
        (draft / "in").mkdir()
        (draft / "in" / "a.txt").write_text("a")
        assert not place.exists()
    assert listed(tmp_path / "above") == ["place", "place/in", "place/in/a.txt"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("before", [None, [], ["old.txt"]])
def test_a_failure_leaves_what_was_there(tmp_path, error, before):
    place = tmp_path / "above" / "place"
    if before is not None:
        place.mkdir(parents=True)
        for name in before:
            (place / name).touch()
    found = listed(tmp_path)

    def fail():
        with build_folder(place, replace=True) as draft:
            (draft / "a.txt").touch()
            raise error

    with pytest.raises(error):
        fail()
    assert listed(tmp_path) == found


def test_a_filled_folder_is_replaced_only_where_that_is_meant(tmp_path):
    place = tmp_path / "place"
    for _ in range(2):
        with build_folder(place, replace=True) as draft:
            (draft / f"{len(listed(place)) if place.exists() else 0}.txt").touch()
    assert listed(tmp_path) == ["place", "place/1.txt"]
    with pytest.raises(OSError, match="not empty") as caught, build_folder(place) as draft:
        (draft / "a.txt").touch()
    assert caught.value.errno == errno.ENOTEMPTY
    assert listed(tmp_path) == ["place", "place/1.txt"]


def test_the_empty_folder_one_stands_in_stays_the_same(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with build_folder(".") as draft:
        (draft / "a.txt").touch()
    assert os.listdir(".") == ["a.txt"]


def build_forever(place, built):
    for number in itertools.count(1):
        with build_folder(place) as draft:
            for i in range(20):
                (draft / f"{i}.txt").write_text(str(number))
        built.value = number
        place = place.with_name(f"place{number}")


def test_a_killed_process_leaves_complete_folders(tmp_path):
    draw = random.Random(1)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "monai_sagan.data.cache"])
    for attempt in range(3):
        built = context.Value("q", 0)
        first = tmp_path / str(attempt) / "place"
        process = context.Process(target=build_forever, args=(first, built), daemon=True)
        process.start()
        deadline = time.monotonic() + 60
        while not built.value and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(draw.uniform(0, 0.1))
        os.kill(process.pid, signal.SIGKILL)
        process.join(timeout=30)
        assert process.exitcode == -signal.SIGKILL
        folders = [path for path in first.parent.iterdir() if not path.name.startswith(".")]
        assert len(folders) >= built.value > 0
        assert all(len(listed(folder)) == 20 for folder in folders)


def test_a_process_killed_while_it_builds_leaves_the_old_folder(tmp_path):
    place = tmp_path / "place"
    place.mkdir()
    (place / "old.txt").write_text("old")
    code = (
        "import os, signal, sys\nfrom monai_sagan.files import build_folder\n"
        "with build_folder(sys.argv[1], replace=True) as draft:\n"
        "    (draft / 'new.txt').touch()\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(place)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert listed(place) == ["old.txt"]
    with build_folder(place, replace=True) as draft:
        (draft / "new.txt").touch()
    assert listed(place) == ["new.txt"]
