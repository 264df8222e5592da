"""Running a study; the same call resumes an interrupted one."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monai_sagan import run_files
from monai_sagan.errors import SaganError
from monai_sagan.files import write_text
from monai_sagan.output_folder import hold_folder
from monai_sagan.study.cost import costs_as_csv, costs_as_markdown, row_costs
from monai_sagan.study.pace import LENGTH, rows_of_equal_time
from monai_sagan.study.plan import Bundle, Run, is_finished, plan_runs
from monai_sagan.study.processes import Job, Outcome, describe_failure, run_jobs, slots
from monai_sagan.study.rows import BUDGETS, Rows, named_rows, published_figures
from monai_sagan.study.table import write_table
from monai_sagan.study.values import FittedRow, check_epochs, describe_skipped, fit_rows

if TYPE_CHECKING:
    from monai_sagan.data.datasets.items import Datalist

__all__ = ["run_study"]

OPTIONS = ("config_file", "output_dir", "seeds", "jobs", "budget", "minutes")  # a study's own


def run_study(
    study: str | Rows,
    config_file: str | Path,
    output_dir: str | Path,
    overrides: Mapping[str, Any] | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    jobs: int | None = None,
    budget: str = "paper",
    minutes: float | None = None,
) -> Path:
    """Train and evaluate each row with each seed, then write ``table.csv``, ``table.md`` and ``table.png``.

    Finished runs are kept, interrupted ones resumed, and runs with other values raise an error. The images are decoded
    once, into ``cache/``, and generated data are made once, for all runs. If runs fail, the table has the others, and a
    `SaganError` names the failed ones.

    Args:
        study: one of `STUDIES`, a JSON file of rows, or the rows: overrides of the config by the row's name.
        config_file: a bundle's ``train.json``.
        output_dir: everything goes below it: a run into ``<row>/seed<k>/``, with its output in ``output.txt``.
        overrides: of all runs, by config key.
        seeds: of the runs of each row.
        jobs: runs at a time; None: one for each core of the CPU, or for each GPU.
        budget: one of `BUDGETS`, applied before ``overrides``.
        minutes: of training, for each run, in place of the budget's iterations: so many iterations as take that long
            at the pace that is measured once for each row.

    Returns:
        the table's Markdown file.

    >>> run_study("table5", "bundles/phantom/train.json", "runs/study")
    Traceback (most recent call last):
    monai_sagan.errors.SaganError: there is no study 'table5'; use one of table2, table3, table4, or a JSON file of rows
    """
    from monai_sagan.models.device import check_device  # torch takes seconds, and nothing else here needs it

    name, rows = named_rows(study)
    folder, bundle = Path(output_dir).resolve(), Bundle(config_file)
    chosen = _overrides(rows, overrides or {}, seeds, budget, minutes)
    fitted = fit_rows(bundle, rows, budget, chosen)
    for one in fitted.values():
        bundle.check_keys(one.values, OPTIONS)
    device = str(check_device(bundle.read("device", chosen)))
    slots(device, len(rows) * len(seeds), jobs)  # raises for a wrong number of jobs before anything takes time
    with hold_folder(folder, "study") as keep_open:
        chosen = _shared(bundle, folder, chosen)
        fitted = fit_rows(bundle, rows, budget, chosen)
        _check_values(bundle, fitted)  # raises for a wrong value before anything takes time
        counts = _counts(bundle.read("datalist", chosen))
        if minutes is not None:
            places = slots(device, len(rows) * len(seeds), jobs)
            fitted = rows_of_equal_time(bundle, folder, fitted, minutes, places, keep_open)
            _check_values(bundle, fitted)
        values = {row: one.values for row, one in fitted.items()}
        readable = [bundle.images({**own, "output_dir": str(folder)}) for own in values.values()]
        runs = plan_runs(bundle, folder, values, seeds, {}, readable[0])
        left = [run for run in runs if not is_finished(run)]
        asked = {"study": name, "config_file": str(bundle.path), "seeds": list(seeds), "budget": budget} | chosen
        asked |= {} if minutes is None else {"minutes": minutes}
        write_text(folder / run_files.CONFIG, json.dumps({"kind": "study"} | asked, indent=2, default=str) + "\n")
        _announce(name, runs, left, chosen, folder)
        outcomes = _run(left, device, jobs, keep_open)
        finished = [run for run in runs if is_finished(run)]
        limit = f"budget {budget}" if minutes is None else f"budget {budget}, {minutes:g} minutes a run"
        notes = [*_notes(name, bundle, limit, chosen, runs, counts), *describe_skipped(fitted)]
        table = _table(study, folder, bundle, fitted, finished, counts, notes) if finished else None
        if table is None or len(finished) < len(runs):
            raise SaganError(_failures(outcomes, finished, table))
    return table


def _check_values(bundle: Bundle, fitted: Mapping[str, FittedRow]) -> None:
    for row, one in fitted.items():
        try:
            bundle.run_config(one.values)
            if "settings" in bundle.keys:  # a config of one's own may lack them
                check_epochs(bundle.settings(one.values), one.method)
        except SaganError as error:
            raise SaganError(f"the row {row}: {error}" if len(fitted) > 1 else str(error)) from None


def _table(
    study: str | Rows,
    folder: Path,
    bundle: Bundle,
    fitted: Mapping[str, FittedRow],
    finished: Sequence[Run],
    counts: tuple[int, int, int, int],
    notes: Sequence[str],
) -> Path:
    """The table of the finished runs, with that of the costs, and what methods add to the notes."""
    from monai_sagan.bundle.method_options import learns_from
    from monai_sagan.methods import find_method

    methods = {row: one.method for row, one in fitted.items()}
    published = published_figures(study, counts, methods)
    learns = {row: learns_from(find_method(method)) for row, method in methods.items()}
    settings = {row: bundle.settings(one.values) for row, one in fitted.items() if "settings" in bundle.keys}
    costs = row_costs(finished, settings)
    write_text(folder / "cost.csv", costs_as_csv(costs))
    notes = [*notes, *_notes_of_methods(methods, published)]
    return write_table(
        folder, list(fitted), finished, notes, published, learns, costs_as_markdown(costs) if costs else ""
    )


def _notes_of_methods(methods: Mapping[str, str], published: Mapping[str, Any]) -> list[str]:
    from monai_sagan.methods import find_method

    notes = []
    if any("unlabeled" not in find_method(method).streams for method in methods.values()):
        notes.append(
            "Methods that learn from normal images alone read no unlabeled image, not even to choose a model: their "
            "`aucp` is the last one."
        )
    if published and len(set(methods.values())) > 1:
        notes.append(
            "Published figures of Table 2 are of the authors' runs, several of them at other resolutions, with models "
            "chosen on the test images or in a way that is not known; AMAE has no public code, and ours is a "
            "re-creation."
        )
    return notes


def _run(left: Sequence[Run], device: str, jobs: int | None, keep_open: Sequence[int]) -> list[Outcome]:
    todo = [Job(run.name, run.command, run.folder) for run in left]
    return run_jobs(todo, slots(device, len(todo), jobs), keep_open=keep_open) if todo else []


def _overrides(
    rows: Rows, overrides: Mapping[str, Any], seeds: Sequence[int], budget: str, minutes: float | None
) -> dict[str, Any]:
    if budget not in BUDGETS:
        raise SaganError(f"there is no budget {budget!r}; use one of {', '.join(BUDGETS)}")
    if not seeds or len(set(seeds)) < len(seeds) or any(type(seed) is not int or seed < 0 for seed in seeds):
        raise SaganError(f"seeds is {list(seeds)}; give one or more different whole numbers, for example 0 1 2")
    if minutes is not None and not 0 < minutes < math.inf:
        raise SaganError(f"minutes is {minutes}; give a number above 0")
    decided = {"seed", "output_dir", *(LENGTH if minutes is not None else ())}.union(*rows.values())
    for key in overrides:
        if key in decided:
            raise SaganError(f"--{key} is set by the study; leave it out (use --seeds to vary runs)")
    return dict(overrides)


def _shared(bundle: Bundle, folder: Path, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Overrides with a dataset and a cache for all runs, instead of those of their output folders."""
    dataset = bundle.read("dataset_dir", {**overrides, "output_dir": str(folder)})
    cache = overrides.get("cache_dir", folder / "cache")
    return {**overrides, "dataset_dir": str(Path(dataset).resolve()), "cache_dir": str(Path(cache).resolve())}


def _counts(datalist: Datalist) -> tuple[int, int, int, int]:
    labels = [item["label"] for item in datalist["test"]]
    if min(labels.count(0), labels.count(1)) < 2:
        raise SaganError("a study compares AUCs; the test split needs two or more normal and abnormal images each")
    return len(datalist["normal"]), len(datalist["unlabeled"]), labels.count(0), labels.count(1)


def _announce(name: str, runs: Sequence[Run], left: Sequence[Run], chosen: Mapping[str, Any], folder: Path) -> None:
    shown = ", ".join(f"{key} {value}" for key, value in chosen.items())
    print(f"{name}: {len(runs)} runs below {folder}, {len(runs) - len(left)} of them finished; {shown}")


def _notes(
    name: str,
    bundle: Bundle,
    limit: str,
    chosen: Mapping[str, Any],
    runs: Sequence[Run],
    counts: tuple[int, int, int, int],
) -> list[str]:
    """The notes below the table."""
    places = {"dataset_dir", "cache_dir"}
    shown = ", ".join(f"{key} {value}" for key, value in chosen.items() if key not in places) or "none"
    notes = [
        f"{name} of {bundle.path.parent.name}/{bundle.path.name}, {limit}; overrides of all rows: {shown}.",
        f"{counts[2]} normal and {counts[3]} abnormal test images, the same in every run.",
    ]
    sizes = {run.seed: run.values["unlabeled_size"] for run in runs if "unlabeled_size" in run.values}
    if sizes:
        several = ", ".join(str(size) for size in sorted(set(sizes.values())))
        notes.append(f"Unlabeled training images: {several} in every row, the most that all rows can have.")
    if any(run.values.get("anomaly_ratio") == 0 for run in runs):
        notes.append("Where no unlabeled image is abnormal, AUCp cannot choose a model: read `last` in these rows.")
    return notes


def _failures(outcomes: Sequence[Outcome], finished: Sequence[Run], table: Path | None) -> str:
    names = {run.name for run in finished}
    failed = [outcome for outcome in outcomes if outcome.job.name not in names]
    shown = "; ".join(f"{o.job.name}: {describe_failure(o)}, see {o.job.folder / 'output.txt'}" for o in failed)
    rest = f"; {table} has the others" if table else ""
    runs = f"{len(failed)} run{'s' * (len(failed) > 1)} failed"
    return f"{runs}; the same command tries again: {shown}{rest}"
