"""The rows of a study, each a mapping of config keys to values; budgets; published figures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from monai_sagan.errors import SaganError

Rows = Mapping[str, Mapping[str, Any]]

RATIOS = ("0", "0.2", "0.4", "0.6", "0.8", "1.0")

STUDIES: dict[str, Rows] = {
    "table2": {},  # all methods, see `method_rows`: SAGAN comes first, with which the others are compared
    "table3": {
        "base": {"anatomical_consistency": False, "abnormal_region_restoration": False},
        "+ACM": {"anatomical_consistency": True, "abnormal_region_restoration": False},
        "+ARRM": {"anatomical_consistency": False, "abnormal_region_restoration": True},
        "both": {"anatomical_consistency": True, "abnormal_region_restoration": True},
    },
    # 0_u: the critic's fakes are restored pseudo-anomalies, no unlabeled image reaches a network. It has the splits of
    # row 0 and differs in nothing else.
    "table4": {"0_u": {"fake_source": "pseudo", "anomaly_ratio": 0.0}}
    | {ratio: {"anomaly_ratio": float(ratio)} for ratio in RATIOS},
}

# Overrides of a budget for SAGAN: minutes a run on one CPU core, about an hour on a GPU, none. Of other methods they
# are a preset of that name, or cap what the preset asks for, see `monai_sagan.study.values`.
BUDGETS: dict[str, Mapping[str, Any]] = {
    "small": {
        "channels": 8,
        "num_res_blocks": 1,
        "batch_size": 16,
        "max_iterations": 400,
        "iterations_per_epoch": 50,
    },
    "medium": {
        "channels": 32,
        "num_res_blocks": 3,
        "batch_size": 32,
        "max_iterations": 10_000,
        "iterations_per_epoch": 500,
    },
    "paper": {},
}

# The paper's Table 1: normal, unlabeled, test normal and test abnormal images identify its datasets.
_COUNTS = {(3851, 9012, 1000, 1000): "RSNA", (4000, 9000, 1000, 1000): "VinDr-CXR", (1500, 1732, 811, 811): "LAG"}

# AUC and AP as fractions, from the paper's Tables 2 to 4 (https://arxiv.org/abs/2405.12872); of Table 2 by method.
_PUBLISHED: dict[tuple[str, str], dict[str, tuple[float, float]]] = {
    ("table2", "RSNA"): {
        "sagan": (0.9245, 0.9260),
        "brainomaly": (0.9101, 0.8793),
        "cutpaste": (0.598, 0.617),
        "fpi": (0.466, 0.538),
        "pii": (0.843, 0.854),
        "nsa": (0.842, 0.843),
        "ddad": (0.913, 0.916),
        "amae": (0.914, 0.917),
    },
    ("table2", "VinDr-CXR"): {
        "sagan": (0.9147, 0.8930),
        "brainomaly": (0.8854, 0.8437),
        "cutpaste": (0.592, 0.600),
        "fpi": (0.474, 0.494),
        "pii": (0.668, 0.672),
        "nsa": (0.644, 0.648),
        "ddad": (0.859, 0.843),
        "amae": (0.861, 0.845),
    },
    ("table2", "LAG"): {
        "sagan": (0.9698, 0.9696),
        "brainomaly": (0.9592, 0.9471),
        "cutpaste": (0.489, 0.517),
        "fpi": (0.529, 0.561),
        "pii": (0.631, 0.631),
        "nsa": (0.686, 0.680),
        "ddad": (0.931, 0.923),
    },
    ("table3", "VinDr-CXR"): {
        "base": (0.8854, 0.8437),
        "+ACM": (0.8989, 0.8607),
        "+ARRM": (0.9037, 0.8757),
        "both": (0.9147, 0.8930),
    },
    ("table4", "RSNA"): {
        "0_u": (0.7054, 0.6587),
        "0": (0.7775, 0.7599),
        "0.2": (0.8923, 0.8965),
        "0.4": (0.8989, 0.9214),
        "0.6": (0.9245, 0.9260),
        "0.8": (0.9242, 0.9264),
    },
}


def named_rows(study: str | Rows) -> tuple[str, Rows]:
    """The name and the rows of a study: one of `STUDIES`, a JSON file of rows, or the rows themselves."""
    if not isinstance(study, str):
        name, rows = "study", study
    elif study.endswith(".json"):
        name, rows = Path(study).stem, read_rows(study)
    elif study in STUDIES:
        name, rows = study, STUDIES[study] or method_rows()
    else:
        raise SaganError(f"there is no study {study!r}; use one of {', '.join(STUDIES)}, or a JSON file of rows")
    if not rows:
        raise SaganError(f"the study {name} has no rows; give a mapping of each row's name to what it overrides")
    for row in rows:
        if row in ("", ".", "..", "cache", "data") or any(sign in row for sign in '/\\:*?"<>|\n'):
            raise SaganError(f"the row {row!r} cannot name a folder; rename it")
        for key in ("seed", "output_dir", "cache_dir", "device"):
            if key in rows[row]:
                raise SaganError(f"the row {row!r} sets {key}, which the study sets for each run; leave it out")
    return name, rows


def read_rows(path: str | Path) -> Rows:
    """The rows of a JSON file ``{"row": {"key": value, ...}, ...}``."""
    try:
        rows = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SaganError(f"{path} is not readable JSON ({' '.join(str(error).split())})") from None
    if not isinstance(rows, dict) or not all(isinstance(values, dict) for values in rows.values()):
        raise SaganError(f'{path} does not hold a study; its form is {{"row": {{"key": value, ...}}, ...}}')
    return rows


def method_rows() -> Rows:
    """A row for each method, by its title."""
    from monai_sagan.methods import METHODS, find_method

    return {find_method(name).title: {"method": name} for name in METHODS}


def published_figures(
    study: str | Rows, counts: tuple[int, int, int, int], methods: Mapping[str, str] = MappingProxyType({})
) -> dict[str, tuple[float, float]]:
    """The paper's AUC and AP of each row, for datasets with the counts of one of the paper's.

    Args:
        study: one of `STUDIES`; rows of one's own have no published figures.
        counts: of normal, unlabeled, normal test and abnormal test images.
        methods: of the rows, for ``table2``.
    """
    found = _PUBLISHED.get((study, _COUNTS.get(counts, "")), {}) if isinstance(study, str) else {}
    if study != "table2":
        return dict(found)
    return {row: found[method] for row, method in methods.items() if method in found}
