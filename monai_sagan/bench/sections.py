"""The sections of the benchmark: each measures, prints its table and returns its figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from monai_sagan.bench.counts import Counts, count
from monai_sagan.bench.measure import Timing, matrix_rate, ratio, time_side_by_side
from monai_sagan.bench.method_steps import MethodSize
from monai_sagan.bench.workloads import INFERENCE, TRAINING, Size, make
from monai_sagan.errors import SaganError
from monai_sagan.methods import find_method

BASES = {"training": "published loop", "inference": "one by one"}


class Bench:
    """The sections of the benchmark, a method each."""

    def __init__(
        self, device: str, size: Size, variants: list[str], rounds: int, threads: int | None, sides: Sequence[int]
    ) -> None:
        self.device, self.size, self.variants = device, size, variants
        self.rounds, self.threads, self.side_lengths = rounds, threads, sides
        self.matrix = {"float32": matrix_rate(device, False, threads)}
        if ", bfloat16" in variants:
            self.matrix["bfloat16"] = matrix_rate(device, True, threads)
        rates = ", ".join(f"{kind} {rate / 1e12:.3g} TFLOP/s" for kind, rate in self.matrix.items())
        print(f"a large matrix product reaches: {rates}")

    def training(self) -> dict[str, Any]:
        return self._compared("training", [n for n in TRAINING if n != "data alone"], "data alone")

    def methods(self, names: Sequence[str], preset: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Training of SAGAN and further methods at a preset, each stage by itself."""
        works: dict[str, tuple[str, MethodSize]] = {}
        for name in dict.fromkeys(["sagan", *names]):
            known = {field.name for field in fields(find_method(name).Options)}
            own = {option: value for option, value in values.items() if option in known}
            for stage in range(find_method(name).stages_count):
                for how in ("eager", "eager, bfloat16", "compiled", "compiled, bfloat16"):
                    if self._wanted(how):
                        size = MethodSize(name, preset, stage, how.split(",")[0], "bfloat16" in how, own)
                        works[_label(name, stage, how)] = how, size
        for _, size in works.values():
            size.settings()  # raises for a wrong value before anything takes time
        timings, base = self._time(works), _label("sagan", 0, "eager")
        counted: dict[tuple[str, int], Counts] = {}
        rows = {}
        for label, (how, size) in works.items():
            place = size.method, size.stage
            counts = counted[place] = counted.get(place) or self._counts(how, replace(size, engine="eager", amp=False))
            kind = "bfloat16" if "bfloat16" in how else "float32"
            rows[label] = self._row(timings[label], timings[base], counts.flop / 2, self.matrix[kind])
            rows[label] |= self._launched(timings[label], None if "compiled" in how else counts)
        _print_table(f"training, {preset}", "it/s", rows)
        return rows

    def inference(self) -> dict[str, Any]:
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
        """The cost of doubling the batch, the side and the data, beside the growth of the work."""
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
        """Speed and memory with larger images in more patches of the same size, without and with checkpoints."""
        rows: dict[str, dict[str, Any]] = {}
        print(f"\n{'side':>6} {'grid':>8} {'kept of':>11} {'it/s':>9} {'images/s':>9} {'peak memory':>12}")
        for side in self.side_lengths:
            size = replace(self.size, side=side, images=max(2 * self.size.batch_size, 32))
            sizes = {"all images": size, "one image": replace(size, checkpoint_images=1)}
            cells = f"{side // 32} x {side // 32}"
            for kept, changed in sizes.items():
                print(f"{side:6} {cells:>8} {kept:>11} ", end="")
                try:
                    timing = self._time({kept: ("eager", changed)})[kept]
                except SaganError as error:  # most likely too little memory
                    rows[f"{side}, {kept}"] = {"failed": str(error)}
                    print(error)
                    continue
                rate = 1 / timing.median
                rows[f"{side}, {kept}"] = {"iterations_per_second": rate, "peak_bytes": timing.peak}
                print(f"{rate:9.3g} {rate * timing.images:9.3g} {timing.peak / 2**30:8.2f} GiB", flush=True)
        return rows

    def _time(self, workloads: Mapping[str, tuple[str, Size | MethodSize]]) -> dict[str, Timing]:
        return time_side_by_side(workloads, self.device, self.rounds, threads=self.threads)

    def _wanted(self, name: str) -> bool:
        return all(part in self.variants for part in (", bfloat16", "compiled") if part in name)

    @staticmethod
    def _plain(name: str) -> str:
        """The workload with the same arithmetic in eager float32, where it can be counted."""
        return {"compiled": "eager"}.get(name.replace(", bfloat16", ""), name.split(",")[0])

    def _counts(self, name: str, size: MethodSize | None = None) -> Counts:
        """The counts of a pair of calls."""
        step, _ = make(name, size or self.size, self.device)
        step()  # the first is a critic update alone, or the first of a pair
        return count(lambda: (step(), step()))

    @staticmethod
    def _launched(timing: Timing, counts: Counts | None) -> dict[str, Any]:
        """The launches of a call, by operations, or by graphs where it is compiled."""
        if counts is None:
            return {"graphs": timing.graphs, "graph_breaks": timing.breaks, "recompiled": timing.recompiled}
        return {"operations": counts.operations / 2, "waits": counts.waits / 2}

    @staticmethod
    def _row(timing: Timing, base: Timing, flop: float, peak_rate: float) -> dict[str, Any]:
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


def _label(method: str, stage: int, how: str) -> str:
    several = f" {stage + 1}" if find_method(method).stages_count > 1 else ""
    return f"{method}{several} {how}"


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
