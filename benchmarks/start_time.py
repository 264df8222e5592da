"""How long a start takes, in fresh processes: medians of several.

    python benchmarks/start_time.py [--runs 5]

What counts: `import monai_sagan` adds under 0.3 s to `import monai`, and the command's help takes under 0.5 s.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

# Within one process: to import MONAI takes seconds and varies by more than what is looked for.
ADDED = """
import time; begun = time.perf_counter()
import monai; after_monai = time.perf_counter()
import monai_sagan; after_ours = time.perf_counter()
for name in monai_sagan.__all__: getattr(monai_sagan, name)
print(after_monai - begun, after_ours - after_monai, time.perf_counter() - after_ours)
"""
HELP = "from monai_sagan.cli import main; main(['--help'])"


def run(code: str) -> tuple[float, str]:
    """Seconds that a fresh process takes, and what it prints."""
    begun = time.perf_counter()
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    return time.perf_counter() - begun, done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    names = ("import monai", "then import monai_sagan", "then every public name", "the command's help", "bare Python")
    rows: list[list[float]] = []
    for _ in range(runs + 1):  # in turn, so that a busy moment meets them all
        rows.append([*map(float, run(ADDED)[1].split()[-3:]), run(HELP)[0], run("")[0]])
    for name, values in zip(names, zip(*rows[1:], strict=True), strict=True):  # the first fills the disk's cache
        print(f"{name:24} median {statistics.median(values):8.4f} s (from {min(values):.4f} to {max(values):.4f})")


if __name__ == "__main__":
    main()
