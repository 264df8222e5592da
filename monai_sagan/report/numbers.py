"""Numbers as text, with fixed digits: the same run gives the same page."""

from __future__ import annotations

import math
from typing import Any

NONE = DASH = "\N{EN DASH}"


def fraction(value: Any) -> str:
    """Three decimals, or a dash if undefined."""
    return NONE if not _is_number(value) else f"{value:.3f}"


def interval(bounds: Any) -> str:
    """Both bounds with a dash, or nothing."""
    known = isinstance(bounds, (list, tuple)) and len(bounds) == 2 and all(map(_is_number, bounds))
    return f"{bounds[0]:.3f}{DASH}{bounds[1]:.3f}" if known else ""


def value_and_interval(block: Any, name: str) -> str:
    """The metric ``name`` with its ``name_ci95``, if any, in brackets."""
    bounds = interval(block.get(f"{name}_ci95"))
    return fraction(block.get(name)) + (f" ({bounds})" if bounds else "")


def percent(value: Any) -> str:
    """The share as ``62.5 %`` or ``95 %``, or a dash if undefined."""
    return NONE if not _is_number(value) else f"{100 * value:.1f}".removesuffix(".0") + " %"


def count(number: int, thing: str) -> str:
    """``1 image``, ``2,000 images``."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def as_text(value: Any) -> str:
    """A value of a configuration: short numbers, lists with commas."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(as_text, value)) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{key} {as_text(value[key])}" for key in sorted(value)) or "none"
    return str(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
