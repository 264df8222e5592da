"""An ONNX artifact scores a folder where neither torch nor MONAI can be imported, and whatever ends it on the way."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

# The process sends itself a signal once it has kept the results of so many batches.
COMMAND = """
import os, signal, sys

signal.signal(signal.SIGINT, signal.default_int_handler)  # a process in the background ignores it

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "monai", "ignite"):
            raise ImportError(name + " is imported")

sys.meta_path.insert(0, Refuse())
from monai_sagan.cli import main
from monai_sagan.predict.results import Results

class Interrupted(Results):
    batches = 0

    def add(self, entries):
        super().add(entries)
        self.batches += 1
        if self.batches == int(os.environ["BATCHES"]):
            os.kill(os.getpid(), int(os.environ["SIGNAL"]))

sys.modules["monai_sagan.predict.folder"].Results = Interrupted
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.skipif(os.name == "nt", reason="there are no such signals")
def test_without_torch_and_interrupted(tmp_path, exported):
    folder, output = tmp_path / "images", tmp_path / "out"
    folder.mkdir()
    for i in range(10):
        pixels = np.random.default_rng(i).integers(0, 256, (70 + i, 60), np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")

    def run(batches, sign=0):
        words = ["predict", str(exported("grey", "onnx")), str(folder), str(output), "--jobs", "1"]
        values = {"BATCHES": str(batches), "SIGNAL": str(int(sign)), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", COMMAND, *words]
        return subprocess.run(command, env=os.environ | values, capture_output=True, text=True, timeout=120)

    def rows():
        with (output / "scores.csv").open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    stopped = run(2, signal.SIGINT)
    assert stopped.returncode == 130, stopped.stderr
    assert "stopped; the same command resumes" in stopped.stderr
    assert stopped.stderr.count("\n") == 1
    first = rows()
    assert len(first) == 3  # of batches of one and two
    killed = run(1, signal.SIGKILL)
    assert (killed.returncode, killed.stderr) == (-signal.SIGKILL, "")
    assert len(rows()) == 4
    drawn = {row["overlay"]: (output / "overlays" / row["overlay"]).stat().st_mtime_ns for row in rows()}
    ended = run(0)
    assert ended.returncode == 0, ended.stderr
    # Larger images become smoother ones than the noise of the training: counted, not a line for each.
    assert ended.stderr.startswith("WARNING: 10 of 10 images are outside the training range, the first: ")
    assert ended.stderr.count("\n") == 1
    assert "10 images scored (4 of them earlier)" in ended.stdout
    assert [row["image"] for row in rows()] == [str(folder / f"{i}.png") for i in range(10)]
    assert rows()[:3] == first
    assert len(list((output / "overlays").iterdir())) == 10
    assert drawn == {name: (output / "overlays" / name).stat().st_mtime_ns for name in drawn}
