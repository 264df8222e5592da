"""How soon `monai-sagan predict` has its first result, how many images a second it scores, and where the time goes.

    python benchmarks/predict_speed.py ARTIFACT FOLDER [--rounds 3] [--jobs N]

The first result is there when the first row is in ``scores.csv``, its overlay drawn; the time starts with the command,
and the folder is read from the disk's cache. The rate is from that row to the end. The median over rounds is printed,
with its range, for each choice of overlays; then what opening the artifact takes, and the network alone, by batch.
Nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artifact")
    parser.add_argument("folder")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before the start")
    for overlays in ("all", "none"):
        found = [timed_run(args.artifact, args.folder, overlays, args.jobs) for _ in range(args.rounds)]
        first, rate = ([figures[i] for figures in found] for i in (0, 1))
        print(f"overlays {overlays}: first result after {shown(first)} s, then {shown(rate)} images/s")
    opening(args.artifact)


def shown(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def timed_run(artifact: str, folder: str, overlays: str, jobs: int) -> tuple[float, float]:
    """Seconds to the first row, and rows a second after it."""
    with tempfile.TemporaryDirectory() as scratch:
        table = Path(scratch) / "out" / "scores.csv"
        words = ["predict", artifact, folder, str(table.parent), "--overlays", overlays, "--jobs", str(jobs)]
        begin = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "monai_sagan.cli", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while rows(table) < 1:
            assert process.poll() is None, "predict ended without a result"
            time.sleep(0.005)
        first, already = time.perf_counter() - begin, rows(table)
        assert process.wait() == 0
        seconds = time.perf_counter() - begin - first
        return first, (rows(table) - already) / seconds


def rows(table: Path) -> int:
    return table.read_bytes().count(b"\n") - 1 if table.is_file() else 0


def opening(artifact: str) -> None:
    from monai_sagan.artifact import open_artifact

    seconds(f"opening without its self-test, {size(artifact):.0f} MB", lambda: open_artifact(artifact, check=False))
    seconds("opening", lambda: open_artifact(artifact))
    model = open_artifact(artifact)
    height, width = model.facts["model"]["image_size"]
    for batch in (1, 4, 16):
        images = np.zeros((batch, model.facts["model"]["in_channels"], height, width), np.int32)
        model.run(images)
        seconds(f"the network, batch {batch}, each image", lambda images=images: model.run(images), batch)
    large = np.zeros((1, model.facts["model"]["in_channels"], 2048, 2048), np.int32)
    seconds("the network and its own resizing, batch 1, from 2048 x 2048", lambda: model.run(large))


def size(artifact: str) -> float:
    return sum(path.stat().st_size for path in Path(artifact).iterdir()) / 1e6


def seconds(name: str, work: Callable[[], object], divisor: int = 1) -> None:
    found = []
    for _ in range(3):
        begin = time.perf_counter()
        work()
        found.append((time.perf_counter() - begin) / divisor)
    print(f"{name}: {statistics.median(found):.3f} s ({min(found):.3f} to {max(found):.3f})")


if __name__ == "__main__":
    main()
