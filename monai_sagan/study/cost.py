"""What the rows of a study cost: the size of networks, the time and memory of training."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from monai_sagan import run_files
from monai_sagan.study.plan import Run

if TYPE_CHECKING:
    from monai_sagan.settings import Settings

EXPLAINED = """\
Cost, means over seeds. Seconds are of training, validations and checkpoints, on a machine that the runs share; images
are those of each stream. Memory is the GPU's, or the process's on a CPU, its libraries included. Parameters and GFLOP
are of the network that scores images, without critics: convolutions and matrix products, for one image; an addition and
a multiplication are two."""


class RowCost(NamedTuple):
    """What a row costs; None where its runs have no record of it."""

    row: str
    parameters: int
    flop_per_image: int
    iterations: float | None
    seconds: float | None
    images_per_second: float | None
    peak_bytes: float | None


def row_costs(runs: Sequence[Run], settings: Mapping[str, Settings]) -> list[RowCost]:
    """The cost of each row that has finished runs, in their order; ``settings`` are those of the rows."""
    from monai_sagan.bench.method_steps import parameters_and_flop

    costs = []
    for row in dict.fromkeys(run.row for run in runs if run.row in settings):
        own = [run for run in runs if run.row == row]
        known = [found for run in own if (found := _read(run.folder / run_files.COST))]
        iterations, seconds, peak = (_mean(known, name) for name in ("iterations", "seconds", "peak_bytes"))
        rate = settings[row].batch_size * iterations / seconds if iterations and seconds else None
        costs.append(RowCost(row, *parameters_and_flop(settings[row]), iterations, seconds, rate, peak))
    return costs


def costs_as_markdown(costs: Sequence[RowCost]) -> str:
    """A table for people."""
    head = ["row", "parameters", "GFLOP per image", "iterations", "training, s", "images/s", "peak memory"]
    lines = [head, ["---"] * len(head)]
    for cost in costs:
        shown = [cost.row, f"{cost.parameters:,}", f"{cost.flop_per_image / 1e9:.3g}"]
        shown += [_shown(cost.iterations, ",.0f"), _shown(cost.seconds, ",.0f"), _shown(cost.images_per_second, ".3g")]
        shown.append("" if not cost.peak_bytes else f"{cost.peak_bytes / 2**30:.2f} GiB")
        lines.append(shown)
    table = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
    return f"{table}\n\n{EXPLAINED}"


def costs_as_csv(costs: Sequence[RowCost]) -> str:
    """The same for programs."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(RowCost._fields)
    table.writerows(["" if value is None else value for value in cost] for cost in costs)
    return text.getvalue()


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}  # of a run of an earlier version


def _mean(costs: Sequence[dict[str, Any]], name: str) -> float | None:
    values = [cost[name] for cost in costs if cost.get(name)]
    return sum(values) / len(values) if values else None


def _shown(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
