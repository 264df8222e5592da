"""The head of the page: what was found, in one sentence and three numbers, and what to be careful about."""

from __future__ import annotations

import math
import re
from typing import Any

from monai_sagan.metrics.roc import roc_auc_difference_ci95
from monai_sagan.pictures.notice import RESEARCH_ONLY
from monai_sagan.report.html import Html, join, paragraph, sentence, tag
from monai_sagan.report.numbers import count, fraction, interval, percent
from monai_sagan.runs.read import Run
from monai_sagan.runs.score_table import is_oracle

__all__ = ["best_baseline", "cautions", "compare_baseline", "model_words", "summary", "test_images", "title"]

BASELINES = {
    "mean_intensity": "mean intensity",
    "pca_reconstruction": "PCA reconstruction error",
    "nearest_neighbors": "nearest normal neighbors",
    "linear_pu": "linear positive-unlabeled classifier",
}
MODELS = {
    "aucp": "SAGAN, chosen without labels",
    "last": "SAGAN, last iteration",
    "oracle_test": "SAGAN, chosen on the test set; not a result",
}


def model_words(name: str) -> str:
    """A row's name in words."""
    plain = name.removesuffix("_masked")
    words = MODELS.get(plain, BASELINES.get(plain, plain.replace("_", " ")))
    return f"{words}, training mask on" if name.endswith("_masked") else words


def title(run: Run) -> str:
    """The title of the page of ``run``; it names the data's folder and not where that lies."""
    folder = (run.config or {}).get("dataset_dir")
    parts = [part for part in re.split(r"[\\/]", str(folder or "")) if part not in ("", ".", "..", "data")]
    return f"SAGAN test report: {parts[-1]}" if parts else "SAGAN test report"


def test_images(run: Run) -> str:
    """How many test images of each kind ``run`` has."""
    normal, abnormal, unlabeled = run.counts
    kinds = ((normal, "normal"), (abnormal, "abnormal"), (unlabeled, "unlabeled"))
    shown = [f"{number:,} {kind}" for number, kind in kinds if number]
    return f"{count(len(run.images), 'test image')} ({', '.join(shown)})"


def summary(run: Run) -> Html:
    """Title, verdict and the three numbers that count of ``run``."""
    facts = [f"{key.replace('_', ' ')} {run.config[key]}" for key in ("preset", "seed") if key in (run.config or {})]  # type: ignore[index]
    below = join(" · ".join([*facts, test_images(run)]), " · ", tag("b", RESEARCH_ONLY))
    return join(
        tag("h1", title(run)),
        paragraph(below, kind="soft"),
        paragraph(_verdict(run), kind="verdict"),
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
    doubt = _doubt(run)
    if doubt is None:
        return f"{model} tells abnormal from normal images with an AUC of {auc}, on {test_images(run)}."
    return f"{model} {doubt[0].format(auc=auc)}, on {test_images(run)}{doubt[1]}."


def _doubt(run: Run) -> tuple[str, str, str] | None:
    """Why the chosen model's AUC may be chance: two parts of the verdict, and what to be careful about; else None."""
    bounds = run.chosen.get("auc_ci95")
    if bounds is None:
        normal, abnormal, _ = run.counts
        few = [f"1 {kind} test image" for number, kind in ((normal, "normal"), (abnormal, "abnormal")) if number == 1]
        why = f"with {' and '.join(few)} there is no interval" if few else "no interval was computed"
        ask = "this may be chance" if few else "whether this is better than chance is not known"
        return "has an AUC of {auc}", f"; {why}, so {ask}", f"the AUC has no interval: {why}, so {ask}"
    if bounds[1] < 0.5:
        care = "the model scores normal images higher than abnormal ones: its AUC is below 0.5, which is chance"
        return "is worse than chance, with an AUC of {auc} where 0.5 is chance", "", care
    if bounds[0] <= 0.5:
        care = "these test images do not tell the model from chance: the interval of its AUC holds 0.5"
        return "is not shown to be better than chance, with an AUC of {auc} where 0.5 is chance", "", care
    return None


def _tiles(run: Run) -> Html:
    normal, abnormal, _ = run.counts
    tiles = [
        _tile("AUC", fraction(run.chosen["auc"]), _within(run.chosen, "auc"), "0.5 is chance"),
        _tile(
            "Average precision",
            fraction(run.chosen.get("ap")),
            _within(run.chosen, "ap"),
            f"{abnormal / (normal + abnormal):.3f} is chance",
        ),
    ]
    points = [p for p in run.chosen.get("operating_points") or [] if p.get("sensitivity") is not None]
    if points:
        point = points[0]
        wanted = f"at a threshold meant for {percent(point.get('specificity_wanted'))} specificity"
        tiles.append(_tile("Sensitivity", fraction(point["sensitivity"]), _within(point, "sensitivity"), wanted))
    return tag("div", *tiles, class_="tiles")


def _within(block: dict[str, Any], name: str) -> str:
    bounds = interval(block.get(f"{name}_ci95"))
    return f"95 % interval {bounds}" if bounds else "no interval computed"


def _tile(name: str, value: str, *below: str) -> Html:
    return tag("div", tag("span", name), tag("b", value), *(tag("span", line) for line in below), class_="tile")


def cautions(run: Run) -> Html | None:
    """Everything that a reader must know before believing the numbers of ``run``, or None."""
    found = [*run.metrics.get("warnings", []), *(run.audit or {}).get("warnings", [])]
    if run.skipped:
        found.append(f"{count(len(run.skipped), 'file')} could not be used and were left out of the run")
    if run.audit is None:
        found.append("the splits were not audited for duplicates and shared patients (no audit.json)")
    if _still_rising(run):
        found.append("AUCp was highest at the last validation: the run may not have trained long enough")
    words, beaten = compare_baseline(run)
    if beaten:
        found.insert(0, words)
    doubt = _doubt(run) if run.comparable else None
    if doubt is not None:
        found.insert(0, doubt[2])
    if any(map(is_oracle, run.models)):
        found.append("the row chosen on the test set is not a result; it shows what looking at the test would bring")
    if not found:
        return None
    entries = [tag("li", sentence(run.names.short(entry))) for entry in dict.fromkeys(found)]
    return tag("div", paragraph(tag("b", "Read with care")), tag("ul", *entries), class_="note")


def _still_rising(run: Run) -> bool:
    """Whether the last of several validations was the best one."""
    values = [value for value in (run.history or {}).get("aucp", []) if not math.isnan(value)]
    return len(values) > 2 and values[-1] == max(values)


def best_baseline(run: Run) -> str | None:
    """The baseline of ``run`` with the highest AUC, or None."""
    blocks = run.metrics.get("baselines") or {}
    known = [name for name in sorted(blocks) if (blocks[name] or {}).get("auc") is not None]
    return max(known, key=lambda name: blocks[name]["auc"]) if known else None


def compare_baseline(run: Run) -> tuple[str, bool]:
    """How the best baseline of ``run`` stands to the chosen model, and whether it is as good or better, or may be.

    By DeLong's test of two scores of the same images, where ``scores.csv`` has both; else by the model's interval.
    """
    name = best_baseline(run)
    if name is None or run.chosen.get("auc") is None:
        return "No trivial baselines were computed for this run.", False
    auc = run.metrics["baselines"][name]["auc"]
    row = f"The best baseline, {model_words(name)} (AUC {fraction(auc)}),"
    scores = run.scores
    bounds = roc_auc_difference_ci95(scores[run.models[0]], scores[name], run.labels) if name in scores else None
    if bounds is None:
        above = auc >= run.chosen["auc"]
        return f"{row} lies {'above' if above else 'below'} SAGAN's AUC; no interval was computed.", bool(above)
    shown = f"(AUC of SAGAN minus its own, 95 % interval {bounds[0]:+.3f} to {bounds[1]:+.3f})"
    if bounds[1] < 0:
        return f"{row} is better than SAGAN on these images {shown}.", True
    if bounds[0] <= 0:
        return f"{row} is not told apart from SAGAN by these images {shown}.", True
    return f"{row} is worse than SAGAN on these images {shown}.", False
