"""HTML that is escaped by construction: text becomes markup only through `tag`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from itertools import chain, repeat
from typing import Any

EMPTY = {"meta", "img", "br"}


class Html(str):
    """Markup; every other string is text, to be escaped."""

    __slots__ = ()


def tag(name: str, /, *children: Any, **attributes: Any) -> Html:
    """The element ``name`` with its children, see `join`, and attributes.

    An attribute's name loses a trailing ``_``, and ``_`` becomes ``-``. None and False omit it, True gives it no value.
    """
    shown = ""
    for key, value in attributes.items():
        if value is not None and value is not False:
            word = key.rstrip("_").replace("_", "-")
            shown += f" {word}" if value is True else f' {word}="{escape(str(value))}"'
    return Html(f"<{name}{shown}>" if name in EMPTY else f"<{name}{shown}>{join(*children)}</{name}>")


def join(*parts: Any) -> Html:
    """Join the parts: text is escaped, `Html` is not, None is skipped, and no line breaks before a %."""
    texts = (part if isinstance(part, Html) else escape(str(part)).replace(" %", "&nbsp;%") for part in parts)
    return Html("".join(text for text, part in zip(texts, parts, strict=True) if part is not None))


def paragraph(*parts: Any, kind: str | None = None, id: str | None = None) -> Html:
    """A paragraph of class ``kind``."""
    return tag("p", *parts, class_=kind, id=id)


def sentence(text: str) -> str:
    """The text with a capital first letter and a final period."""
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def section(name: str, title: str, *parts: Any) -> Html:
    """A section with a heading and the id ``name``."""
    return tag("section", tag("h2", title, id=f"{name}-title"), *parts, id=name, aria_labelledby=f"{name}-title")


def table(
    head: Sequence[Any],
    rows: Iterable[Sequence[Any]],
    title: str,
    kinds: Sequence[str | None] = (),
    wide: str | None = None,
    prose: Sequence[str] = (),
    ids: Sequence[str | None] = (),
) -> Html:
    """A table that scrolls on narrow screens; a row of one cell is a heading of the rows below it.

    ``kinds`` and ``ids`` are classes and ids of the rows. The column ``wide`` is hidden on narrow screens; text breaks
    only in the columns ``prose``.
    """
    classes = ["wide" if name == wide else "prose" if name in prose else None for name in head]
    columns = tag("tr", *(tag("th", name, scope="col", class_=c) for name, c in zip(head, classes, strict=True)))
    body = [
        tag("tr", tag("th", first, scope="row"), *map(_cell, cells, classes[1:]), class_=kind, id=id)
        if cells
        else tag("tr", tag("th", first, scope="rowgroup", colspan=len(head)), class_="group")
        for (first, *cells), kind, id in zip(rows, chain(kinds, repeat(None)), chain(ids, repeat(None)), strict=False)
    ]
    inner = tag("table", tag("caption", tag("span", title)), tag("thead", columns), tag("tbody", *body))
    return tag("div", inner, class_="scroll", tabindex="0", role="region", aria_label=title)


def _cell(content: Any, kind: str | None) -> Html:
    return tag("td", content, class_=kind)
