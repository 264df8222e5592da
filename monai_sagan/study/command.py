"""The verb ``monai-sagan study``."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from monai_sagan.study.rows import BUDGETS, STUDIES


def add_study_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments; all other ``--KEY VALUE`` are overrides of the config."""
    studies = ", ".join(STUDIES)
    parser.add_argument("study", metavar="STUDY", help=f'{studies}, or a JSON file {{"row": {{"key": value}}}}')
    parser.add_argument("--config_file", required=True, help="a bundle's train.json")
    parser.add_argument("--output_dir", required=True, help="everything goes below it; the same command resumes")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the runs of each row: 0 1 2")
    parser.add_argument("--budget", choices=list(BUDGETS), default="paper", help="how much a run may cost")
    parser.add_argument("--minutes", type=float, metavar="N", help="train each row for this long instead, at the pace "
                        "that a few iterations have on this machine")  # fmt: skip
    parser.add_argument("--jobs", type=int, help="runs at a time; one for each CPU core or GPU unless given")


def study_command(arguments: argparse.Namespace, overrides: Mapping[str, Any] | None = None) -> None:
    """Run a study and print its table; overrides are read as ``python -m monai.bundle`` reads them, "true" too."""
    from monai_sagan.study.run import run_study

    table = run_study(
        arguments.study,
        arguments.config_file,
        arguments.output_dir,
        overrides,
        arguments.seeds,
        arguments.jobs,
        arguments.budget,
        arguments.minutes,
    )
    print(f"\n{table.read_text(encoding='utf-8')}\nThe table is in {table.parent}: table.md, table.csv, table.png")
