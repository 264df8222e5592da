"""HTML that is escaped by construction: text becomes markup only through `tag`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from itertools import chain, repeat
from typing import Any

__all__ = ["Html", "join", "paragraph", "section", "sentence", "table", "tag"]

EMPTY = {"meta", "img", "br"}


class Html(str):
    """Markup; every other string is text, to be escaped."""

    __slots__ = ()


def tag(name: str, /, *children: Any, **attributes: Any) -> Html:
    """The element ``name`` of ``children``, see `join`, with ``attributes``.

    An attribute's name loses a trailing ``_``, and ``_`` becomes ``-``. One of None or False is left out, of True has
    no value.
    """
    shown = ""
    for key, value in attributes.items():
        if value is not None and value is not False:
            word = key.rstrip("_").replace("_", "-")
            shown += f" {word}" if value is True else f' {word}="{escape(str(value))}"'
    return Html(f"<{name}{shown}>" if name in EMPTY else f"<{name}{shown}>{join(*children)}</{name}>")


def join(*parts: Any) -> Html:
    """One after the other ``parts``, of which those that are not `Html` are escaped; None is nothing.

    No line ends before a %.
    """
    texts = (part if isinstance(part, Html) else escape(str(part)).replace(" %", "&nbsp;%") for part in parts)
    return Html("".join(text for text, part in zip(texts, parts, strict=True) if part is not None))


def paragraph(*parts: Any, kind: str | None = None) -> Html:
    """A paragraph of ``parts``, see `join`; ``kind`` is its class."""
    return tag("p", *parts, class_=kind)


def sentence(text: str) -> str:
    """A text that begins with a capital and ends with a point."""
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def section(name: str, title: str, *parts: Any) -> Html:
    """A section of ``parts``, see `join`, under the heading ``title``, which ``#name`` leads to."""
    return tag("section", tag("h2", title, id=f"{name}-title"), *parts, id=name, aria_labelledby=f"{name}-title")


def table(
    head: Sequence[Any],
    rows: Iterable[Sequence[Any]],
    title: str,
    kinds: Sequence[str | None] = (),
    wide: str | None = None,
    prose: Sequence[str] = (),
) -> Html:
    """A table that scrolls by itself where the screen is narrow.

    Args:
        head: of the columns; the first is the rows' own.
        rows: of cells, the first being the row's head; a row of one cell is a heading of the rows below it.
        title: the caption.
        kinds: classes of the rows.
        wide: the head of the column, not the first, that is left out where the screen is narrow.
        prose: the heads of the columns, not the first, whose text breaks anywhere; all else stays in a line.
    """
    classes = ["wide" if name == wide else "prose" if name in prose else None for name in head]
    columns = tag("tr", *(tag("th", name, scope="col", class_=c) for name, c in zip(head, classes, strict=True)))
    body = [
        tag("tr", tag("th", first, scope="row"), *map(_cell, cells, classes[1:]), class_=kind)
        if cells
        else tag("tr", tag("th", first, scope="rowgroup", colspan=len(head)), class_="group")
        for (first, *cells), kind in zip(rows, chain(kinds, repeat(None)), strict=False)
    ]
    inner = tag("table", tag("caption", tag("span", title)), tag("thead", columns), tag("tbody", *body))
    return tag("div", inner, class_="scroll", tabindex="0", role="region", aria_label=title)


def _cell(content: Any, kind: str | None) -> Html:
    return tag("td", content, class_=kind)
