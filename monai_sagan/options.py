"""Options as fields of frozen dataclasses, each with its type, range and one line of help."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from types import UnionType
from typing import Any, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

from monai_sagan.errors import SaganError

__all__ = ["option"]

T = TypeVar("T")
WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a word"}
PAIRS = {
    int: "one whole number above 0 or two, for example 64 or [64, 64]",
    float: "two numbers, for example [0.5, 0.999]",
}


class Described(NamedTuple):
    """An option in words: its name, accepted values, default and help."""

    name: str
    values: str
    default: str
    help: str


def option(
    default: Any, help: str, *, low: float | None = None, high: float | None = None, choices: Sequence[Any] = ()
) -> Any:
    """Define an option as a field of a dataclass.

    Args:
        default: a value of the field's type.
        help: one line, with the unit.
        low: smallest value, of each number in a pair.
        high: largest value, of each number in a pair.
        choices: all accepted values.

    Example:
        >>> @dataclasses.dataclass(frozen=True)
        ... class Options:
        ...     width: int = option(8, "channels of the first level", low=1)
        >>> resolve(Options, {"width": 16})
        Options(width=16)
    """
    return dataclasses.field(
        default=default, metadata={"help": help, "low": low, "high": high, "choices": tuple(choices)}
    )


def resolve(kind: type[T], values: Mapping[str, Any]) -> T:
    """Create options from ``values``; None keeps the default.

    Args:
        kind: a dataclass whose fields were made by `option`.
        values: by name; the word ``none`` sets an optional value to None.

    Raises:
        SaganError: for an unknown option, naming the nearest one, or a value of the wrong type or out of range.
    """
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    types = get_type_hints(kind)
    for name in values:
        if name not in fields:
            near = difflib.get_close_matches(name, fields, n=1)
            hint = f"the nearest is {near[0]}" if near else f"the options are {', '.join(fields)}"
            raise SaganError(f"unknown option {name!r}; {hint}")
    given = {name: typed(name, value, types[name]) for name, value in values.items() if value is not None}
    for name, value in given.items():
        if wrong := _misfit(value, fields[name].metadata):
            raise SaganError(f"{name} is {values[name]!r}; {wrong}")
    return kind(**given)


def describe(kind: type, values: Any = None) -> list[Described]:
    """Describe the options of a dataclass, in order.

    Args:
        kind: a dataclass whose fields were made by `option`.
        values: an instance with the defaults to show, such as those of a preset; None for the class's own.

    Example:
        >>> from monai_sagan.settings import Settings
        >>> describe(Settings)[0].name
        'method'
    """
    types = get_type_hints(kind)
    return [
        Described(
            field.name,
            _values(types[field.name], field.metadata),
            _shown(field.default if values is None else getattr(values, field.name)),
            field.metadata["help"],
        )
        for field in dataclasses.fields(kind)
    ]


def typed(name: str, value: Any, kind: Any) -> Any:
    """Convert a value to a type without loss: the words ``true`` and ``none``, and 1 for 1.0.

    Args:
        name: of the option, for the message.
        value: of a command line or a file.
        kind: int, float, bool, str, a pair of numbers, or one of these or None.

    Raises:
        SaganError: naming the value and the expected type.
    """
    plain, optional = _without_none(kind)
    if optional and (value is None or value == "none"):
        return None
    if get_origin(plain) is tuple:
        return _pair(name, value, get_args(plain)[0])
    if plain is bool and isinstance(value, str):
        value = {"true": True, "false": False}.get(value.lower(), value)
    if not (type(value) is plain or (plain is float and type(value) is int)):
        raise SaganError(f"{name} is {value!r}; it is {WORDS[plain]}{' or none' if optional else ''}")
    return float(value) if plain is float else value


def _pair(name: str, value: Any, kind: type) -> tuple[Any, Any]:
    numbers = (value, value) if kind is int and type(value) is int else value
    fits = (int,) if kind is int else (int, float)
    if not isinstance(numbers, (list, tuple)) or len(numbers) != 2 or any(type(n) not in fits for n in numbers):
        raise SaganError(f"{name} is {value!r}; give {PAIRS[kind]}")
    return kind(numbers[0]), kind(numbers[1])


def _misfit(value: Any, limits: Mapping[str, Any]) -> str | None:
    """Describe the valid values if a value is invalid, else None."""
    if value is None:
        return None  # the type allows it
    if limits["choices"]:
        return None if value in limits["choices"] else f"use one of {', '.join(map(_shown, limits['choices']))}"
    low, high = limits["low"], limits["high"]
    numbers = value if isinstance(value, tuple) else (value,)
    # Written so that NaN does not fit.
    fits = all((low is None or number >= low) and (high is None or number <= high) for number in numbers)
    return None if fits else f"it is {_range(low, high)}"


def _range(low: float | None, high: float | None) -> str:
    """Describe a range; a limit 1e-9 short of an integer excludes that integer."""
    least = None if low is None else "above 0" if 0 < low <= 1e-9 else f"at least {low:g}"
    most = None if high is None else f"below {round(high)}" if 0 < round(high) - high <= 1e-9 else f"at most {high:g}"
    return " and ".join(words for words in (least, most) if words)


def _values(kind: Any, limits: Mapping[str, Any]) -> str:
    plain, optional = _without_none(kind)
    if limits["choices"]:
        return ", ".join(map(_shown, limits["choices"]))
    if get_origin(plain) is tuple:
        words = "two numbers" if get_args(plain)[0] is float else "a whole number or two"
    else:
        words = WORDS[plain]
    if limits["low"] is not None or limits["high"] is not None:
        words += f", {_range(limits['low'], limits['high'])}"
    return words + (" or none" if optional else "")


def _shown(value: Any) -> str:
    """A value as it is typed on a command line."""
    if isinstance(value, tuple):
        return f"[{','.join(map(_shown, value))}]"
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _without_none(kind: Any) -> tuple[Any, bool]:
    if get_origin(kind) not in (Union, UnionType):
        return kind, False
    parts = [part for part in get_args(kind) if part is not type(None)]
    return parts[0], len(parts) < len(get_args(kind))
