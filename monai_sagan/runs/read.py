"""What an evaluated run left in its folder, read and checked for the page."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai_sagan import run_files
from monai_sagan.errors import SaganError
from monai_sagan.runs.consistency import check_belongs
from monai_sagan.runs.schema import AUDIT, CONFIG, GALLERY, METRICS, SPLITS, Schema, misfit, models_of
from monai_sagan.runs.score_table import read_scores, read_table

__all__ = ["Names", "Picture", "Run", "gallery_point", "read_run"]

EXPLAINED = "the run is not evaluated to its end; run it again, or its evaluate.json"
EVALUATE = "evaluate the run again"
PICTURES = 24  # where only the heat maps are there, and no list of them


@dataclass(frozen=True)
class Picture:
    """A picture's ``path``; ``facts`` are of ``gallery.json``: image, label, score, p-value, kind, rank, or None."""

    path: Path
    facts: dict[str, Any] | None


class Names:
    """Short names of images: what is left of a path below the folder that all of a run's images share.

    The page names no folder of the machine that it was made on.
    """

    def __init__(self, images: Iterable[str]) -> None:
        folders = sorted({_folder(image) for image in images})
        shared = _shared(folders)
        self._prefixes = [shared] if shared.strip("/\\") else sorted(folders, key=lambda folder: (-len(folder), folder))

    def short(self, text: object) -> str:
        """A path, or a text with paths in it, without the folders that are left out."""
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
    """An evaluated run.

    Args:
        metrics: of ``metrics.json``.
        models: names of the results of models, the chosen one first.
        images: the N test images.
        labels: N labels, None where unknown.
        scores: N scores of each model or baseline that ``scores.csv`` has; the chosen model's under its name.
        p_values: N p-values, or None.
        splits: of ``splits.json``, or None.
        audit: of ``audit.json``, or None.
        config: of ``config.json``, or None.
        skipped: image and reason, or None.
        history: the columns of ``history.csv``, NaN where a cell is empty, or None.
        pictures: of ``heatmaps/gallery/``, else of ``heatmaps/``.
        names: for paths.
    """

    metrics: dict[str, Any]
    models: list[str]
    images: list[str]
    labels: list[int | None]
    scores: dict[str, list[float]]
    p_values: list[float] | None
    splits: dict[str, list[dict[str, Any]]] | None
    audit: dict[str, Any] | None
    config: dict[str, Any] | None
    skipped: list[tuple[str, str]] | None
    history: dict[str, list[float]] | None
    pictures: list[Picture]
    names: Names

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
    def threshold(self) -> dict[str, Any] | None:
        """The operating point whose threshold says which cases of the gallery are mistakes, or None."""
        return gallery_point(self.chosen.get("operating_points") or [])

    @property
    def how_maps_are_made(self) -> dict[str, Any] | None:
        """How the anomaly maps are made, see `map_words`, or None where that is not known."""
        config = self.config or {}
        told: dict[str, Any] | None = self.metrics.get("anomaly_map")
        names = ("passes", "smoothing", "sigma")
        return told or {name: config[f"map_{name}"] for name in names if f"map_{name}" in config} or None

    @property
    def comparable(self) -> bool:
        """Whether there are normal and abnormal test images."""
        return 0 in self.labels and 1 in self.labels


def gallery_point(points: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The first of some operating points that has a threshold, or None."""
    return next((point for point in points if point.get("threshold") is not None), None)


def read_run(run_dir: str | Path) -> Run:
    """Read the folder ``run_dir``; ``metrics.json`` and ``scores.csv`` must be there and fit, all else may be missing.

    Raises:
        SaganError: when a file is broken, or the folder is of no evaluated run: it names the file and the fix.
    """
    folder = Path(run_dir)
    if not folder.is_dir():
        raise SaganError(f"{folder} is no folder; name the output_dir of an evaluated run")
    metrics = _read_json(folder / run_files.METRICS, METRICS)
    if metrics is None:
        raise SaganError(f"{folder} has no metrics.json: {EXPLAINED}")
    models = [name for name, block in metrics.items() if isinstance(block, dict) and "auc" in block]
    if not models:
        raise SaganError(f"{folder / run_files.METRICS} holds no model's auc: {EXPLAINED}")
    models.sort(key=lambda name: name != "aucp")
    _check(folder / run_files.METRICS, metrics, models_of(models))
    found = read_scores(folder / run_files.SCORES, models[0], EXPLAINED)
    told = (metrics.get("n_normal"), metrics.get("n_abnormal"))
    there = (found.labels.count(0), found.labels.count(1))
    if told != there:
        raise SaganError(
            f"{folder / run_files.SCORES} has {there[0]} normal and {there[1]} abnormal images, metrics.json tells of "
            f"{told[0]} and {told[1]}: {EXPLAINED}"
        )
    blocks = metrics.get("baselines", {}) | {name: metrics[name] for name in models}
    check_belongs(folder, blocks, found.scores, found.labels, EVALUATE)
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
    """What a JSON file holds, or None where there is no such file; it must fit ``schema``."""
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
            raise ValueError("a row has more or fewer cells than the head")
        return {name: [float(row[name] or "nan") for row in table] for name in table[0]}
    except ValueError as error:
        raise SaganError(f"{path} is broken ({error}); delete it to leave the training curves out") from None


def _pictures(folder: Path) -> list[Picture]:
    """The listed cases, in the list's order, or where there is no list the heat maps."""
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
