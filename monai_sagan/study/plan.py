"""The runs of a study: their commands, values and state."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monai_sagan import run_files
from monai_sagan.bundle.texts import is_text_option, text_for_config
from monai_sagan.bundle.words import join_options
from monai_sagan.errors import SaganError
from monai_sagan.study.rows import Rows

if TYPE_CHECKING:
    from monai.bundle import ConfigParser

    from monai_sagan.data.datasets.items import Datalist
    from monai_sagan.settings import Settings

_MAY_DIFFER = ("device",)  # does not change what a run is


@dataclass(frozen=True)
class Run:
    """One training run of a study."""

    row: str
    seed: int
    folder: Path
    command: tuple[str, ...]  # trains and evaluates, or resumes
    values: Mapping[str, Any]  # all keys that it overrides in the config
    config: Mapping[str, Any]  # its ``config.json``

    @property
    def name(self) -> str:
        """For people: the row and the seed."""
        return f"{self.row}, seed {self.seed}"


class Bundle:
    """A bundle's training config, evaluated under overrides."""

    def __init__(self, config_file: str | Path) -> None:
        from monai.bundle import ConfigParser

        self.path = Path(config_file).resolve()
        if not self.path.is_file():
            raise SaganError(f"no file {config_file}; give a bundle's config, for example bundles/rsna/train.json")
        try:
            self._config = ConfigParser.load_config_file(str(self.path))
        except ValueError as error:
            raise SaganError(f"{config_file} is not a config ({' '.join(str(error).split())})") from None

    @property
    def keys(self) -> frozenset[str]:
        """The keys at the top of the config."""
        return frozenset(self._config)

    def value(self, key: str) -> Any:
        """The plain value of a key, without overrides; None where the config lacks it."""
        return self._config.get(key)

    def settings(self, values: Mapping[str, Any]) -> Settings:
        """The settings of a run with these overrides."""
        found: Settings = self.read("settings", values)
        return found

    def check_keys(self, values: Mapping[str, Any], beside: Collection[str] = ()) -> None:
        """Raise for the first key that the config lacks, with the nearest of its keys and the options ``beside``."""
        from monai_sagan.bundle import check_command_line

        check_command_line(["run", "--config_file", str(self.path), *join_options(values)], beside)

    def read(self, key: str, values: Mapping[str, Any]) -> Any:
        """The parsed value of a key under overrides."""
        with _own_errors():
            return self._parser(values).get_parsed_content(key)

    def images(self, values: Mapping[str, Any]) -> Datalist:
        """The datalist of a run with these overrides, without unreadable images; decodes what is not decoded yet."""
        return dict(self.read("readable" if "readable" in self._config else "datalist", values))

    def run_config(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The ``config.json`` of a run with these overrides; {} for a config without ``start_run``."""
        from monai_sagan.settings import as_plain

        parser = self._parser(values)
        content: dict[str, Any] = {}
        for index, step in enumerate(parser.get("initialize", [])):
            if isinstance(step, dict) and str(step.get("_target_", "")).endswith(".start_run"):
                names = [name for name in step if name not in ("_target_", "output_dir")]
                with _own_errors():
                    content = {name: parser.get_parsed_content(f"initialize#{index}#{name}") for name in names}
        settings = content.pop("settings", None)
        plain = content | (as_plain(settings) if settings else {})
        return dict(json.loads(json.dumps(plain, default=str)))

    def _parser(self, values: Mapping[str, Any]) -> ConfigParser:
        from monai.bundle import ConfigParser

        parser = ConfigParser(json.loads(json.dumps(self._config)))
        parser.update(
            {key: text_for_config(key, value) if is_text_option(key) else value for key, value in values.items()}
        )
        return parser


@contextmanager
def _own_errors() -> Iterator[None]:
    """Unwrap a SaganError from the errors that MONAI wraps around it."""
    try:
        yield
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, SaganError):
            cause = cause.__cause__ or cause.__context__
        if cause is None:
            raise
        raise cause from None


def plan_runs(
    bundle: Bundle,
    folder: Path,
    rows: Rows,
    seeds: Sequence[int],
    overrides: Mapping[str, Any],
    datalist: Datalist,
) -> list[Run]:
    """The runs of a study, seed by seed, so that an interrupted study has complete comparisons.

    Where rows differ in ``anomaly_ratio`` and no ``unlabeled_size`` is given, all rows of a seed get the largest
    ``unlabeled_size`` that each can have: then only the ratio differs.
    """
    runs = []
    for seed in seeds:
        values = {row: {**overrides, **own, "seed": seed} for row, own in rows.items()}
        size = _common_unlabeled_size(bundle, values, datalist)
        for row, own in values.items():
            place = folder / row / f"seed{seed}"
            own |= {"output_dir": str(place)} | ({} if size is None else {"unlabeled_size": size})
            config = ["--config_file", str(bundle.path)]
            command = (sys.executable, "-m", "monai.bundle", "run", *config, *join_options(own))
            runs.append(Run(row, seed, place, command, own, bundle.run_config(own)))
    return runs


def _common_unlabeled_size(bundle: Bundle, rows: Mapping[str, Mapping[str, Any]], datalist: Datalist) -> int | None:
    """The largest number of unlabeled training images that all rows can have, or None if not needed."""
    from monai_sagan.data.datalist import make_splits

    if len({own.get("anomaly_ratio") for own in rows.values()}) < 2 or any(
        "unlabeled_size" in r for r in rows.values()
    ):
        return None
    sizes = []
    for own in rows.values():
        ratio, fraction = (bundle.read(key, own) for key in ("anomaly_ratio", "valid_fraction"))
        splits = make_splits(datalist, ratio, valid_fraction=fraction, seed=own["seed"])
        sizes.append(len(splits["train_unlabeled"]))
    return min(sizes)


def is_finished(run: Run) -> bool:
    """Whether the run is finished; raises when its folder holds a run with other values."""
    metrics = read_metrics(run.folder)
    if metrics is not None or (run.folder / run_files.CHECKPOINT).is_file():
        _check_same(run)
    return metrics is not None and (run.folder / run_files.SCORES).is_file()


def read_metrics(folder: Path) -> dict[str, Any] | None:
    """The metrics of a run's folder, or None when missing or incomplete."""
    try:
        metrics = json.loads((folder / run_files.METRICS).read_text(encoding="utf-8"))
        complete = all(isinstance(metrics[name]["auc"], float) for name in ("aucp", "last"))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return metrics if complete else None


def _check_same(run: Run) -> None:
    path = run.folder / run_files.CONFIG
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise SaganError(
            f"{path} is missing or broken, so the settings of this run are unknown; delete {run.folder}"
        ) from None
    for name, asked in run.config.items():
        if name not in _MAY_DIFFER and found.get(name) != asked:
            raise SaganError(
                f"{run.folder} was run with {name} {found.get(name)}, the study now asks for {asked}; set it back, "
                f"use another output_dir, or delete that folder"
            )
