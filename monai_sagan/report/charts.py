"""The results in pictures: ROC and precision-recall curves, histograms of scores, training curves."""

from __future__ import annotations

import math

import numpy as np

from monai_sagan.metrics.histogram import score_histogram
from monai_sagan.report.curves import roc_and_precision_recall
from monai_sagan.report.html import Html, join, paragraph, section, tag
from monai_sagan.report.numbers import count, fraction, percent
from monai_sagan.report.run_folder import Run
from monai_sagan.report.summary import best_baseline, model_words
from monai_sagan.report.svg import ROW, Frame, area, axes, bars, chart, line, rule, rules

__all__ = ["curves_section", "scores_section", "training_section"]

MOST = 240  # points of a training curve
RESAMPLES = 1000  # of a band
CURVES = {
    "critic": "critic, without its penalty: the lower, the better it tells restored from normal images",
    "gradient_penalty": "gradient penalty",
    "loss": "generator: weighted sum of its losses",
    "adversarial": "generator: adversarial loss",
    "identity": "generator: identity loss",
    "reconstruction": "generator: reconstruction loss",
    "aucp": "validation AUCp, which chooses the model",
}


def curves_section(run: Run) -> Html:
    """ROC and precision-recall curve of the chosen model of ``run``.

    With bands, and beside those of the best trivial row where it is known.
    """
    if not run.comparable:
        text = "Without normal and abnormal labels in the test there are no curves."
        return section("curves", "Curves", paragraph(text))
    labels = [label for label in run.labels if label is not None]
    known = {
        name: [score for score, label in zip(scores, run.labels, strict=True) if label is not None]
        for name, scores in run.scores.items()
    }
    roc, recall = roc_and_precision_recall(known[run.models[0]], labels, RESAMPLES)
    trivial = best_baseline(run)
    others = roc_and_precision_recall(known[trivial], labels, 2) if trivial in known else None
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
        f"Solid: {model_words(run.models[0])}, with pointwise 95 % bands ({RESAMPLES:,} bootstrap samples, normal and "
        f"abnormal images drawn apart). Dotted: chance."
    )
    dashed = f" Dashed: the best trivial row, {model_words(trivial)}." if trivial and others else ""
    return section("curves", "Curves", tag("div", *figures, class_="charts"), paragraph(note + dashed, kind="soft"))


def scores_section(run: Run) -> Html:
    """A histogram for each kind of test image of ``run``, one above the other on one scale, with the thresholds."""
    counts = score_histogram(run.scores[run.models[0]], run.labels)
    edges = counts.pop("edges")
    points = [p for p in run.chosen.get("operating_points") or [] if p.get("threshold") is not None]
    thresholds = [point["threshold"] for point in points]
    span = (min([edges[0], *thresholds]), max([edges[-1], *thresholds]))
    figures: list[Html] = []
    for kind, heights in counts.items():
        if not any(heights):
            continue
        labels = [] if figures else [f"{percent(point.get('specificity_wanted'))} specificity" for point in points]
        top = 8 + ROW * len(labels)
        frame = Frame(span, (0, 1.04 * max(heights)), height=150 + top, top=top)
        lines = rules(frame, thresholds, labels) if labels else join(*(rule(frame, at) for at in thresholds))
        unlabeled = "test" if set(run.labels) == {None} else "unlabeled"
        words = unlabeled if kind == "unknown" else kind
        title = f"Scores of {count(sum(heights), f'{words} image')}"
        drawn = [axes(frame, "anomaly score", "images"), bars(frame, edges, heights, kind), lines]
        figures.append(tag("figure", chart(frame, title, *drawn), tag("figcaption", title)))
    dashed = " Dashed: thresholds set on validation normals." if points else ""
    note = paragraph(f"Scores of the chosen model; higher is more abnormal.{dashed}", kind="soft")
    return section("scores", "Scores", tag("div", *figures, class_="limit"), note)


def training_section(run: Run) -> Html:
    """A small chart for each training curve of ``run``."""
    if run.history is None or not run.history.get("iteration"):
        return section("training", "Training", paragraph("The run's folder has no history.csv: no training curves."))
    iterations = np.array(run.history["iteration"])
    chosen = run.chosen.get("iteration")
    names = [name for name in CURVES if name in run.history]
    names += [name for name in run.history if name not in CURVES and name != "iteration"]
    figures = [_curve(iterations, np.array(run.history[name]), CURVES.get(name, name), chosen) for name in names]
    drawn = [figure for figure in figures if figure is not None]
    note = "Means since the point before. Dashed: the iteration of the chosen model."
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
    """Means of neighbors, so that at most `MOST` points remain."""
    width = math.ceil(len(values) / MOST)
    return np.array([part.mean() for part in np.split(values, range(width, len(values), width))]) if width else values
