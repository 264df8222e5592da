"""Kill a process at random moments while it saves checkpoints; count how many stay readable.

    python benchmarks/kill_while_saving.py [--kills 100]

Each kill is a SIGKILL at a random moment; after it the checkpoint must load and hold one save as a whole.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from monai_sagan.files import load_tensors, save_tensors

TENSORS, SIZE = 8, 250_000  # 8 MB a checkpoint


def save_for_ever(path: Path, number: int) -> None:
    while True:
        number += 1
        save_tensors({"number": number, "states": {str(i): torch.full((SIZE,), number) for i in range(TENSORS)}}, path)
        print(number, flush=True)


def is_whole(path: Path) -> int:
    content = load_tensors(path)
    if not all(bool((tensor == content["number"]).all()) for tensor in content["states"].values()):
        raise ValueError(f"{path} mixes two saves")
    return int(content["number"])


def kill_once(path: Path, number: int, delay: float) -> int:
    """Let a process save until ``delay`` seconds after its first save, kill it, and read what it left."""
    command = [sys.executable, __file__, "--save", str(path), "--number", str(number)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(delay)
    process.kill()
    process.wait()
    return is_whole(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--number", type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.save:
        save_for_ever(args.save, args.number)
    draw = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as folder:
        path, number, unfinished = Path(folder) / "checkpoint.pt", 0, 0
        for _ in range(args.kills):
            number = kill_once(path, number, draw.uniform(0, 0.1))
            leftovers = [other for other in path.parent.iterdir() if other != path]
            unfinished += len(leftovers)
            for other in leftovers:
                other.unlink()
        print(
            f"{args.kills} kills, {args.kills} readable checkpoints, {number} saves, {unfinished} killed amid a write"
        )


if __name__ == "__main__":
    main()
