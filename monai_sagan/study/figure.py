"""The picture of a study's table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monai_sagan.runs.score_table import REASON, is_oracle

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from monai_sagan.study.table import Entry

# Blue, orange and grey that are distinct for color-blind readers; shapes differ, too.
STYLES = {"aucp": ("o", "#0072b2"), "last": ("s", "#d55e00"), "oracle_test": ("^", "#777777")}


def draw_table(path: str | Path, entries: Sequence[Entry]) -> None:
    """Write a PNG: each row's AUC with its interval, single runs beside it, baselines and published values as marks."""
    make_figure(entries).savefig(path, format="png", metadata={"Software": None})


def make_figure(entries: Sequence[Entry]) -> Figure:
    """The picture that `draw_table` writes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = list(dict.fromkeys(entry.row for entry in entries))
    figure = Figure(figsize=(max(4.5, 1.1 * len(rows) + 1.5), 4), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axis: Any = figure.subplots()
    axis.axhline(0.5, color="#bbbbbb", linewidth=0.8, linestyle=":")
    models = list(dict.fromkeys(entry.model for entry in entries))
    for number, model in enumerate(models):
        _draw_model(axis, [e for e in entries if e.model == model], rows, model, 0.2 * (number - (len(models) - 1) / 2))
    _draw_marks(axis, {e.row: e.baseline[1] for e in entries if e.baseline}, rows, "_", "#009e73", "best baseline")
    _draw_marks(axis, {e.row: e.published[0] for e in entries if e.published}, rows, "x", "#000000", "published")
    axis.set_xticks(range(len(rows)), rows)
    axis.set_xlim(-0.6, len(rows) - 0.4)
    axis.set_ylabel("AUC on the test images, 95 %")
    axis.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=2, frameon=False, fontsize=8)
    return figure


def _draw_model(axis: Any, entries: Sequence[Entry], rows: Sequence[str], model: str, shift: float) -> None:
    shape, color = STYLES[model]
    drawn = [(rows.index(entry.row) + shift, entry, entry.figures["auc"]) for entry in entries if entry.figures]
    if not drawn:
        return
    places, means = [place for place, _, _ in drawn], [found.mean for _, _, found in drawn]
    reach = [[found.mean - found.low for _, _, found in drawn], [found.high - found.mean for _, _, found in drawn]]
    label = f"{model} ({REASON})" if is_oracle(model) else model
    axis.errorbar(places, means, reach, fmt=shape, color=color, capsize=3, markersize=5, label=label)
    for place, runs in [(place, entry.runs["auc"]) for place, entry, _ in drawn if len(entry.seeds) > 1]:
        axis.plot([place + 0.07] * len(runs), runs, ".", color=color, alpha=0.5, markersize=4)


def _draw_marks(axis: Any, values: dict[str, float], rows: Sequence[str], shape: str, color: str, label: str) -> None:
    if values:
        size = 14 if shape == "_" else 6
        places = [rows.index(row) for row in values]
        axis.plot(places, list(values.values()), shape, color=color, markersize=size, label=label)
