"""The configuration of the run, and the glossary."""

from __future__ import annotations

from typing import Any

from monai_sagan.pictures.maps import map_words
from monai_sagan.report.html import Html, paragraph, section, tag
from monai_sagan.report.numbers import as_text
from monai_sagan.runs.read import Run

GLOSSARY = {
    "AUC": "area under the ROC curve: how often an abnormal image scores above a normal one; 0.5 is chance.",
    "AP": "average precision, the area under the precision-recall curve; the share of abnormal images is chance.",
    "AUCp": "AUC of validation normals against validation unlabeled images. It needs no labels of abnormal images. "
    "The model with the highest AUCp is chosen.",
    "last iteration": "the model at the end of training, whatever its AUCp.",
    "chosen on the test set": "the model with the highest test AUC: an upper bound, not a result.",
    "training mask on": "the random mask of training left on in the test, as the published code does.",
    "baseline": "a simple method without a network, on the same splits and pixels, that SAGAN should beat.",
    "95 % interval": "contains the true value in 95 of 100 tests on as many images of the same kind; it covers neither "
    "other training runs nor other hospitals.",
    "p-value": "(1 + number of validation normals that score as high or higher) / (1 + number of validation normals).",
    "operating point": "a threshold set on validation normals for a wanted specificity; measured on the test.",
    "anomaly map": "{map}, from 0 to 1; its mean is the anomaly score.",
    "validation": "images kept out of training, to choose the model, the color scale and the thresholds.",
}


def configuration_section(run: Run) -> Html:
    """All settings of the run, its seed, versions and commit."""
    if run.config is None:
        settings = paragraph("The run's folder has no config.json: its settings are unknown.", id="no-config")
    else:
        shown = {name: _shortened(run, name, run.config[name]) for name in sorted(run.config)}
        settings = _pairs("setting", shown)
    versions = {str(name): as_text(value) for name, value in (run.metrics.get("versions") or {}).items()}
    seeds = {"seed": as_text((run.config or {}).get("seed", "not recorded"))}
    commit = {} if "commit" in versions else {"commit": "not recorded"}
    return section(
        "configuration",
        "Configuration",
        settings,
        paragraph("Paths are shortened to their last part; config.json has them in full.", kind="soft"),
        tag("h3", "Versions, seed and commit"),
        _pairs("version", {name: versions[name] for name in sorted(versions)} | seeds | commit),
    )


def _shortened(run: Run, name: str, value: Any) -> str:
    shown = as_text(value)
    is_path = isinstance(value, str) and (name.endswith(("_dir", "_file")) or value.startswith(("/", "\\")))
    return shown.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1] if is_path else run.names.short(shown)


def _pairs(kind: str, values: dict[str, str]) -> Html:
    rows = (tag("div", tag("dt", k), tag("dd", v), id=f"{kind}-{k}".replace(" ", "-")) for k, v in values.items())
    return tag("dl", *rows, class_="settings")


def glossary_section(run: Run) -> Html:
    """The terms of the page."""
    meanings = {term: text.replace("{map}", map_words(run.how_maps_are_made)) for term, text in GLOSSARY.items()}
    pairs = [part for term, text in meanings.items() for part in (tag("dt", term), tag("dd", text))]
    return section("glossary", "Glossary", tag("dl", *pairs, class_="glossary"))
