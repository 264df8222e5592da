"""The head of the page: the verdict, three numbers, and the cautions."""

from __future__ import annotations

import math
import re
from typing import Any, NamedTuple

from monai_sagan.metrics.roc import roc_auc_difference_ci95
from monai_sagan.pictures.notice import RESEARCH_ONLY
from monai_sagan.report.html import Html, join, paragraph, sentence, tag
from monai_sagan.report.numbers import count, fraction, interval, percent
from monai_sagan.runs.read import Run
from monai_sagan.runs.score_table import is_oracle

BASELINES = {
    "mean_intensity": "mean intensity",
    "pca_reconstruction": "PCA reconstruction error",
    "nearest_neighbors": "nearest normal neighbors",
    "linear_pu": "linear positive-unlabeled classifier",
}
MODELS = {
    "aucp": "chosen without labels",
    "last": "last iteration",
    "oracle_test": "chosen on the test set; not a result",
}


def row_title(name: str, run: Run) -> str:
    """The title of a model or baseline."""
    key = name.removesuffix("_masked")
    words = f"{run.method}, {MODELS[key]}" if key in MODELS else BASELINES.get(key, key.replace("_", " "))
    return f"{words}, training mask on" if name.endswith("_masked") else words


def page_title(run: Run) -> str:
    """The title of the page, with the name of the dataset's folder, not its path."""
    folder = (run.config or {}).get("dataset_dir")
    parts = [part for part in re.split(r"[\\/]", str(folder or "")) if part not in ("", ".", "..", "data")]
    return f"{run.method} test report: {parts[-1]}" if parts else f"{run.method} test report"


def describe_test_images(run: Run) -> str:
    """The number of test images of each kind."""
    normal, abnormal, unlabeled = run.counts
    kinds = ((normal, "normal"), (abnormal, "abnormal"), (unlabeled, "unlabeled"))
    shown = [f"{number:,} {kind}" for number, kind in kinds if number]
    return f"{count(len(run.images), 'test image')} ({', '.join(shown)})"


def summary(run: Run) -> Html:
    """Title, verdict and the three main numbers."""
    facts = [f"{key.replace('_', ' ')} {run.config[key]}" for key in ("preset", "seed") if key in (run.config or {})]  # type: ignore[index]
    below = join(" · ".join([*facts, describe_test_images(run)]), " · ", tag("b", RESEARCH_ONLY))
    return join(
        tag("h1", page_title(run)),
        paragraph(below, kind="soft", id="facts"),
        paragraph(_verdict(run), kind="verdict", id="verdict"),
        _tiles(run) if run.comparable else None,
    )


def _verdict(run: Run) -> str:
    if not run.comparable:
        normal, abnormal, _ = run.counts
        reason = (
            f"all {normal or abnormal:,} labeled test images are {'normal' if normal else 'abnormal'}"
            if normal or abnormal
            else "no test image has a label"
        )
        return f"{count(len(run.images), 'test image')} scored; {reason}, so there is no AUC to report."
    bounds = interval(run.chosen.get("auc_ci95"))
    auc = f"{fraction(run.chosen['auc'])}{f' (95 % interval {bounds})' if bounds else ''}"
    model = "The model " + ("chosen without labels" if run.models[0] == "aucp" else f"called {run.models[0]}")
    doubt = _doubt(run) or Doubt("", "separates abnormal from normal images with an AUC of {auc}", "", "")
    return f"{model} {doubt.finding.format(auc=auc)}, on {describe_test_images(run)}{doubt.reason}."


class Doubt(NamedTuple):
    """Why the chosen model's AUC may be chance."""

    name: str
    finding: str  # of the verdict
    reason: str  # at the verdict's end
    caution: str


def _doubt(run: Run) -> Doubt | None:
    bounds = run.chosen.get("auc_ci95")
    if bounds is None:
        normal, abnormal, _ = run.counts
        few = [f"1 {kind} test image" for number, kind in ((normal, "normal"), (abnormal, "abnormal")) if number == 1]
        why = f"with {' and '.join(few)} there is no interval" if few else "no interval was computed"
        ask = "this may be chance" if few else "it is unknown whether this is better than chance"
        caution = f"the AUC has no interval: {why}, so {ask}"
        return Doubt("no-interval", "has an AUC of {auc}", f"; {why}, so {ask}", caution)
    if bounds[1] < 0.5:
        care = "the model scores normal images higher than abnormal ones: its AUC is below 0.5, which is chance"
        return Doubt("worse-than-chance", "is worse than chance, with an AUC of {auc} where 0.5 is chance", "", care)
    if bounds[0] <= 0.5:
        care = (
            "on these test images the model does not differ significantly from chance: its AUC's interval includes 0.5"
        )
        finding = "is not significantly better than chance, with an AUC of {auc} where 0.5 is chance"
        return Doubt("not-better-than-chance", finding, "", care)
    return None


def _tiles(run: Run) -> Html:
    normal, abnormal, _ = run.counts
    tiles = [
        _tile("auc", "AUC", fraction(run.chosen["auc"]), _within(run.chosen, "auc"), "0.5 is chance"),
        _tile(
            "ap",
            "Average precision",
            fraction(run.chosen.get("ap")),
            _within(run.chosen, "ap"),
            f"{abnormal / (normal + abnormal):.3f} is chance",
        ),
    ]
    points = [p for p in run.chosen.get("operating_points") or [] if p.get("sensitivity") is not None]
    if points:
        point = points[0]
        wanted = f"at the threshold for {percent(point.get('specificity_wanted'))} specificity"
        value = fraction(point["sensitivity"])
        tiles.append(_tile("sensitivity", "Sensitivity", value, _within(point, "sensitivity"), wanted))
    return tag("div", *tiles, class_="tiles")


def _within(block: dict[str, Any], name: str) -> str:
    bounds = interval(block.get(f"{name}_ci95"))
    return f"95 % interval {bounds}" if bounds else "no interval computed"


def _tile(id: str, name: str, value: str, *below: str) -> Html:
    lines = (tag("span", line) for line in below)
    return tag("div", tag("span", name), tag("b", value), *lines, class_="tile", id=f"tile-{id}")


def cautions(run: Run) -> Html | None:
    """What limits the numbers of the run, or None."""
    found: dict[str, str | None] = {}  # ids by their sentences
    if run.comparable and (doubt := _doubt(run)):
        found[doubt.caution] = doubt.name
    if (baseline := compare_baseline(run)).caution:
        found[baseline.words] = "baseline"
    found |= dict.fromkeys([*run.metrics.get("warnings", []), *(run.audit or {}).get("warnings", [])])
    if run.skipped:
        found[f"{count(len(run.skipped), 'file')} could not be used"] = "skipped"
    if run.audit is None:
        found["the splits were not audited for duplicates and shared patients (no audit.json)"] = "no-audit"
    if _still_rising(run):
        found["AUCp was highest at the last validation: training may have been too short"] = "still-rising"
    if any(map(is_oracle, run.models)):
        found["the row chosen on the test set is not a result but an upper bound"] = "oracle"
    if not found:
        return None
    entries = (tag("li", sentence(run.names.short(words)), id=id and f"caution-{id}") for words, id in found.items())
    return tag("div", paragraph(tag("b", "Read with care")), tag("ul", *entries), class_="note", id="cautions")


def _still_rising(run: Run) -> bool:
    """Whether the last of several validations was the best one."""
    values = [value for value in (run.history or {}).get("aucp", []) if not math.isnan(value)]
    return len(values) > 2 and values[-1] == max(values)


def best_baseline(run: Run) -> str | None:
    """The baseline with the highest AUC, or None."""
    blocks = run.metrics.get("baselines") or {}
    known = [name for name in sorted(blocks) if (blocks[name] or {}).get("auc") is not None]
    return max(known, key=lambda name: blocks[name]["auc"]) if known else None


class Comparison(NamedTuple):
    """How the best baseline compares with the chosen model."""

    name: str
    words: str
    caution: bool = False  # the baseline is better, or may be


def compare_baseline(run: Run) -> Comparison:
    """Compare the best baseline with the chosen model by DeLong's test, where ``scores.csv`` has both scores."""
    name = best_baseline(run)
    if name is None or run.chosen.get("auc") is None:
        return Comparison("none", "No baselines were computed for this run.")
    auc = run.metrics["baselines"][name]["auc"]
    row = f"The best baseline, {row_title(name, run)} (AUC {fraction(auc)}),"
    scores = run.scores
    bounds = roc_auc_difference_ci95(scores[run.models[0]], scores[name], run.labels) if name in scores else None
    if bounds is None:
        above = bool(auc >= run.chosen["auc"])
        words = f"{row} lies {'above' if above else 'below'} {run.method}'s AUC; no interval was computed."
        return Comparison("above" if above else "below", words, above)
    shown = f"(AUC of {run.method} minus its own, 95 % interval {bounds[0]:+.3f} to {bounds[1]:+.3f})"
    if bounds[1] < 0:
        return Comparison("better", f"{row} is better than {run.method} on these images {shown}.", True)
    if bounds[0] <= 0:
        return Comparison(
            "similar", f"{row} does not differ significantly from {run.method} on these images {shown}.", True
        )
    return Comparison("worse", f"{row} is worse than {run.method} on these images {shown}.")
