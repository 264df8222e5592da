"""Differences of a config from the package's bundle, below its options: recorded with the run, or refused.

An overridden part of a component acts like an option without a name. So a value that an option decides accepts that
option only, and every other part that differs is recorded with the run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

from monai_sagan.bundle.being_read import parser_being_read
from monai_sagan.bundle.folders import bundle_names, bundle_path
from monai_sagan.errors import SaganError

__all__: list[str] = []

Config = dict[str, Any]
Difference = tuple[list[str], Any, Any]  # the parts of the id; what the package has there; what was found there

OVERLAYS = {"train.json": ("multi_gpu_train.json",)}  # of the package, beside which a config may be read
PLACES = ("bundle_root", "dataset_dir", "cache_dir", "device")  # options, though components give their defaults
DECIDED = {  # what follows from options: a reference, or a component's target
    "$@settings.epochs": ("max_iterations",),
    "@chosen_engine": ("engine",),
    "$@settings.decoding()": ("image_size", "in_channels", "preparation", "min_foreground"),
    "monai_sagan.settings.Settings.decoding": ("image_size", "in_channels", "preparation", "min_foreground"),
}


def find_overrides(file: str) -> Config | None:
    """The differences of the config being read from the package's bundle, by id; None without any.

    Their source makes no difference: a command line, an ``args_file``, another config file, a program, or the file
    itself, as in a changed copy of a bundle. Options, tracking and ``multi_gpu_train.json`` do not count. A bundle
    of another name may have further keys of its own.

    Args:
        file: the config's name in the package's bundles, such as ``"train.json"``.

    Raises:
        SaganError: for a value that an option decides; it names the option.
    """
    parser = parser_being_read()
    if parser is None:
        return None
    config = _without_tracking(_plain(parser.config))
    candidates = [_parts(config, [file, *overlays]) for overlays in ((), OVERLAYS.get(file, ()))]
    differences = min(
        ([*_differences(parts, {name: config.get(name) for name in parts}, [])] for parts in candidates), key=len
    )
    options = {name for name in config if name not in candidates[0] and _is_option(name, config[name])}
    for place, wanted, found in differences:
        _check(place, wanted, found, options)
    # A method's own options stand below "settings"; the settings say them.
    own = [place for place, wanted, _ in differences if place[0] == "settings" and wanted is None]
    return {"#".join(place): found for place, _, found in differences if place not in own} or None


def tracking_keys() -> set[str]:
    """The keys that MONAI adds to a config when it tracks a run."""
    from monai.bundle import DEFAULT_MLFLOW_SETTINGS

    settings: Mapping[str, Any] = DEFAULT_MLFLOW_SETTINGS
    return set(settings["configs"])


def _plain(config: Any) -> Any:
    """The config in values of JSON, objects by their types, with "#" in ids, which MONAI replaces by "::"."""
    text = json.dumps(config, default=lambda thing: f"{type(thing).__module__}.{type(thing).__qualname__}")
    return json.loads(text.replace("::", "#"))


def _without_tracking(config: Any) -> Any:
    """The config without the handlers and the keys that MONAI adds when it tracks a run."""
    if isinstance(config, list):
        return [_without_tracking(one) for one in config if not (isinstance(one, dict) and _tracks(one))]
    if isinstance(config, dict):
        return {name: _without_tracking(one) for name, one in config.items()}
    return config


def _tracks(component: Config) -> bool:
    return str(component.get("_target_")).endswith("MLFlowHandler")


def _parts(config: Config, files: list[str]) -> Config:
    """The parts below the options, as in the package's bundle of the config's name, or as in all bundles."""
    from monai.bundle import ConfigParser

    root = config.get("bundle_root")
    own = config.get("bundle", root.get("name") if isinstance(root, dict) else None)
    names = [own] if own in bundle_names() else bundle_names()
    first, *others = (
        _plain(ConfigParser.load_config_files([str(Path(bundle_path(name), file)) for file in files])) for name in names
    )
    parts = {name: part for name, part in first.items() if not _is_option(name, part)}
    if others:
        return {name: part for name, part in parts.items() if all(other.get(name) == part for other in others)}
    known = {*first, *tracking_keys(), "_meta_"}
    return parts | {name: None for name, part in config.items() if name not in known and not _is_option(name, part)}


def _is_option(name: str, value: Any) -> bool:
    return name in PLACES or not (isinstance(value, dict) or "@" in json.dumps(value))


def _differences(wanted: Any, found: Any, place: list[str]) -> Iterator[Difference]:
    if isinstance(wanted, dict) and isinstance(found, dict):
        replaced = wanted.get("_target_") != found.get("_target_")
        if replaced:
            yield place, wanted, found
        # What another component does not take, no option decides.
        for key in wanted.keys() & found.keys() - {"_target_"} if replaced else [*dict.fromkeys([*wanted, *found])]:
            yield from _differences(wanted.get(key), found.get(key), [*place, key])
    elif isinstance(wanted, list) and isinstance(found, list) and _has_components(wanted):
        for index, pair in enumerate(zip_longest(wanted, found)):
            yield from _differences(*pair, [*place, str(index)])
    elif wanted != found:
        yield place, wanted, found


def _has_components(values: list[Any]) -> bool:
    return any(isinstance(one, dict) or str(one).startswith("@") for one in values)


def _check(place: list[str], wanted: Any, found: Any, options: Collection[str]) -> None:
    further = (place[-1],) if wanted is None else ()  # an argument that the package does not give, called as an option
    decided_by = [name for name in (*further, *_decided_by(wanted)) if name in options]
    respelled = any(re.fullmatch(rf"[$@][$@\w#.]*\b{name}", str(found)) for name in decided_by)
    if decided_by and not respelled:
        names = ", ".join(f"--{name}" for name in decided_by)
        raise SaganError(f"{'#'.join(place)} is decided by {names}; set it there")


def _decided_by(wanted: Any) -> tuple[str, ...]:
    """The options that decide a value, if any."""
    if isinstance(wanted, dict):
        return (
            (wanted["name"],) if wanted.get("component") == "@flags" else DECIDED.get(str(wanted.get("_target_")), ())
        )
    option = re.fullmatch(r"@(\w+)|\$@(?:settings|flags)\.(\w+)", str(wanted))
    return DECIDED.get(str(wanted), (option[1] or option[2],) if option else ())
