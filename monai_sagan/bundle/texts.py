"""Options that are paths or names: the text as typed, where python-fire and MONAI would read something else.

For python-fire ``2024``, ``1e3``, ``a,b`` and ``[x]`` are Python values and ``#`` starts a comment; MONAI drops
``None`` and takes ``#`` in any text for a part of an id.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Mapping
from html import escape
from typing import Any

from monai_sagan.bundle.being_read import parser_being_read
from monai_sagan.errors import SaganError

__all__: list[str] = []

TEXT = re.compile(r".+_(dir|file|folder|column|name)|model|table")
EVALUATED = ("@", "$", "%")  # MONAI replaces these by the value they refer to
EMPTY = "None"  # of an option that may be left out; a folder or a model may have that name


def is_text_option(option: str) -> bool:
    """Whether an option is a path or a name, by its own name; of an id the last part counts."""
    return TEXT.fullmatch(re.split("#|::", option)[-1]) is not None


def text_as_typed(option: str, word: str) -> str | None:
    """A word of a command line as a text, quoted or not; None for a missing value."""
    if word == EMPTY and not option.endswith(("_dir", "model")):
        return None
    try:
        value = ast.literal_eval(word)
    except (ValueError, SyntaxError):
        return word
    return value if isinstance(value, str) else word


def keep_texts(typed: Mapping[str, str], given: Mapping[str, Any]) -> None:
    """Restore texts in the config that is being read as they were typed; integers become their digits.

    ``typed`` are words of the command line by option, ``given`` values of an ``args_file``.

    Raises:
        SaganError: for an option without a value, and a value from elsewhere that is not a text; it says how to
            write it.
    """
    parser = parser_being_read()
    if parser is None:
        return
    config: Any = parser.config  # a dictionary, once it is read
    for option in filter(is_text_option, {**config, **given, **typed}):
        if option not in parser:
            continue  # one of MONAI's own
        found = parser[option]
        text = (
            _typed(option, typed[option], found)
            if option in typed
            else text_for_config(option, given.get(option, found))
        )
        if text != found:
            parser[option] = text


def _typed(option: str, word: str, found: Any) -> Any:
    if isinstance(found, bool) and not word:
        raise SaganError(f"--{option} has no value; give a path or a name")
    if word[:1] in EVALUATED or (word[:1] == "{" and _is_component(found)):
        return found
    return _protected(text_as_typed(option, word))


def text_for_config(option: str, value: Any) -> Any:
    """The value for a config of a path or a name that is not of a command line: integers become their digits.

    Raises:
        SaganError: for a value that is not a text; it says how to write it.
    """
    if type(value) is int:
        return str(value)
    if value is None or isinstance(value, os.PathLike) or _is_component(value):
        return value
    if not isinstance(value, str):
        raise SaganError(f"{option} is {value!r}; it is a path or a name: write it in quotes")
    return _protected(value)


def _protected(text: str | None) -> Any:
    """A text, by a component where MONAI would replace a part of it."""
    if text is None or "#" not in text or text[0] in EVALUATED:
        return text
    return {"_target_": "html.unescape", "s": escape(text, quote=False).replace("#", "&num;")}


def _is_component(value: Any) -> bool:
    return isinstance(value, Mapping) and "_target_" in value
