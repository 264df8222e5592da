"""The table of a study: rows with intervals, each compared with the first on the same test images."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from monai_sagan import run_files
from monai_sagan.errors import SaganError
from monai_sagan.files import write_atomic, write_text
from monai_sagan.metrics.roc import delong
from monai_sagan.runs.consistency import check_same_evaluation
from monai_sagan.runs.score_table import REASON, ScoreTable, is_oracle, read_scores
from monai_sagan.study.plan import Run, read_metrics
from monai_sagan.study.statistics import Estimate, ap_covariance, estimate

MODELS = ("aucp", "last", "oracle_test")
MEASURES = ("auc", "ap")

Array = NDArray[np.float64]

METHOD = """\
Mean over seeds, with a 95 % interval for both other test images and other seeds: its half width squared is 1.96^2 times
the mean covariance of two seeds' figures over test sets (DeLong for AUC, the jackknife for AP) plus t^2 times the
variance between the K seeds over K (t of Student, K - 1 degrees of freedom), and no less than the test-set part of
these models' mean; on the logit scale. It is conservative. With one seed it covers the test images alone: another seed
may well lie outside. A difference is paired by seed and image, with an interval of the same kind; when that includes 0
it is *inside the noise*. The intervals are not corrected for several rows."""
EXPLAINED = """\
`aucp`: the model chosen without labels. `last`: the last one. `oracle_test`: chosen on the test set, so not a result.
The baseline is the best of those without a network (`metrics.json`, `baselines`) by test AUC."""


@dataclass(frozen=True)
class Entry:
    """A line of the table: a row's runs with one choice of the model."""

    row: str
    model: str  # ``aucp``, ``last`` or ``oracle_test``
    seeds: tuple[int, ...]  # of the finished runs
    runs: Mapping[str, Array]  # ``auc`` and ``ap`` of each of them, (S,)
    figures: Mapping[str, Estimate] | None  # ``auc`` and ``ap`` with their intervals; None without runs
    difference: Estimate | None  # of the AUC to the first row; None for that row, and without seeds in common
    baseline: tuple[str, float] | None  # the best baseline's name and AUC
    published: tuple[float, float] | None  # AUC and AP that the paper prints
    ap_difference: Estimate | None = None  # of the AP, likewise
    learns_from: str = ""  # the kinds of training images, where rows are of different methods

    @property
    def inside_noise(self) -> bool | None:
        """Whether the interval of the difference includes 0; None without a difference."""
        return None if self.difference is None else self.difference.low <= 0 <= self.difference.high


def write_table(
    folder: Path,
    rows: Sequence[str],
    runs: Sequence[Run],
    notes: Sequence[str],
    published: Mapping[str, tuple[float, float]],
    learns_from: Mapping[str, str] = MappingProxyType({}),
    costs: str = "",
) -> Path:
    """Write ``table.csv``, ``table.md`` and ``table.png`` of the finished runs; returns the Markdown file.

    Every row is compared with the first of ``rows``; ``published`` has AUC and AP by row, ``learns_from`` the kinds of
    training images; ``costs`` is a second table in Markdown.
    """
    from monai_sagan.study.figure import draw_table

    entries = make_entries(rows, runs, published, learns_from)
    write_text(folder / "table.csv", _csv(entries))
    write_text(folder / "table.md", _markdown(entries, [*notes, METHOD, EXPLAINED, *[costs] * bool(costs)]))
    write_atomic(folder / "table.png", lambda unfinished: draw_table(unfinished, entries))
    return folder / "table.md"


def make_entries(
    rows: Sequence[str],
    runs: Sequence[Run],
    published: Mapping[str, tuple[float, float]] | None = None,
    learns_from: Mapping[str, str] = MappingProxyType({}),
) -> list[Entry]:
    """The lines of the table, see `write_table`."""
    labels, scores = _read_scores(runs)
    published, trials = published or {}, int(np.bincount(labels).min())
    entries = []
    for model in MODELS:
        if not all(model in found for found in scores.values()):
            continue
        matrix = np.stack([scores[run.folder][model] for run in runs])
        measured = {"auc": delong(list(matrix), labels), "ap": ap_covariance(matrix, labels)}
        places = {row: {run.seed: i for i, run in enumerate(runs) if run.row == row} for row in rows}
        for row in rows:
            own = list(places[row].values())
            entries.append(
                Entry(
                    row,
                    model,
                    tuple(places[row]),
                    {name: measured[name][0][own] for name in MEASURES},
                    {name: _estimate(*measured[name], own, trials) for name in MEASURES} if own else None,
                    None if row == rows[0] else _difference(*measured["auc"], places[row], places[rows[0]]),
                    _best_baseline([run for run in runs if run.row == row]),
                    published.get(row),
                    None if row == rows[0] else _difference(*measured["ap"], places[row], places[rows[0]]),
                    learns_from.get(row, ""),
                )
            )
    order = {row: i for i, row in enumerate(rows)}
    return sorted(entries, key=lambda entry: order[entry.row])


def _estimate(values: Array, covariance: Array, own: Sequence[int], trials: int) -> Estimate:
    return estimate(values[own], covariance[np.ix_(own, own)], trials)


def _difference(values: Array, covariance: Array, own: Mapping[int, int], first: Mapping[int, int]) -> Estimate | None:
    common = [(own[seed], first[seed]) for seed in own if seed in first]
    if not common:
        return None
    contrast = np.zeros((len(common), len(values)))
    for i, (mine, its) in enumerate(common):
        contrast[i, mine], contrast[i, its] = 1, -1
    return estimate(contrast @ values, contrast @ covariance @ contrast.T)


def _best_baseline(runs: Sequence[Run]) -> tuple[str, float] | None:
    found: dict[str, list[float]] = {}
    for run in runs:
        for name, figures in ((read_metrics(run.folder) or {}).get("baselines") or {}).items():
            if figures.get("auc") is not None:
                found.setdefault(name, []).append(figures["auc"])
    means = {name: float(np.mean(values)) for name, values in found.items()}
    return max(means.items(), key=lambda pair: pair[1]) if means else None


def _read_scores(runs: Sequence[Run]) -> tuple[NDArray[np.int64], dict[Path, dict[str, Array]]]:
    """Labels (N,) of the labeled test images, and the scores (N,) of each run by its folder and the model."""
    tables = {run.folder: _table(run.folder) for run in runs}
    first, expected = next(iter(tables.items()))
    for folder, table in tables.items():
        if (table.images, table.labels) != (expected.images, expected.labels):
            raise SaganError(f"{folder} and {first} scored different test images; their metrics are not comparable")
    known = [i for i, label in enumerate(expected.labels) if label is not None]
    labels = np.array([expected.labels[i] for i in known], dtype=np.int64)
    scores = {
        folder: {model: np.array(table.scores[model])[known] for model in MODELS if model in table.scores}
        for folder, table in tables.items()
    }
    for folder, found in scores.items():
        check_same_evaluation(folder, read_metrics(folder) or {}, found, labels, f"delete {folder}")
    return labels, scores


def _table(folder: Path) -> ScoreTable:
    return read_scores(folder / run_files.SCORES, MODELS[0], f"delete {folder} and run the study again")


def _csv(entries: Sequence[Entry]) -> str:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    figures = [f"{measure}{part}" for measure in MEASURES for part in ("", "_sd", "_low", "_high", "_runs")]
    differences = ["auc_difference", "auc_difference_low", "auc_difference_high", "inside_noise"]
    others = ["trivial", "trivial_auc", "published_auc", "published_ap"]
    ap_differences = ["ap_difference", "ap_difference_low", "ap_difference_high"]
    more = [*ap_differences, "learns_from"]
    rows.writerow(["row", "model", "no_result", "seeds", *figures, *differences, *others, *more])
    for entry in entries:
        cells = [entry.row, entry.model, REASON if is_oracle(entry.model) else "", " ".join(map(str, entry.seeds))]
        for measure in MEASURES:
            found = entry.figures[measure] if entry.figures else None
            cells += [_plain(v) for v in ((found.mean, found.sd, found.low, found.high) if found else [None] * 4)]
            cells.append(" ".join(_plain(value) for value in entry.runs[measure]))
        cells += _plain_gap(entry.difference)
        cells.append("" if entry.inside_noise is None else str(entry.inside_noise).lower())
        name, auc = entry.baseline or ("", None)
        cells += [name, _plain(auc), *(_plain(value) for value in entry.published or (None, None))]
        rows.writerow([*cells, *_plain_gap(entry.ap_difference), entry.learns_from])
    return text.getvalue()


def _plain_gap(gap: Estimate | None) -> list[str]:
    return [_plain(value) for value in ((gap.mean, gap.low, gap.high) if gap else [None] * 3)]


def _plain(value: float | None) -> str:
    return "" if value is None else f"{value:.6f}"


def _markdown(entries: Sequence[Entry], notes: Sequence[str]) -> str:
    first = entries[0].row
    mixed = len({entry.learns_from for entry in entries}) > 1
    head = ["row", *["learns from"] * mixed, "model", "seeds", "AUC [95 %]", "each run", "AP [95 %]", "baseline"]
    compared = any(entry.row != first for entry in entries)
    published = any(entry.published for entry in entries)
    gaps = [f"{measure} minus {first} [95 %]" for measure in ("AUC", "AP")]
    head += gaps * compared + ["published AUC / AP"] * published
    lines = [head, ["---"] * len(head)]
    for entry in entries:
        auc, ap = (_figure(entry.figures[name] if entry.figures else None) for name in MEASURES)
        each = " ".join(f"{value:.3f}" for value in entry.runs["auc"])
        baseline = f"{entry.baseline[0]} {entry.baseline[1]:.3f}" if entry.baseline else ""
        mark = " (no result)" if is_oracle(entry.model) else ""
        cells = [entry.row, *[entry.learns_from] * mixed, f"`{entry.model}`{mark}", str(len(entry.seeds))]
        cells += [auc, each, ap, baseline]
        cells += [_gap(entry.difference), _gap(entry.ap_difference)] * compared
        cells += [" / ".join(f"{value:.4f}" for value in entry.published or ())] * published
        lines.append(cells)
    table = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
    return table + "\n\n" + "\n\n".join(notes) + "\n"


def _figure(found: Estimate | None) -> str:
    if not found:
        return "no run finished"
    spread = "" if found.sd is None else f", sd {found.sd:.3f}"
    return f"{found.mean:.3f} [{found.low:.3f}, {found.high:.3f}]{spread}"


def _gap(gap: Estimate | None) -> str:
    if gap is None:
        return ""
    verdict = ", inside the noise" if gap.low <= 0 <= gap.high else ""
    return f"{gap.mean:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}]{verdict}{', of one seed' * (gap.sd is None)}"
