"""Words of a command line: options by name, with their values, as python-fire and MONAI read them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from monai_sagan.bundle.texts import is_text_option, text_as_typed
from monai_sagan.errors import SaganError

__all__: list[str] = []


def split_options(words: Sequence[str]) -> tuple[dict[str, str | None], list[str]]:
    """The options of a command line, each with its word or None, and the words that belong to no option.

    >>> split_options(["run", "--seed", "1", "--output-dir=a b", "--amp"])
    ({'seed': '1', 'output_dir': 'a b', 'amp': None}, ['run'])
    """
    rest, loose, options = list(words), list[str](), dict[str, str | None]()
    while rest:
        word = rest.pop(0)
        if not _is_flag(word):
            loose.append(word)
            continue
        name, equals, value = word.lstrip("-").partition("=")
        has_next = not equals and rest and not _is_flag(rest[0])
        options[name.replace("-", "_")] = rest.pop(0) if has_next else value if equals else None
    return options, loose


def _is_flag(word: str) -> bool:
    return re.match("--|-[a-zA-Z]", word) is not None


def parse_options(words: Sequence[str]) -> dict[str, Any]:
    """The values of ``--key value`` pairs; paths and names are texts as typed, "true" and "false" truth values, too.

    >>> parse_options(["--slice_range", "[0.2,0.8]", "--split_file", "2024", "--official_test=true"])
    {'slice_range': [0.2, 0.8], 'split_file': '2024', 'official_test': True}

    Raises:
        SaganError: for a word that is neither an option nor its value, and an option without a value.
    """
    options, loose = split_options(words)
    wrong = [*loose, *(f"--{name}" for name, word in options.items() if word is None)]
    if wrong:
        raise SaganError(f"{wrong[0]!r} is not understood; options are given as --key value")
    return {name: _value(name, word) for name, word in options.items() if word is not None}


def _value(name: str, word: str) -> Any:
    from fire.parser import DefaultParseValue

    if is_text_option(name):
        return text_as_typed(name, word)
    return {"true": True, "false": False}.get(word.lower(), DefaultParseValue(word))


def join_options(values: Mapping[str, Any]) -> list[str]:
    """Write values as words, one for each.

    >>> join_options({"seed": 1, "output_dir": "a b"})
    ['--seed=1', '--output_dir=a b']
    """
    return [f"--{name}={value if isinstance(value, str) else repr(value)}" for name, value in values.items()]
