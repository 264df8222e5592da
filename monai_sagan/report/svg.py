"""Charts as SVG; the page's style colors them by their classes, in light and dark."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from numpy.typing import ArrayLike

from monai_sagan.report.html import Html, join, tag

LEFT, RIGHT, TOP, BOTTOM = 54, 14, 14, 46  # margins, in units of the drawing
ROW = 17  # of text
LABEL = 115  # the width of a rule's label


@dataclass(frozen=True)
class Frame:
    """The place of data in a drawing, in its units."""

    x: tuple[float, float]  # lowest and highest value across
    y: tuple[float, float] = (0.0, 1.0)  # lowest and highest value up
    width: float = 420  # of the drawing
    height: float = 340  # of the drawing
    top: float = TOP  # margin above the data
    bottom: float = BOTTOM  # margin below the data

    def across(self, value: float) -> float:
        """The horizontal place of a value."""
        return LEFT + (value - self.x[0]) / (self.x[1] - self.x[0]) * (self.width - LEFT - RIGHT)

    def up(self, value: float) -> float:
        """The vertical place of a value, from the top."""
        share = (value - self.y[0]) / (self.y[1] - self.y[0])
        return self.height - self.bottom - share * (self.height - self.top - self.bottom)


def rows(x: tuple[float, float], ys: Sequence[tuple[float, float]], top: float, height: float = 92) -> list[Frame]:
    """A frame for each row of a drawing, with room for a `heading` above each and for ``top`` above all."""
    step = ROW + 8 + height
    total = top + step * len(ys) + BOTTOM
    tops = [top + step * (i + 1) - height for i in range(len(ys))]
    return [Frame(x, y, height=total, top=at, bottom=total - at - height) for y, at in zip(ys, tops, strict=True)]


def heading(frame: Frame, content: str) -> Html:
    """A line of text right above the data."""
    return _text(LEFT, frame.top - 6, content, "start", "label")


def chart(frame: Frame, description: str, *parts: Html) -> Html:
    """A drawing that fills its place; the description is its text alternative."""
    box = f"0 0 {frame.width:g} {frame.height:g}"
    return tag("svg", tag("title", description), *parts, viewBox=box, role="img", aria_label=description)


def axes(
    frame: Frame, across: str, up: str, x_ticks: Sequence[float] | None = None, y_ticks: Sequence[float] | None = None
) -> Html:
    """Axes with names, ticks and grid lines; None chooses the ticks."""
    x_ticks = ticks(*frame.x) if x_ticks is None else x_ticks
    y_ticks = ticks(*frame.y, 4) if y_ticks is None else y_ticks
    left, right = frame.across(frame.x[0]), frame.across(frame.x[1])
    bottom, top = frame.up(frame.y[0]), frame.up(frame.y[1])
    parts = [_path([(left, frame.up(y)), (right, frame.up(y))], "grid") for y in y_ticks]
    parts.append(_path([(left, bottom), (right, bottom)], "axis"))
    for y, label in zip(y_ticks, _labels(y_ticks), strict=True):
        parts.append(_text(left - 8, frame.up(y) + 4, label, "end"))
    for x, label in zip(x_ticks, _labels(x_ticks), strict=True):
        parts.append(_text(frame.across(x), bottom + 18, label, "middle"))
    if across:
        parts.append(_text((left + right) / 2, frame.height - 6, across, "middle", "name"))
    turned = f"rotate(-90 12 {(top + bottom) / 2:.1f})"
    parts.append(_text(12, (top + bottom) / 2, up, "middle", "name", transform=turned))
    return join(*parts)


def line(frame: Frame, xs: ArrayLike, ys: ArrayLike, kind: str) -> Html:
    """A line through points (N,), broken where a value is not finite."""
    pieces: list[list[tuple[float, float]]] = [[]]
    for x, y in zip(_floats(xs), _floats(ys), strict=True):
        if math.isfinite(y):
            pieces[-1].append((frame.across(x), frame.up(y)))
        elif pieces[-1]:
            pieces.append([])
    return join(*(_path(piece, kind) for piece in pieces if piece))


def area(frame: Frame, xs: ArrayLike, low: ArrayLike, high: ArrayLike, kind: str) -> Html:
    """The area between two lines (N,)."""
    places = _floats(xs)
    there = [(frame.across(x), frame.up(y)) for x, y in zip(places, _floats(high), strict=True)]
    back = [(frame.across(x), frame.up(y)) for x, y in zip(places, _floats(low), strict=True)]
    return _path(there + back[::-1], kind, closed=True)


def bars(frame: Frame, edges: ArrayLike, counts: ArrayLike, kind: str) -> Html:
    """A histogram, edges (N + 1,) and counts (N,), as one shape."""
    bounds, heights = _floats(edges), _floats(counts)
    points = [(bounds[0], 0.0)]
    for left, right, height in zip(bounds[:-1], bounds[1:], heights, strict=True):
        points += [(left, height), (right, height)]
    points.append((bounds[-1], 0.0))
    return _path([(frame.across(x), frame.up(y)) for x, y in points], kind, closed=True)


def rule(frame: Frame, x: float, label: str = "", row: int = 0, before: bool = False) -> Html:
    """A vertical line at ``x``, with a label above the data in a row from the top, 0 the highest."""
    at, top = frame.across(x), ROW * row if label else frame.top
    where, anchor = (at - 5, "end") if before else (at + 5, "start")
    words = _text(where, top + 11, label, anchor, "label") if label else None
    return join(_path([(at, top), (at, frame.up(frame.y[0]))], "rule"), words)


def rules(frame: Frame, xs: Sequence[float], labels: Sequence[str]) -> Html:
    """One or two rules, each with a label in its own row that no other line crosses.

    To the right of the lines the leftmost stands in the highest row, to their left the rightmost: a line begins in its
    own row, below the labels that reach over it.
    """
    places = {i: frame.across(x) for i, x in enumerate(xs)}
    no_room = any(at > frame.width - LABEL for at in places.values())  # to the right of the last line
    before = {i for i, at in places.items() if no_room and at > LEFT + LABEL}
    order = sorted(places, key=lambda i: (i in before, -places[i] if i in before else places[i]))
    return join(*(rule(frame, xs[i], labels[i], row, i in before) for row, i in enumerate(order)))


def whisker(low: float, value: float, high: float, bounds: tuple[float, float], kind: str, description: str) -> Html:
    """A value and its interval on a small scale, clipped to its bounds, for a table's cell."""

    def across(x: float) -> str:
        return f"{4 + 152 * (min(max(x, bounds[0]), bounds[1]) - bounds[0]) / (bounds[1] - bounds[0]):.1f}"

    scale = tag("path", d="M4 9H156", class_="grid")
    reach = tag("path", d=f"M{across(low)} 9H{across(high)}M{across(low)} 5V13M{across(high)} 5V13", class_=kind)
    dot = tag("circle", cx=across(value), cy="9", r="3.6", class_=f"{kind} dot")
    return tag("svg", scale, reach, dot, viewBox="0 0 160 18", class_="whisker", role="img", aria_label=description)


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """About ``about`` round values from ``low`` to ``high``."""
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= 0.999 * rough)
    first = math.ceil(low / step - 1e-9)
    return [n * step for n in range(first, math.floor(high / step + 1e-9) + 1)]


def _labels(values: Sequence[float]) -> list[str]:
    step = min((b - a for a, b in pairwise(values)), default=1.0)
    digits = next((n for n in range(8) if abs(round(step, n) - step) < 1e-6 * step), 8)
    return [f"{value:,.{digits}f}".replace("-", "\N{MINUS SIGN}") for value in values]


def _path(points: Iterable[tuple[float, float]], kind: str, closed: bool = False) -> Html:
    shown: list[str] = []
    for x, y in points:
        point = f"{x:.1f} {y:.1f}"
        if not shown or shown[-1] != point:
            shown.append(point)
    return tag("path", d="M" + "L".join(shown) + "Z" * closed, class_=kind)


def _text(x: float, y: float, content: str, anchor: str, kind: str | None = None, **more: str) -> Html:
    return tag("text", content, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor, class_=kind, **more)


def _floats(values: ArrayLike) -> list[float]:
    import numpy as np

    return [float(value) for value in np.asarray(values, dtype=float).ravel()]
