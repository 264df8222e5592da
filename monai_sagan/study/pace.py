"""How fast each row trains on this machine, so that all rows can have the same time.

``python -m monai_sagan.study.pace CONFIG OUTPUT --key=value ...`` measures one row.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monai_sagan.bundle.words import join_options, parse_options
from monai_sagan.errors import SaganError
from monai_sagan.files import write_text
from monai_sagan.study.processes import Environment, Job, describe_failure, run_jobs
from monai_sagan.study.values import FittedRow, epochs_of

if TYPE_CHECKING:
    from monai_sagan.study.plan import Bundle

PACE = "pace.json"
LEAST = 3.0  # seconds for each stage
EPOCHS = 20  # of a run, or more: so many checkpoints to choose from
LENGTH = ("max_iterations", "iterations_per_epoch")


def rows_of_equal_time(
    bundle: Bundle,
    folder: Path,
    fitted: Mapping[str, FittedRow],
    minutes: float,
    places: Sequence[Environment],
    keep_open: Sequence[int] = (),
) -> dict[str, FittedRow]:
    """Rows whose iterations take ``minutes``, by the pace of each, which is measured once and kept with the study.

    Args:
        bundle: whose config the rows override.
        folder: of the study.
        fitted: the rows.
        minutes: of training, without validations, checkpoints and compiling.
        places: see `run_jobs`; several rows are measured at a time, as they are trained.
        keep_open: see `run_jobs`.

    Raises:
        SaganError: when a row cannot be measured.
    """
    from monai_sagan.methods import find_method

    asked = {row: _asked(bundle, one.values) for row, one in fitted.items()}
    left = [row for row in fitted if _kept(folder / row / PACE, asked[row]) is None]
    words = {row: join_options(dict(fitted[row].values) | {"output_dir": str(folder / row)}) for row in left}
    jobs = [
        Job(
            f"{row}, pace",
            (sys.executable, "-m", "monai_sagan.study.pace", str(bundle.path), str(folder / row / PACE), *words[row]),
            folder / row / "pace",
        )
        for row in left
    ]
    outcomes = run_jobs(jobs, places[: len(jobs)], keep_open=keep_open) if jobs else []
    for outcome in outcomes:
        if outcome.code:
            raise SaganError(
                f"{outcome.job.name}: {describe_failure(outcome)}, see {outcome.job.folder / 'output.txt'}"
            )
    timed = {}
    for row, one in fitted.items():
        seconds = _kept(folder / row / PACE, asked[row])
        if seconds is None:
            raise SaganError(f"{folder / row / PACE} is missing or broken; delete it and run the study again")
        iterations = int(60 * minutes / seconds)
        epoch = min(bundle.settings(one.values).iterations_per_epoch, max(iterations // EPOCHS, 1))
        length = epochs_of(iterations, epoch, find_method(one.method).stages_count)
        timed[row] = FittedRow(one.method, {**one.values, **length}, one.skipped)
    return timed


def _asked(bundle: Bundle, values: Mapping[str, Any]) -> dict[str, Any]:
    """What a pace depends on, besides the machine."""
    config = bundle.run_config(values)
    left_out = {*LENGTH, "output_dir", "seed", "overrides"}
    return {name: value for name, value in config.items() if name not in left_out}


def _kept(path: Path, asked: Mapping[str, Any]) -> float | None:
    """The seconds of an iteration that were measured for the same values; None where they were not."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return float(found["seconds_per_iteration"]) if found["of"] == asked else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def measure_pace(bundle: Bundle, values: Mapping[str, Any], least: float = LEAST) -> dict[str, Any]:
    """Seconds of an iteration of each stage on random images, and of all stages by their shares of the run.

    Args:
        bundle: whose config ``values`` override.
        values: of a row.
        least: seconds to measure, for each stage.
    """
    from monai_sagan.bench.method_steps import MethodSteps
    from monai_sagan.engines.memory import keep_freed_memory

    keep_freed_memory()  # as every bundle does
    settings = bundle.settings(values)
    device = str(bundle.read("device", values))
    steps = MethodSteps(settings, device, bundle.read("chosen_engine", values), bundle.read("flags", values).amp)
    stages = {}
    for index, placed in enumerate(steps.stages.placed):
        stages[placed.stage.name] = {
            "share": placed.stage.share,
            "seconds_per_iteration": _seconds(steps.enter(index), device, least),
        }
    total = sum(stage["share"] for stage in stages.values())
    mean = sum(stage["share"] * stage["seconds_per_iteration"] for stage in stages.values()) / total
    return {"seconds_per_iteration": mean, "stages": stages, "of": _asked(bundle, values)}


def _seconds(step: Any, device: str, least: float) -> float:
    """Of an iteration, of an even number of them after a warm-up."""
    from monai_sagan.bench.measure import seconds_of_pairs
    from monai_sagan.engines.captured import WARM_UP

    seconds_of_pairs(step, WARM_UP + 2 if device.startswith("cuda") else 1, device)
    pairs = 1
    while (seconds := seconds_of_pairs(step, pairs, device)) < least:
        pairs *= 2
    return seconds / (2 * pairs)


def main(words: Sequence[str]) -> None:
    """Measure the pace of the row with the given config, values and place."""
    from monai_sagan.study.plan import Bundle

    config, output, *options = words
    begun = time.monotonic()
    found = measure_pace(Bundle(config), parse_options(options))
    write_text(Path(output), json.dumps(found, indent=2) + "\n")
    print(f"{found['seconds_per_iteration']:.4g} s an iteration, measured in {time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except SaganError as error:
        raise SystemExit(f"error: {error}") from None
