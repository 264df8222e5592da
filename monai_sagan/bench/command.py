"""``monai-sagan bench``: how fast this machine trains and restores, beside the published loop, in one table."""

from __future__ import annotations

import argparse
import json
import platform
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monai_sagan.errors import SaganError
from monai_sagan.files import write_text

if TYPE_CHECKING:
    from monai_sagan.bench.counts import Counts
    from monai_sagan.bench.measure import Timing
    from monai_sagan.bench.workloads import Size

SECTIONS = ("training", "inference", "growth", "sides")
SMALL = {"channels": 16, "batch_size": 16}
SIDES = (64, 128, 256, 512)  # of images, in pixels
BASES = {"training": "published loop", "inference": "one by one"}


def add_bench_arguments(verb: argparse.ArgumentParser) -> None:
    """Give the command-line ``verb`` the options of `bench_command`."""
    verb.add_argument(
        "sections", nargs="*", metavar="SECTION", help=f"of {', '.join(SECTIONS)} (default: the first two)"
    )
    verb.add_argument("--device", help="default: the first GPU, or the CPU where there is none")
    verb.add_argument(
        "--size", choices=("paper", "small"), help="default: paper on a GPU, small (16 channels) on a CPU"
    )
    verb.add_argument("--batch_size", type=int, help="images of each stream (default: 64, small 16)")
    verb.add_argument("--compiled", action="store_true", help="compiled code too, on a CPU minutes once; a GPU has it")
    verb.add_argument(
        "--bfloat16", action="store_true", help="bfloat16 too; where a device has units for it, it is there"
    )
    verb.add_argument("--rounds", type=int, default=5, help="of each workload in turn (default: 5)")
    verb.add_argument("--threads", type=int, help="of torch, on a CPU")
    verb.add_argument("--output", metavar="FILE", help="write all figures as JSON")


def bench_command(arguments: argparse.Namespace) -> None:
    """Measure what is asked for, and print a table for each section."""
    import torch

    from monai_sagan.bench.workloads import Size
    from monai_sagan.engines.compiled import has_bfloat16_matrix_units
    from monai_sagan.models.device import check_device, default_device

    sections = arguments.sections or list(SECTIONS[:2])
    if unknown := set(sections) - set(SECTIONS):
        raise SaganError(f"no section {sorted(unknown)[0]!r}; the sections are {', '.join(SECTIONS)}")
    device = str(check_device(arguments.device or default_device()))
    gpu = torch.device(device).type == "cuda"
    small = (arguments.size or ("paper" if gpu else "small")) == "small"
    size = Size(**(SMALL if small else {}))
    if arguments.batch_size:
        size = replace(size, batch_size=arguments.batch_size)
    variants = [
        *([", bfloat16"] if gpu or arguments.bfloat16 or has_bfloat16_matrix_units() else []),
        *(["compiled"] if gpu or arguments.compiled else []),
    ]
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    found: dict[str, Any] = {"device": _device_name(device), "torch": torch.__version__, "size": asdict(size)}
    print(f"{found['device']}, torch {torch.__version__}; {_shown(size)}; medians of {arguments.rounds} rounds in turn")
    bench = _Bench(device, size, variants, arguments.rounds, arguments.threads)
    found["matrix_flop_per_second"] = bench.matrix
    for section in sections:
        found[section] = getattr(bench, section)()
    if arguments.output:
        write_text(Path(arguments.output), json.dumps(found, indent=2) + "\n")


class _Bench:
    """The sections, each a method that measures, prints its table and returns its figures."""

    def __init__(self, device: str, size: Size, variants: list[str], rounds: int, threads: int | None) -> None:
        from monai_sagan.bench.measure import matrix_rate

        self.device, self.size, self.variants = device, size, variants
        self.rounds, self.threads = rounds, threads
        self.matrix = {"float32": matrix_rate(device, False, threads)}
        if ", bfloat16" in variants:
            self.matrix["bfloat16"] = matrix_rate(device, True, threads)
        rates = ", ".join(f"{kind} {rate / 1e12:.3g} TFLOP/s" for kind, rate in self.matrix.items())
        print(f"a large matrix product reaches: {rates}")

    def training(self) -> dict[str, Any]:
        from monai_sagan.bench.workloads import TRAINING

        return self._compared("training", [n for n in TRAINING if n != "data alone"], "data alone")

    def inference(self) -> dict[str, Any]:
        from monai_sagan.bench.workloads import INFERENCE

        return self._compared("inference", list(INFERENCE), None)

    def _compared(self, section: str, names: list[str], data: str | None) -> dict[str, Any]:
        chosen = [name for name in names if self._wanted(name)]
        timings = self._time({name: (name, self.size) for name in [*chosen, *([data] if data else [])]})
        counts = {name: self._counts(name) for name in {self._plain(name) for name in chosen}}
        base, rows = timings[BASES[section]], {}
        for name in chosen:
            kind = "bfloat16" if "bfloat16" in name else "float32"
            rows[name] = self._row(timings[name], base, counts[self._plain(name)].flop / 2, self.matrix[kind])
            rows[name] |= self._launched(timings[name], None if "compiled" in name else counts[self._plain(name)])
            if data and name != BASES[section]:
                rows[name]["share in data"] = timings[data].median / timings[name].median
        unit = "it/s" if section == "training" else "batches/s"
        _print_table(section, unit, rows)
        return rows

    def growth(self) -> dict[str, Any]:
        """What doubling the batch, the side and the data costs, beside what grows: images, pixels, nothing."""
        size, rows = self.size, {}
        changes = {
            "as it is": size,
            "batch doubled": replace(size, batch_size=2 * size.batch_size),
            "side doubled": replace(size, side=2 * size.side),
            "data doubled": replace(size, images=2 * size.images),
        }
        timings = self._time({label: ("eager", changed) for label, changed in changes.items()})
        print(f"\n{'growth':24} {'s/it':>9} {'times':>7} {'work, times':>12}")
        for label, changed in changes.items():
            work = changed.batch_size * changed.side**2 / (size.batch_size * size.side**2)
            times = timings[label].median / timings["as it is"].median
            rows[label] = {"seconds": timings[label].median, "times": times, "work": work}
            print(f"{label:24} {timings[label].median:9.3f} {times:7.2f} {work:12.0f}")
        return rows

    def sides(self) -> dict[str, Any]:
        """Larger images, cut into more patches of the same size: speed and memory, without and with checkpoints."""
        rows: dict[str, dict[str, Any]] = {}
        print(f"\n{'side':>6} {'grid':>8} {'kept of':>11} {'it/s':>9} {'images/s':>9} {'peak memory':>12}")
        for side in SIDES:
            size = replace(self.size, side=side, images=max(2 * self.size.batch_size, 32))
            sizes = {"all images": size, "one image": replace(size, checkpoint_images=1)}
            cells = f"{side // 32} x {side // 32}"
            for kept, changed in sizes.items():
                print(f"{side:6} {cells:>8} {kept:>11} ", end="")
                try:
                    timing = self._time({kept: ("eager", changed)})[kept]
                except SaganError as error:  # most likely the memory is too small for this one
                    rows[f"{side}, {kept}"] = {"failed": str(error)}
                    print(error)
                    continue
                rate = 1 / timing.median
                rows[f"{side}, {kept}"] = {"iterations_per_second": rate, "peak_bytes": timing.peak}
                print(f"{rate:9.3g} {rate * timing.images:9.3g} {timing.peak / 2**30:8.2f} GiB", flush=True)
        return rows

    def _time(self, workloads: dict[str, tuple[str, Size]]) -> dict[str, Timing]:
        from monai_sagan.bench.measure import time_side_by_side

        return time_side_by_side(workloads, self.device, self.rounds, threads=self.threads)

    def _wanted(self, name: str) -> bool:
        return all(part in self.variants for part in (", bfloat16", "compiled") if part in name)

    @staticmethod
    def _plain(name: str) -> str:
        """The workload that does the same arithmetic in eager float32, where it can be counted."""
        return {"compiled": "eager"}.get(name.replace(", bfloat16", ""), name.split(",")[0])

    def _counts(self, name: str) -> Counts:
        """Of a pair of calls."""
        from monai_sagan.bench.counts import count
        from monai_sagan.bench.workloads import make

        step, _ = make(name, self.size, self.device)
        step()  # the first is a critic update alone, or the first of a pair
        return count(lambda: (step(), step()))

    @staticmethod
    def _launched(timing: Timing, counts: Counts | None) -> dict[str, Any]:
        """What a call has a device do, which a timer cannot tell: by operation, or by graphs where it is compiled."""
        if counts is None:
            return {"graphs": timing.graphs, "graph_breaks": timing.breaks, "recompiled": timing.recompiled}
        return {"operations": counts.operations / 2, "waits": counts.waits / 2}

    @staticmethod
    def _row(timing: Timing, base: Timing, flop: float, peak_rate: float) -> dict[str, Any]:
        from monai_sagan.bench.measure import ratio

        middle, low, high = ratio(
            [seconds / base.images for seconds in base.seconds], [s / timing.images for s in timing.seconds]
        )
        rate = flop / timing.median
        return {
            "per_second": 1 / timing.median,
            "images_per_second": timing.images / timing.median,
            "ratio": middle,
            "ratio_range": [low, high],
            "flop": flop,
            "flop_per_second": rate,
            "share of matrix rate": rate / peak_rate,
            "peak_bytes": timing.peak,
            "first_seconds": timing.first,
        }


def _print_table(section: str, unit: str, rows: dict[str, dict[str, Any]]) -> None:
    print(
        f"\n{section:28} {unit:>9} {'images/s':>9} {'times':>6} {'(range)':>14} {'GFLOP':>8} {'GFLOP/s':>8} "
        f"{'of matrix':>9} {'in data':>8} {'peak':>9} {'first 2':>9}"
    )
    for name, row in rows.items():
        low, high = row["ratio_range"]
        data = f"{row['share in data']:.1%}" if "share in data" in row else ""
        print(
            f"{name:28} {row['per_second']:9.3g} {row['images_per_second']:9.4g} {row['ratio']:6.2f} "
            f"{f'{low:.2f} to {high:.2f}':>14} {row['flop'] / 1e9:8.4g} {row['flop_per_second'] / 1e9:8.4g} "
            f"{row['share of matrix rate']:9.0%} {data:>8} {row['peak_bytes'] / 2**30:5.2f} GiB "
            f"{row['first_seconds']:7.1f} s"
        )
    names = ("operations", "waits", "graphs", "graph_breaks", "recompiled")
    print(f"\n{'launched by the host':28} " + " ".join(f"{name.replace('_', ' '):>12}" for name in names))
    for name, row in rows.items():
        print(f"{name:28} " + " ".join(f"{row[key]:12g}" if key in row else f"{'-':>12}" for key in names))


def _shown(size: Size) -> str:
    return (
        f"{size.channels} channels, {size.num_res_blocks} residual blocks, batch {size.batch_size}, "
        f"{size.side} x {size.side}"
    )


def _device_name(device: str) -> str:
    import torch

    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, {_cpu_features()}"


def _cpu_features() -> str:
    import torch

    return torch.backends.cpu.get_cpu_capability()
