"""How long a start takes: medians over fresh processes, each beside a bare interpreter.

    python benchmarks/start_time.py [--runs 7]

What counts: `import monai_sagan` adds under 0.3 s to `import monai`, and the command's help takes under 0.5 s.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

MONAI, OURS = "import monai", "import monai, monai_sagan"
ALL = f"{OURS}\nfor name in monai_sagan.__all__: getattr(monai_sagan, name)"
HELP = "from monai_sagan.cli import main; main(['--help'])"
STARTS = {
    "a bare interpreter": "",
    MONAI: MONAI,
    OURS: OURS,
    "... and every public name": ALL,
    "monai-sagan --help": HELP,
}


def seconds(code: str) -> float:
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7)
    runs = parser.parse_args().runs
    taken: dict[str, list[float]] = {name: [] for name in STARTS}
    for number in range(runs + 1):  # in turn, so that a busy moment meets them all
        for name, code in STARTS.items():
            took = seconds(code)
            if number:  # the first round fills the disk's cache
                taken[name].append(took)
    for name, values in taken.items():
        print(f"{name:32} median {statistics.median(values):.3f} s (from {min(values):.3f} to {max(values):.3f})")
    pairs = zip(taken[OURS], taken[MONAI], strict=True)
    added = statistics.median(ours - monai for ours, monai in pairs)
    print(f"{'added to import monai':32} median {added:+.3f} s")


if __name__ == "__main__":
    main()
