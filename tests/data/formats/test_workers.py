"""Whatever a task does to its process, the others are done, in order."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
import time

import pytest

from monai_sagan.data.formats.workers import Failure, run_in_workers


class Riddle:
    """An answer that cannot be read."""

    def __reduce__(self):
        return int, ("no number",)


def task(what):
    """What a decoder may do; it runs in a process of its own."""
    if what == "crash":
        ctypes.string_at(0)
    if what == "exit":
        os._exit(3)
    if what == "raise":
        raise ValueError("a line\nand another")
    if what == "panic":
        raise BaseException("panicked")
    if what == "hang":
        time.sleep(60)
    if what == "riddle":
        return Riddle()
    if what == "print":
        print("noise", flush=True)
        os.write(1, b"more noise")
    return what


def test_results_come_in_the_order_of_the_tasks():
    tasks = list(range(300))
    for jobs in (1, 2, 5):
        assert list(run_in_workers(task, tasks, jobs)) == tasks
    assert list(run_in_workers(task, [])) == []


def test_a_task_that_fails_costs_no_other():
    whats = ["a", "crash", "b", "raise", "exit", "c", "panic", "print", "d"]
    for jobs in (1, 2):
        results = dict(zip(whats, run_in_workers(task, whats, jobs), strict=True))
        assert {what: results[what] for what in "abcd"} == {what: what for what in "abcd"}
        assert results["print"] == "print"
        assert results["crash"] == Failure("the decoder died (SIGSEGV)")
        assert results["exit"] == Failure("the decoder died (exit code 3)")
        assert results["raise"] == Failure("a line and another")
        assert results["panic"] == Failure("panicked")


def test_a_task_that_hangs_is_ended():
    late = Failure("the decoder took longer than 2 s")  # which is enough to start one on a busy machine
    assert list(run_in_workers(task, ["a", "hang", "b"], 1, limit=2.0)) == ["a", late, "b"]


def test_nothing_is_left_when_the_caller_stops_early():
    before = threading.active_count()
    results = run_in_workers(task, list(range(1000)), 2)
    assert [next(results), next(results)] == [0, 1]
    results.close()
    assert threading.active_count() <= before + 1  # the watch goes within a second
    found = subprocess.run(["ps", "--ppid", str(os.getpid()), "-o", "args="], capture_output=True, text=True)
    assert "data.workers" not in found.stdout


def test_decoding_needs_neither_torch_nor_monai():
    code = "import sys, monai_sagan.data.cache, monai_sagan.data.prepare; print({'torch', 'monai'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "set()\n"


def test_a_script_without_a_main_guard(tmp_path):
    """The processes must not run the caller's script again."""
    script = tmp_path / "script.py"
    script.write_text(
        "import posixpath\n"
        "from monai_sagan.data.formats.workers import run_in_workers\n"
        "print(list(run_in_workers(posixpath.basename, ['a/b', 'c/d'], 2)))\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("['b', 'd']\n", "")


@pytest.mark.parametrize("jobs", [None, 64])
def test_how_many_workers(jobs):
    assert list(run_in_workers(task, ["a"], jobs)) == ["a"]


def test_an_answer_that_cannot_be_read():
    results = list(run_in_workers(task, ["a", "riddle", "b"], 1))
    assert [results[0], results[2]] == ["a", "b"]
    assert isinstance(results[1], Failure)


def test_fewer_than_one_worker(refused):
    with refused("jobs is -1"):
        list(run_in_workers(task, ["a"], -1))
