"""The check of a command line: it may override the keys that the config has."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_sagan.bundle.folders import nearest
from monai_sagan.bundle.overrides import tracking_keys
from monai_sagan.bundle.texts import keep_texts
from monai_sagan.bundle.words import split_options
from monai_sagan.errors import SaganError, show_errors_in_one_line
from monai_sagan.files import print_any_name

__all__: list[str] = []


def check_command_line(argv: Sequence[str] | None = None, beside: Collection[str] = ()) -> None:
    """Refuse an override that the config file does not have, which MONAI would silently accept as a new key.

    It is the first component in a config's ``initialize`` list. It also keeps paths and names as typed, and calls
    `show_errors_in_one_line`. In a program other than ``python -m monai.bundle`` it only turns integers given for
    paths and names into texts.

    Args:
        argv: the words after ``python -m monai.bundle``; None for those of this process.
        beside: names of other options, to suggest them.

    Raises:
        SaganError: when a key is unknown, with the nearest valid one; or when a path or name is not a text, and not
            typed.
    """
    if argv is None:
        if Path(sys.argv[0]).parts[-3:] != ("monai", "bundle", "__main__.py"):
            keep_texts({}, {})
            return
        argv = sys.argv[1:]
    show_errors_in_one_line()
    print_any_name()
    verb = argv[0].replace("-", "_") if argv else ""
    if verb in ("run", "run_workflow"):
        keep_texts(*_check_options(verb, argv[1:], beside))


def _check_options(verb: str, words: Sequence[str], beside: Collection[str]) -> tuple[dict[str, str], dict[str, Any]]:
    """The options that were typed, and those of the ``args_file``, if all of them are known."""
    from monai.bundle import ConfigParser

    parameters = _monai_parameters(verb)
    typed = _named_options(words, parameters)
    given = ConfigParser.load_config_file(typed["args_file"]) if "args_file" in typed else {}
    options: dict[str, Any] = given | typed
    files = _paths(options.get("config_file"))
    config = ConfigParser.load_config_files(files)
    known = {"_meta_", *parameters, *_monai_parameters("create_workflow"), *_monai_parameters("ConfigWorkflow")}
    if "tracking" in options:
        known |= tracking_keys()
    for option in options:
        _check_id(option.removeprefix("+"), config, known, beside, files)
    return typed, given


def _monai_parameters(name: str) -> list[str]:
    from monai import bundle

    parameters = inspect.signature(getattr(bundle, name)).parameters.values()
    return [parameter.name for parameter in parameters if parameter.kind is not parameter.VAR_KEYWORD]


def _named_options(words: Sequence[str], parameters: Sequence[str]) -> dict[str, str]:
    """The options of a command line by name, as python-fire reads them for a function with such ``parameters``."""
    options, loose = split_options(_before_separator(words))
    named = {
        name if word is not None or name in parameters else name.removeprefix("no"): word or ""
        for name, word in options.items()  # fire: "--noamp" alone says that amp is False
    }
    free = [name for name in parameters if name not in named]
    return named | dict(zip(free, loose, strict=False))


def _before_separator(words: Sequence[str]) -> list[str]:
    """The words that python-fire gives to the function: those before a lone "-", and before the last "--"."""
    words = list(words)
    if "--" in words:
        words = words[: len(words) - 1 - words[::-1].index("--")]
    return words[: words.index("-")] if "-" in words else words


def _paths(value: Any) -> list[str]:
    """One path, or a list of them, which a command line gives as the text of a Python list."""
    value = _literal(value)
    return [value] if isinstance(value, str) else list(value or [])


def _literal(value: Any) -> Any:
    """A text as a Python literal, or itself if it is none."""
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value


def _check_id(option: str, config: Any, known: Collection[str], beside: Collection[str], files: Sequence[str]) -> None:
    keys = option.replace("::", "#").split("#")
    if keys[0] in known:
        return
    for depth, key in enumerate(keys):
        children = _children(config)
        if key not in children:
            if depth == len(keys) - 1 and "_target_" in children:
                return  # one more argument of that component
            hint = _hint(keys[:depth], key, list(children) if depth else [*children, *known, *beside])
            raise SaganError(f"--{option} is not a key of {' and '.join(files)}; {hint}")
        config = children[key]


def _children(config: Any) -> Mapping[str, Any]:
    if isinstance(config, list):
        return {str(index): child for index, child in enumerate(config)}
    return config if isinstance(config, dict) else {}


def _hint(parents: Sequence[str], key: str, choices: Sequence[str]) -> str:
    if closest := nearest(key, choices):
        return f"the nearest is --{'#'.join([*parents, closest])}"
    if not parents:
        return "no key is similar"
    return f"{'#'.join(parents)} has {', '.join(choices)}" if choices else "that value has no parts"
