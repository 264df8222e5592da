"""The results in pictures: ROC and precision-recall curves, histograms of scores, training curves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from monai_sagan.metrics.histogram import score_histogram
from monai_sagan.report.curves import roc_and_precision_recall
from monai_sagan.report.html import Html, paragraph, section, tag
from monai_sagan.report.numbers import count, fraction, percent
from monai_sagan.report.summary import best_baseline, row_title
from monai_sagan.report.svg import ROW, Frame, area, axes, bars, chart, heading, line, rows, rule, rules
from monai_sagan.runs.read import Run

MOST = 240  # points of a training curve
RESAMPLES = 1000  # of a band
CURVES = {
    "critic": "critic, without its penalty: the lower, the better it separates restored from normal images",
    "gradient_penalty": "gradient penalty",
    "loss": "generator: weighted sum of its losses",
    "adversarial": "generator: adversarial loss",
    "identity": "generator: identity loss",
    "reconstruction": "generator: reconstruction loss",
    "aucp": "validation AUCp, which chooses the model",
}


def curves_section(run: Run) -> Html:
    """ROC and precision-recall curve of the chosen model with bands, and those of the best baseline."""
    if not run.comparable:
        text = "The curves need normal and abnormal test images with labels."
        return section("curves", "Curves", paragraph(text, id="no-curves"))
    labels = [label for label in run.labels if label is not None]
    known = {
        name: [score for score, label in zip(scores, run.labels, strict=True) if label is not None]
        for name, scores in run.scores.items()
    }
    roc, recall = roc_and_precision_recall(known[run.models[0]], labels, RESAMPLES)
    baseline = best_baseline(run)
    others = roc_and_precision_recall(known[baseline], labels, 2) if baseline in known else None
    share = sum(labels) / len(labels)
    auc, ap = fraction(run.chosen.get("auc")), fraction(run.chosen.get("ap"))
    chances = ([0, 1], [share, share])  # up, at both ends of the axis across
    words = (("false positive rate (1 - specificity)", "sensitivity"), ("recall (sensitivity)", "precision"))
    titles = (f"ROC curve, area {auc}", f"Precision-recall curve, average precision {ap}")
    frame = Frame((0, 1))
    figures = []
    for i, curve in enumerate((roc, recall)):
        drawn = [
            axes(frame, *words[i]),
            line(frame, [0, 1], chances[i], "chance"),
            area(frame, curve.at, curve.low, curve.high, "band"),
            line(frame, others[i].x, others[i].y, "other") if others else None,
            line(frame, curve.x, curve.y, "first"),
        ]
        shown = chart(frame, titles[i], *(part for part in drawn if part is not None))
        figures.append(tag("figure", shown, tag("figcaption", titles[i])))
    note = (
        f"Solid: {row_title(run.models[0], run)}, with pointwise 95 % bands ({RESAMPLES:,} bootstrap samples, "
        f"stratified). Dotted: chance."
    )
    dashed = f" Dashed: the best baseline, {row_title(baseline, run)}." if baseline and others else ""
    return section("curves", "Curves", tag("div", *figures, class_="charts"), paragraph(note + dashed, kind="soft"))


def scores_section(run: Run) -> Html:
    """A histogram of the scores of each kind of test images, on one scale, with the thresholds."""
    scores = np.array(run.scores[run.models[0]])
    points = [p for p in run.chosen.get("operating_points") or [] if p.get("threshold") is not None]
    low, high = _bulk(scores, run.labels)
    counts = score_histogram(scores.clip(low, high), run.labels)
    first, last = counts["edges"][0], counts["edges"][-1]
    drawn = [p for p in points if first - (last - first) / 2 <= p["threshold"] <= last + (last - first) / 2]
    note = "Scores of the chosen model; higher is more abnormal."
    note += " Dashed: thresholds set on validation normals." if drawn else ""
    notes = [note]
    if far := int(((scores < low) | (scores > high)).sum()):
        outliers = f"{count(far, 'outlier')} of their kind in the outermost bars."
        notes += [" ", tag("span", outliers, id="outliers")]
    for point in (p for p in points if p not in drawn):
        wanted = f"Beyond the axis: the threshold for {percent(point.get('specificity_wanted'))} specificity."
        notes += [" ", tag("span", wanted, class_="beyond")]
    figure = _histograms(counts, drawn, set(run.labels) == {None})
    return section("scores", "Scores", tag("figure", figure, tag("figcaption", *notes), class_="limit"))


def _histograms(counts: dict[str, Any], points: Sequence[dict[str, Any]], unlabeled: bool) -> Html:
    edges, unknown = counts["edges"], "test" if unlabeled else "unlabeled"
    kinds = {kind: counts[kind] for kind in ("normal", "abnormal", "unknown") if any(counts[kind])}
    names = [count(sum(n), f"{unknown if kind == 'unknown' else kind} image") for kind, n in kinds.items()]
    thresholds = [point["threshold"] for point in points]
    span = (min([edges[0], *thresholds]), max([edges[-1], *thresholds]))
    frames = rows(span, [(0, 1.04 * max(heights)) for heights in kinds.values()], 8 + ROW * len(points))
    full = replace(frames[-1], top=frames[0].top - ROW)
    drawn = [rules(full, thresholds, [f"{percent(p.get('specificity_wanted'))} specificity" for p in points])]
    for frame, kind, name in zip(frames, kinds, names, strict=True):
        across = {"across": "anomaly score"} if frame is frames[-1] else {"across": "", "x_ticks": ()}
        drawn += [axes(frame, up="images", **across), bars(frame, edges, kinds[kind], kind), heading(frame, name)]
    return chart(full, f"Scores of {', '.join(names)}", *drawn)


def _bulk(scores: np.ndarray, labels: Sequence[int | None]) -> tuple[float, float]:
    """The lowest and the highest score without the outliers of each kind: the axis follows most data."""
    ends = []
    for kind in set(labels):
        values = scores[[label == kind for label in labels]]
        low, high = np.percentile(values, (25, 75))
        reach = 3 * (high - low) or np.inf
        near = values[(values >= low - reach) & (values <= high + reach)]
        ends += [float(near.min()), float(near.max())]
    return min(ends), max(ends)


def training_section(run: Run) -> Html:
    """A small chart of each training curve."""
    if run.history is None or not run.history.get("iteration"):
        return section("training", "Training", paragraph("No history.csv, so no training curves.", id="no-history"))
    iterations = np.array(run.history["iteration"])
    chosen = run.chosen.get("iteration")
    names = [name for name in CURVES if name in run.history]
    names += [name for name in run.history if name not in CURVES and name != "iteration"]
    figures = [_curve(iterations, np.array(run.history[name]), CURVES.get(name, name), chosen) for name in names]
    drawn = [figure for figure in figures if figure is not None]
    note = "Each point is the mean since the previous one. Dashed: the iteration of the chosen model."
    return section("training", "Training", tag("div", *drawn, class_="charts small"), paragraph(note, kind="soft"))


def _curve(iterations: np.ndarray, values: np.ndarray, words: str, chosen: int | None) -> Html | None:
    there = np.isfinite(values) & np.isfinite(iterations)
    xs, ys = _thinned(iterations[there]), _thinned(values[there])
    if not len(xs):
        return None
    low, high = float(ys.min()), float(ys.max())
    room = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    frame = Frame((0, float(iterations.max()) or 1.0), (low - room, high + room), 300, 190)
    mark = rule(frame, chosen) if isinstance(chosen, int) and 0 < chosen <= frame.x[1] else None
    title = f"{words[:1].upper()}{words[1:]}"
    parts = [axes(frame, "iteration", ""), mark, line(frame, xs, ys, "first")]
    drawn = chart(frame, title, *(part for part in parts if part is not None))
    return tag("figure", drawn, tag("figcaption", title))


def _thinned(values: np.ndarray) -> np.ndarray:
    """Means of neighbors, at most `MOST`."""
    width = math.ceil(len(values) / MOST)
    return np.array([part.mean() for part in np.split(values, range(width, len(values), width))]) if width else values
