"""How every output marks what was chosen on the test images themselves, and so is no result."""

from __future__ import annotations

__all__ = ["REASON", "is_oracle", "model_of_column", "score_column"]

REASON = "chosen by test labels: no result"
ORACLE = "oracle_test"
MARK = "_no_result"


def is_oracle(name: str) -> bool:
    """Whether the model ``name``, or a row made of it, was chosen by test labels."""
    return name.startswith(ORACLE)


def score_column(name: str) -> str:
    """The column of ``scores.csv`` for the model or method ``name``, where that is not the chosen one."""
    return f"score_{name}{MARK if is_oracle(name) else ''}"


def model_of_column(column: str) -> str | None:
    """Of whom a column of ``scores.csv`` is, also of an older one without the mark; None for another column."""
    prefix, _, name = column.partition("_")
    return name.removesuffix(MARK) if prefix == "score" and name else None
