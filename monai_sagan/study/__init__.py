"""Studies: rows of several runs each, on one dataset and one machine, in one table with intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from monai_sagan.study.rows import BUDGETS, STUDIES

if TYPE_CHECKING:
    from monai_sagan.study.run import run_study

__all__ = ["BUDGETS", "STUDIES", "run_study"]


def __getattr__(name: str) -> Any:  # the command's help need not wait for what a run needs
    if name != "run_study":
        raise AttributeError(f"module 'monai_sagan.study' has no attribute {name!r}")
    from monai_sagan.study.run import run_study

    return run_study
