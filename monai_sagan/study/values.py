"""The values of a study's rows: a budget and overrides, as the method of each row takes them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from monai_sagan.bundle.method_options import DEFAULT, OWN, option_key
from monai_sagan.errors import SaganError
from monai_sagan.study.rows import BUDGETS, Rows

if TYPE_CHECKING:
    from monai_sagan.methods import Method
    from monai_sagan.settings import Settings
    from monai_sagan.study.plan import Bundle

CAPPED = ("channels", "num_res_blocks", "max_iterations")


@dataclass(frozen=True)
class FittedRow:
    """A row with everything that it overrides in the config.

    Args:
        method: its name.
        values: by config key.
        skipped: names of overrides of all rows that its method has no option for.
    """

    method: str
    values: Mapping[str, Any]
    skipped: tuple[str, ...]


def fit_rows(bundle: Bundle, rows: Rows, budget: str, overrides: Mapping[str, Any]) -> dict[str, FittedRow]:
    """Each row with a budget, overrides of all rows and its own values, the last of which win.

    An override that is an option of another row's method alone is skipped. Options that the config has no key for go
    below its ``settings``.

    Args:
        bundle: whose config is overridden.
        rows: of a study.
        budget: one of `BUDGETS`.
        overrides: of all rows.

    Raises:
        SaganError: naming the row whose method does not exist or take its budget.
    """
    from monai_sagan.methods import find_method

    default = overrides.get("method", bundle.value("method") or "sagan")
    names = {row: str(own.get("method", default)) for row, own in rows.items()}
    options = {row: _options(find_method(name)) for row, name in names.items()}
    every = set[str]().union(*options.values())
    fitted = {}
    for row, own in rows.items():
        alien = [key for key in overrides if _bare(key) in every - options[row]]
        common = {key: value for key, value in overrides.items() if key not in alien}
        values = {**_budget(bundle, names[row], budget, common | dict(own)), **common, **own}
        renamed = {option_key(key, bundle.keys) if key in options[row] else key: value for key, value in values.items()}
        fitted[row] = FittedRow(names[row], renamed, tuple(map(_bare, alien)))
    return fitted


def describe_skipped(fitted: Mapping[str, FittedRow]) -> list[str]:
    """A note for each override that not all rows take."""
    skipped = {name: [row for row, one in fitted.items() if name in one.skipped] for name in _skipped(fitted)}
    return [f"{name} is not an option of {', '.join(rows)}." for name, rows in skipped.items()]


def _skipped(fitted: Mapping[str, FittedRow]) -> list[str]:
    return list(dict.fromkeys(name for row in fitted.values() for name in row.skipped))


def _budget(bundle: Bundle, name: str, budget: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """What a budget overrides for a method: SAGAN's own sizes; for others a preset of its name, or its caps."""
    from monai_sagan.methods import find_method, resolve_settings

    wanted, method = BUDGETS[budget], find_method(name)
    if not wanted or name == "sagan":
        return dict(wanted)
    if budget in method.presets:
        return {"preset": budget}
    preset = resolve_settings(str(values.get("preset", bundle.value("preset") or DEFAULT)), name)
    caps = {key: min(getattr(preset, key), wanted[key]) for key in CAPPED if key in _options(method)}
    epoch = min(preset.iterations_per_epoch, wanted["iterations_per_epoch"])
    return caps | epochs_of(caps["max_iterations"], epoch, method.stages_count)


def epochs_of(iterations: int, epoch: int, stages: int = 1) -> dict[str, int]:
    """Whole epochs of at most ``epoch`` iterations, one or more for each stage, within ``iterations``.

    >>> epochs_of(110, 25), epochs_of(30, 25, stages=3)
    ({'max_iterations': 100, 'iterations_per_epoch': 25}, {'max_iterations': 30, 'iterations_per_epoch': 10})
    """
    iterations = max(iterations, stages)
    length = max(min(epoch, iterations // stages), 1)
    return {"max_iterations": iterations // length * length, "iterations_per_epoch": length}


def check_epochs(settings: Settings, name: str) -> None:
    """Raise where a run is shorter than an epoch for each stage of its method."""
    from monai_sagan.methods import find_method

    stages = find_method(name).stages_count
    if settings.epochs < stages:
        raise SaganError(
            f"{settings.epochs} epochs are too few for {stages} stages; raise max_iterations or lower "
            f"iterations_per_epoch"
        )


def _options(method: Method) -> set[str]:
    return {field.name for field in dataclasses.fields(method.Options)}


def _bare(key: str) -> str:
    return key.removeprefix(OWN)
