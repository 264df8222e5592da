"""SAGAN's training step, the imports and the command's help in two checkouts, in turn: what a change has cost.

    git worktree add /tmp/before COMMIT
    python benchmarks/two_checkouts.py /tmp/before [--rounds 5] [--workload eager] [--channels 16] [--batch_size 16]

Each round gives one value of each checkout, in a process of its own, so that other load affects both. The ratio is of
seconds before to seconds now, round by round: above 1 the present checkout is faster.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
STEP = """
import sys, time
from monai_sagan.bench.workloads import Size, make
from monai_sagan.engines.memory import keep_freed_memory
keep_freed_memory()
name, channels, batch_size, device, pairs = sys.argv[1], *map(int, sys.argv[2:4]), sys.argv[4], int(sys.argv[5])
step, _ = make(name, Size(channels=channels, batch_size=batch_size, images=200), device)
def run(count):
    import torch
    begun = time.perf_counter()
    for _ in range(2 * count):
        step()
    if device != "cpu":
        torch.cuda.synchronize()
    return (time.perf_counter() - begun) / (2 * count)
run(2)
print(run(pairs))
"""
TIMED = """
import time
begun = time.perf_counter()
{code}
print(time.perf_counter() - begun)
"""
PUBLIC = "import monai_sagan\nfor name in monai_sagan.__all__: getattr(monai_sagan, name)"
HELP = """
import contextlib, io
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    from monai_sagan.cli import main; main(["--help"])
"""


def seconds(checkout: Path, code: str, *words: object) -> float:
    """What ``code`` prints last in a fresh process of a checkout."""
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    command = [sys.executable, "-W", "ignore", "-c", code, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=checkout, check=False)
    if done.returncode:
        sys.exit(f"{checkout}: {(done.stderr.strip().splitlines() or ['it failed silently'])[-1]}")
    return float(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, help="another checkout of this repository")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workload", default="eager", help="of monai_sagan.bench.workloads.TRAINING (default: eager)")
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--pairs", type=int, default=4, help="pairs of iterations of a round")
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    training = (STEP, given.workload, given.channels, given.batch_size, given.device, given.pairs)
    measured = {
        f"training step, {given.workload}": training,
        "import monai_sagan": (TIMED.format(code="import monai_sagan"),),
        "every public name": (TIMED.format(code=PUBLIC),),
        "monai-sagan --help": (TIMED.format(code=HELP),),
    }
    for name, work in measured.items():
        before, now = [], []
        for turn in range(given.rounds + 1):  # the first fills the disk's cache
            order = [(given.before.resolve(), before), (HERE, now)]
            for checkout, values in order if turn % 2 else reversed(order):
                values.append(seconds(checkout, *work))
        ratios = sorted(a / b for a, b in zip(before[1:], now[1:], strict=True))
        print(
            f"{name:24} before {statistics.median(before[1:]):8.4f} s, now {statistics.median(now[1:]):8.4f} s, "
            f"ratio {statistics.median(ratios):.3f} (from {ratios[0]:.3f} to {ratios[-1]:.3f})",
            flush=True,
        )


if __name__ == "__main__":
    main()
