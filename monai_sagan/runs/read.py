"""The folder of an evaluated run, read and checked for the page."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai_sagan import run_files
from monai_sagan.errors import SaganError
from monai_sagan.runs.consistency import check_same_evaluation
from monai_sagan.runs.schema import AUDIT, CONFIG, GALLERY, METRICS, SPLITS, Schema, misfit, models_of
from monai_sagan.runs.score_table import read_scores, read_table

EXPLAINED = "its evaluation is incomplete; run it again, or its evaluate.json"
EVALUATE = "evaluate the run again"
PICTURES = 24  # where only the heat maps are there, and no list of them


@dataclass(frozen=True)
class Picture:
    """A picture's ``path``; ``facts`` are of ``gallery.json``: image, label, score, p-value, kind, rank, or None."""

    path: Path
    facts: dict[str, Any] | None


class Names:
    """Paths of images without the folder that they all share: the page names no folder of this machine."""

    def __init__(self, images: Iterable[str]) -> None:
        folders = sorted({_folder(image) for image in images})
        shared = _shared(folders)
        self._prefixes = [shared] if shared.strip("/\\") else sorted(folders, key=lambda folder: (-len(folder), folder))

    def short(self, text: object) -> str:
        """The text without the shared folders of its paths."""
        shown = str(text)
        for prefix in self._prefixes:
            if prefix:
                shown = shown.replace(prefix, "")
        return shown


def _folder(path: str) -> str:
    return path[: max(path.rfind("/"), path.rfind("\\")) + 1]


def _shared(folders: Sequence[str]) -> str:
    if not folders:
        return ""
    first, last = folders[0], folders[-1]
    same = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return _folder(first[:same])


@dataclass(frozen=True)
class Run:
    """An evaluated run."""

    metrics: dict[str, Any]  # of ``metrics.json``
    models: list[str]  # names of the results of models, the chosen one first
    images: list[str]  # the N test images
    labels: list[int | None]  # N labels, None where unknown
    # N scores of each model or baseline that ``scores.csv`` has; the chosen model's under its name
    scores: dict[str, list[float]]
    p_values: list[float] | None  # N p-values, or None
    splits: dict[str, list[dict[str, Any]]] | None  # of ``splits.json``, or None
    audit: dict[str, Any] | None  # of ``audit.json``, or None
    config: dict[str, Any] | None  # of ``config.json``, or None
    skipped: list[tuple[str, str]] | None  # image and reason, or None
    history: dict[str, list[float]] | None  # the columns of ``history.csv``, NaN where a cell is empty, or None
    pictures: list[Picture]  # of ``heatmaps/gallery/``, else of ``heatmaps/``
    names: Names  # for paths

    @property
    def chosen(self) -> dict[str, Any]:
        """The metrics of the chosen model."""
        found: dict[str, Any] = self.metrics[self.models[0]]
        return found

    @property
    def counts(self) -> tuple[int, int, int]:
        """Normal, abnormal and unlabeled test images."""
        return self.labels.count(0), self.labels.count(1), self.labels.count(None)

    @property
    def method(self) -> str:
        """The title of the method that made the models."""
        return str((self.metrics.get("method") or {}).get("title", "SAGAN"))

    @property
    def threshold(self) -> dict[str, Any] | None:
        """The operating point whose threshold defines the mistakes of the gallery, or None."""
        return gallery_point(self.chosen.get("operating_points") or [])

    @property
    def how_maps_are_made(self) -> dict[str, Any] | None:
        """How the anomaly maps are made, see `map_words`, or None if unknown."""
        config = self.config or {}
        recorded: dict[str, Any] | None = self.metrics.get("anomaly_map")
        names = ("passes", "smoothing", "sigma")
        return recorded or {name: config[f"map_{name}"] for name in names if f"map_{name}" in config} or None

    @property
    def comparable(self) -> bool:
        """Whether there are normal and abnormal test images."""
        return 0 in self.labels and 1 in self.labels


def gallery_point(points: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The first operating point with a threshold, or None."""
    return next((point for point in points if point.get("threshold") is not None), None)


def read_run(run_dir: str | Path) -> Run:
    """Read a run's folder; ``metrics.json`` and ``scores.csv`` must be there and agree, all else may be missing."""
    folder = Path(run_dir)
    if not folder.is_dir():
        raise SaganError(f"{folder} is not a folder; name the output_dir of an evaluated run")
    metrics = _read_json(folder / run_files.METRICS, METRICS)
    if metrics is None:
        raise SaganError(f"{folder} has no metrics.json: {EXPLAINED}")
    models = [name for name, block in metrics.items() if isinstance(block, dict) and "auc" in block]
    if not models:
        raise SaganError(f"{folder / run_files.METRICS} has no auc of a model: {EXPLAINED}")
    models.sort(key=lambda name: name != "aucp")
    _check(folder / run_files.METRICS, metrics, models_of(models))
    found = read_scores(folder / run_files.SCORES, models[0], EXPLAINED)
    expected = (metrics.get("n_normal"), metrics.get("n_abnormal"))
    counts = (found.labels.count(0), found.labels.count(1))
    if counts != expected:
        raise SaganError(
            f"{folder / run_files.SCORES} has {counts[0]} normal and {counts[1]} abnormal images, metrics.json has "
            f"{expected[0]} and {expected[1]}: {EXPLAINED}"
        )
    blocks = metrics.get("baselines", {}) | {name: metrics[name] for name in models}
    check_same_evaluation(folder, blocks, found.scores, found.labels, EVALUATE)
    splits = _read_json(folder / run_files.SPLITS, SPLITS)
    skipped = read_table(folder / run_files.SKIPPED, EXPLAINED)
    reasons = None if skipped is None else [(row.get("image") or "", row.get("reason") or "") for row in skipped]
    known = [item["image"] for items in (splits or {}).values() for item in items if item.get("image")]
    return Run(
        metrics=metrics,
        models=models,
        images=found.images,
        labels=found.labels,
        scores=found.scores,
        p_values=found.p_values,
        splits=splits,
        audit=_read_json(folder / run_files.AUDIT, AUDIT),
        config=_read_json(folder / run_files.CONFIG, CONFIG),
        skipped=reasons,
        history=_history(folder / run_files.HISTORY),
        pictures=_pictures(folder / run_files.HEATMAPS),
        names=Names([*found.images, *known, *(image for image, _ in reasons or [] if image)]),
    )


def _read_json(path: Path, schema: Schema) -> Any:
    """The content of a JSON file, checked against ``schema``; None for a missing file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=lambda name: None)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise SaganError(f"{path} is broken ({error}): {EXPLAINED}") from None
    _check(path, content, schema)
    return content


def _check(path: Path, content: Any, schema: Schema) -> None:
    if words := misfit(content, schema):
        raise SaganError(f"{path} is broken ({words}): {EXPLAINED}")


def _history(path: Path) -> dict[str, list[float]] | None:
    table = read_table(path, EXPLAINED)
    if not table:
        return None
    try:
        if any(None in row or None in row.values() for row in table):
            raise ValueError("a row and the head differ in length")
        return {name: [float(row[name] or "nan") for row in table] for name in table[0]}
    except ValueError as error:
        raise SaganError(f"{path} is broken ({error}); delete it to leave the training curves out") from None


def _pictures(folder: Path) -> list[Picture]:
    """The listed cases in order, or without a list the heat maps."""
    place = folder / run_files.GALLERY
    listed = _read_json(place / run_files.CASES, GALLERY)
    if not listed:
        return [Picture(path, None) for path in sorted(folder.glob("*.png"))[:PICTURES]]
    if not all(facts.get("file") for facts in listed):
        raise SaganError(f"{place / run_files.CASES} has an entry without a file: {EXPLAINED}")
    pictures = [Picture(place / Path(facts["file"]).name, facts) for facts in listed]  # never outside the folder
    for picture in pictures:
        if not picture.path.is_file():
            raise SaganError(f"{picture.path} is named in gallery.json and is not there: {EXPLAINED}")
    return pictures
