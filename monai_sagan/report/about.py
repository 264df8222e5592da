"""How the run can be made again, and what the words mean."""

from __future__ import annotations

from typing import Any

from monai_sagan.pictures.maps import map_words
from monai_sagan.report.html import Html, paragraph, section, tag
from monai_sagan.report.numbers import plain
from monai_sagan.runs.read import Run

__all__ = ["configuration_section", "words_section"]

WORDS = {
    "AUC": "area under the ROC curve: how often an abnormal image scores above a normal one; 0.5 is chance.",
    "AP": "average precision, the area under the precision-recall curve; the share of abnormal images is chance.",
    "AUCp": "AUC of validation normals against validation unlabeled images. It needs no label of an abnormal image. "
    "The model where it is highest is chosen.",
    "last iteration": "the model at the end of training, whatever its AUCp.",
    "chosen on the test set": "the model with the highest test AUC: what looking at the test would bring, no result.",
    "training mask on": "the random mask of training left on in the test, as the published code does.",
    "baseline": "one of a few lines, on the same splits and pixels. SAGAN is worth its effort where it beats it.",
    "95 % interval": "made to hold the true value in 95 of 100 tests on as many images of the same kind; it covers "
    "neither another training run nor another hospital.",
    "p-value": "(1 + number of validation normals that score as high or higher) / (1 + number of validation normals).",
    "operating point": "a threshold set on validation normals for a wanted specificity, and what it gives on the test.",
    "anomaly map": "{map}, from 0 to 1; its mean is the anomaly score.",
    "validation": "images kept out of training, to choose the model, the color scale and the thresholds.",
}


def configuration_section(run: Run) -> Html:
    """Every value that decided the run, the seed, the versions and the commit."""
    if run.config is None:
        settings = paragraph("The run's folder has no config.json: its settings are not known here.")
    else:
        shown = {name: _shortened(run, name, run.config[name]) for name in sorted(run.config)}
        settings = _pairs(shown)
    versions = {str(name): plain(value) for name, value in (run.metrics.get("versions") or {}).items()}
    seeds = {"seed": plain((run.config or {}).get("seed", "not recorded"))}
    commit = {} if "commit" in versions else {"commit": "not recorded"}
    return section(
        "configuration",
        "Configuration",
        settings,
        paragraph("Of paths the last part is shown; config.json holds them whole.", kind="soft"),
        tag("h3", "Versions, seed and commit"),
        _pairs({name: versions[name] for name in sorted(versions)} | seeds | commit),
    )


def _shortened(run: Run, name: str, value: Any) -> str:
    shown = plain(value)
    is_path = isinstance(value, str) and (name.endswith(("_dir", "_file")) or value.startswith(("/", "\\")))
    return shown.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1] if is_path else run.names.short(shown)


def _pairs(values: dict[str, str]) -> Html:
    return tag("dl", *(tag("div", tag("dt", k), tag("dd", v)) for k, v in values.items()), class_="settings")


def words_section(run: Run) -> Html:
    """What the words of the page of ``run`` mean."""
    meanings = {word: meaning.replace("{map}", map_words(run.how_maps_are_made)) for word, meaning in WORDS.items()}
    pairs = [part for word, meaning in meanings.items() for part in (tag("dt", word), tag("dd", meaning))]
    return section("words", "Words", tag("dl", *pairs, class_="words"))
