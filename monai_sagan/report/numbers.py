"""How the page writes numbers: always the same digits, so that the same run gives the same page."""

from __future__ import annotations

import math
from typing import Any

__all__ = ["NONE", "count", "fraction", "interval", "percent", "plain", "value_and_interval"]

NONE = DASH = "\N{EN DASH}"


def fraction(value: Any) -> str:
    """Three decimals of ``value``, or a dash for what is not defined."""
    return NONE if not _number(value) else f"{value:.3f}"


def interval(bounds: Any) -> str:
    """Both bounds with a dash between them, or nothing."""
    known = isinstance(bounds, (list, tuple)) and len(bounds) == 2 and all(map(_number, bounds))
    return f"{bounds[0]:.3f}{DASH}{bounds[1]:.3f}" if known else ""


def value_and_interval(block: Any, name: str) -> str:
    """The metric ``name`` of ``block`` with its ``name_ci95`` in brackets, where it has one."""
    bounds = interval(block.get(f"{name}_ci95"))
    return fraction(block.get(name)) + (f" ({bounds})" if bounds else "")


def percent(value: Any) -> str:
    """The share ``value`` as ``62.5 %``, or ``95 %`` where nothing follows; a dash for what is not defined."""
    return NONE if not _number(value) else f"{100 * value:.1f}".removesuffix(".0") + " %"


def count(number: int, thing: str) -> str:
    """``number`` and ``thing``, in the plural where it must be: ``1 image``, ``2,000 images``."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def plain(value: Any) -> str:
    """A value of a configuration: words as they are, numbers short, lists with commas."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(plain, value))
    if isinstance(value, dict):
        return ", ".join(f"{key} {plain(value[key])}" for key in sorted(value))
    return str(value)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
