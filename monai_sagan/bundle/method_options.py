"""The methods and their options, as they are given to a bundle's ``train.json``."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from monai_sagan.bundle.folders import bundle_names, bundle_path
from monai_sagan.errors import SaganError

if TYPE_CHECKING:
    from monai_sagan.methods import Method

__all__: list[str] = []

OWN = "settings#"  # where train.json takes options that it has no key for
DEFAULT = "recommended"


def option_key(name: str, keys: Collection[str]) -> str:
    """The key of an option in a ``train.json`` that has these ``keys``.

    >>> option_key("latent", {"batch_size"}), option_key("batch_size", {"batch_size"})
    ('settings#latent', 'batch_size')
    """
    return name if name in keys else OWN + name


def train_keys() -> set[str]:
    """The keys that the ``train.json`` of every bundle has."""
    configs = [
        json.loads((Path(bundle_path(name)) / "train.json").read_text(encoding="utf-8")) for name in bundle_names()
    ]
    if not configs:
        raise SaganError("this installation of monai-sagan has no bundles; install it again")
    return set(configs[0]).intersection(*configs[1:])


def list_methods() -> str:
    """All methods as a table: name, title, which images they learn from, presets."""
    from monai_sagan.methods import METHODS, find_method

    rows = [("name", "title", "learns from images", "presets")]
    for name in METHODS:
        method = find_method(name)
        rows.append((name, method.title, learns_from(method), ", ".join(method.presets)))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def learns_from(method: Method) -> str:
    """The kinds of training images that a method reads, in words."""
    return "normal, unlabeled" if "unlabeled" in method.streams else "normal"


def describe_options(name: str) -> str:
    """All options of a method: how each is given, its value in each preset, and what it takes.

    Args:
        name: of a method, or the dotted path of one.

    Raises:
        SaganError: when there is no such method, with the nearest one.
    """
    from monai_sagan.methods import find_method, resolve_settings
    from monai_sagan.options import describe

    method, keys = find_method(name), train_keys()
    order = sorted(method.presets, key=lambda preset: preset != DEFAULT)  # the default preset first
    values = {preset: describe(method.Options, resolve_settings(preset, name)) for preset in order}
    stages = f" in {method.stages_count} stages" if method.stages_count > 1 else ""
    lines = [
        f"{method.title} learns from images: {learns_from(method)}{stages}",
        f"python -m monai.bundle run --config_file bundles/rsna/train.json --method {name} --preset {DEFAULT}",
        f"presets: {', '.join(order)}; an option that is given stands in place of the preset's",
    ]
    for i, row in enumerate(values[order[0]]):
        if row.name != "method":
            shown = _defaults({preset: rows[i].default for preset, rows in values.items()})
            lines += [f"  --{option_key(row.name, keys)} {shown}", f"      {row.values}: {_plain(row.help)}"]
    return "\n".join(lines)


def _defaults(by_preset: Mapping[str, str]) -> str:
    """The first preset's value, and those of the presets that have another."""
    first, *others = by_preset.items()
    differing = [f"{preset} {value}" for preset, value in others if value != first[1]]
    return first[1] + (f"  ({', '.join(differing)})" if differing else "")


def _plain(text: str) -> str:
    """A text of a page without its links."""
    return re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", text)
