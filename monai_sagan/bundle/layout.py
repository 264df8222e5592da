"""The layout of the bundles' configs, and the part that they share.

``python -m monai_sagan.bundle.layout NAME`` writes every config in this layout, and copies the part of bundle NAME's
``train.json`` that does not depend on the dataset to the others.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from monai_sagan.bundle.folders import bundle_names, bundle_path
from monai_sagan.files import write_text

__all__: list[str] = []

WIDTH, INDENT = 120, 4
SHARED_FROM = {"train.json": "method", "evaluate.json": "device", "inference.json": "device"}  # the first shared key


def as_text(config: Mapping[str, Any]) -> str:
    """A config as text: a component without components inside is on one line where it fits.

    >>> print(as_text({"a": [1, 2], "b": {"_target_": "torch.nn.ReLU"}}), end="")
    {
        "a": [1, 2],
        "b": {"_target_": "torch.nn.ReLU"}
    }
    """
    return _text(config, 0, 0, top=True) + "\n"


def shared_part(file: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a config, by its file's name, that is the same in all bundles."""
    keys = list(config)
    return {key: config[key] for key in keys[keys.index(SHARED_FROM[file]) :]}


def _text(value: Any, depth: int, used: int, top: bool = False) -> str:
    """A value as text; ``used`` columns of its first line are taken."""
    line = json.dumps(value)
    if not isinstance(value, (dict, list)) or not (top or len(line) + used > WIDTH - 1 or _is_deep(value)):
        return line
    begin, end = "{}" if isinstance(value, dict) else "[]"
    margin = " " * INDENT * (depth + 1)
    return f"{begin}\n{margin}" + f"\n{margin}".join(_lines(value, depth + 1)) + f"\n{' ' * INDENT * depth}{end}"


def _lines(value: Any, depth: int) -> Iterator[str]:
    """The parts of a dict or a list, each with its comma; plain arguments of a component fill lines together."""
    pairs = (
        [(f"{json.dumps(key)}: ", one) for key, one in value.items()]
        if isinstance(value, dict)
        else [("", one) for one in value]
    )
    parts = [name + _text(one, depth, INDENT * depth + len(name)) for name, one in pairs]
    parts = [part + "," for part in parts[:-1]] + parts[-1:]
    may_fill = depth > 1 and (isinstance(value, dict) or not any(isinstance(one, dict) for one in value))
    line = ""
    for (name, one), part in zip(pairs, parts, strict=True):
        fills = may_fill and name != '"_target_": ' and not isinstance(one, dict) and "\n" not in part
        if fills and line and INDENT * depth + len(line) + 1 + len(part) <= WIDTH:
            line += f" {part}"
            continue
        if line:
            yield line
        line = part if fills else ""
        if not fills:
            yield part
    if line:
        yield line


def _is_deep(value: Any) -> bool:
    """Whether a value has more than one level of dicts, or a list of several dicts."""
    inside = list(value.values()) if isinstance(value, dict) else value
    dicts = [one for one in inside if isinstance(one, dict)]
    lists = [one for one in inside if isinstance(one, list) and any(isinstance(part, (dict, list)) for part in one)]
    return bool(lists) or len(dicts) > 1 or any(_is_deep(one) for one in dicts)


def main() -> None:
    """Write the bundles' configs again."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("name", metavar="NAME", help="the bundle whose shared part the others take")
    name = parser.parse_args().name
    for file in SHARED_FROM:
        shared = shared_part(file, json.loads((Path(bundle_path(name)) / file).read_text(encoding="utf-8")))
        for other in bundle_names():
            path = Path(bundle_path(other)) / file
            own = json.loads(path.read_text(encoding="utf-8"))
            for key in shared_part(file, own):
                del own[key]
            write_text(path, as_text(own | shared))


if __name__ == "__main__":
    main()
