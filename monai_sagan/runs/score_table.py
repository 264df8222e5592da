"""``scores.csv``, written and read; columns of models that were chosen by test labels are marked as no result."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monai_sagan.errors import SaganError
from monai_sagan.files import write_atomic

if TYPE_CHECKING:
    from torch import Tensor

    from monai_sagan.data.datasets.items import Item

REASON = "chosen by test labels: no result"
ORACLE = "oracle_test"
MARK = "_no_result"
# Columns; FLAG is of a scored folder.
IMAGE, LABEL, SCORE, P_VALUE, FLAG, WARNING = "image", "label", "score", "p_value", "flag", "warning"
OTHER = f"{SCORE}_"  # the prefix of models and baselines other than the chosen model
LABELS: dict[str, int | None] = {"0": 0, "1": 1, "": None}


def is_oracle(name: str) -> bool:
    """Whether the model ``name``, or a row made of it, was chosen by test labels."""
    return name.startswith(ORACLE)


def _column(name: str) -> str:
    return f"{OTHER}{name}{MARK if is_oracle(name) else ''}"


def _model(column: str) -> str:
    """The model or baseline of a column, with the mark or, in older files, without; empty for other columns."""
    return column.removeprefix(OTHER).removesuffix(MARK) if column.startswith(OTHER) else ""


def write_scores(
    path: Path,
    items: Sequence[Item],
    scores: Mapping[str, Tensor],
    chosen: str,
    p_values: Tensor | None = None,
    warnings: Sequence[str] | None = None,
) -> None:
    """Write a row for each item: path, known label, score of ``chosen``, p-value and warning, other scores.

    Columns that are None are omitted.
    """
    columns: dict[str, Iterable[Any]] = {
        IMAGE: (item["image"] for item in items),
        LABEL: ("" if item["label"] is None else item["label"] for item in items),
        SCORE: _texts(scores[chosen], 8),
        **({} if p_values is None else {P_VALUE: _texts(p_values, 6)}),
        **({} if warnings is None else {WARNING: warnings}),
        **{_column(name): _texts(values, 8) for name, values in scores.items() if name != chosen},
    }

    def write(unfinished: Path) -> None:
        with unfinished.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(columns)
            rows.writerows(zip(*columns.values(), strict=True))

    write_atomic(path, write)


def _texts(values: Tensor, digits: int) -> list[str]:
    return [f"{value:.{digits}f}" for value in values.tolist()]


@dataclass(frozen=True)
class ScoreTable:
    """The content of ``scores.csv``, of N images."""

    images: list[str]  # their paths
    labels: list[int | None]  # 0 normal, 1 abnormal, None unknown
    scores: dict[str, list[float]]  # by the name of the model or baseline, the chosen one first
    p_values: list[float] | None  # None where one is missing


def read_scores(path: Path, chosen: str, fix: str) -> ScoreTable:
    """Read what this or an older version of `write_scores` wrote; ``fix`` ends the error about a broken file."""
    table = read_table(path, fix)
    if table is None:
        raise SaganError(f"{path.parent} has no {path.name}: {fix}")
    if not table or not {IMAGE, LABEL, SCORE} <= set(table[0]):
        raise SaganError(f"{path} has no rows of image, label and score: {fix}")
    columns = {column: name for column in table[0] if column and (name := _model(column))}
    if chosen in columns.values():
        raise SaganError(
            f"{path} has the column {OTHER}{chosen}, but metrics.json chooses {chosen}: they are from different "
            f"evaluations; evaluate the run again"
        )
    columns = {SCORE: chosen, **columns}
    labels: list[int | None] = []
    scores: dict[str, list[float]] = {name: [] for name in columns.values()}
    p_values: list[float] = []
    for number, row in enumerate(table, 2):
        try:
            labels.append(LABELS[row[LABEL]])
            for column, name in columns.items():
                scores[name].append(_finite(row[column]))
            if row.get(P_VALUE):
                p_values.append(_finite(row[P_VALUE]))
        except (KeyError, TypeError, ValueError):
            raise SaganError(f"line {number} of {path} is broken: {fix}") from None
    images = [row[IMAGE] for row in table]
    return ScoreTable(images, labels, scores, p_values if len(p_values) == len(table) else None)


def read_table(path: Path, fix: str) -> list[dict[str, str]] | None:
    """The rows of a run's CSV file by column, or None without a file; ``fix`` ends the error about a broken one."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            text = file.read()
        if not text.endswith("\n"):  # as every row does
            raise SaganError(f"{path} is broken (its end is missing): {fix}")
        return list(csv.DictReader(io.StringIO(text, newline="")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, csv.Error) as error:
        raise SaganError(f"{path} is broken ({error}): {fix}") from None


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value
