"""Pages in Chromium: on a phone and on a desk, in light and in dark. What is wrong with them comes back as texts.

It drives Debian's ``chromium``; what needs it is skipped where that or the Python package playwright is missing.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag, urlsplit

import pytest

SCREENS: dict[str, dict[str, Any]] = {
    "phone": {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True},
    "desk": {"viewport": {"width": 1280, "height": 900}},
}
OPTIONS = "--disable-gpu --no-first-run --disable-background-networking --disable-component-update --disable-sync"
LINKS = "[...document.querySelectorAll('a[href]')].map(a => a.href)"

# What is wider than the screen, or than the box in which it can be scrolled; blocks of code may be.
TOO_WIDE = """width => {
  const found = [], page = document.documentElement.scrollWidth;
  if (page > width) found.push(`${page} pixels wide`);
  for (const table of document.querySelectorAll('table'))
    for (let box = table.parentElement; box; box = box.parentElement)
      if (box.clientWidth && box.scrollWidth > box.clientWidth + 1 && getComputedStyle(box).overflowX != 'visible')
        found.push(`a table is cut off: ${table.textContent.trim().replace(/\\s+/g, ' ').slice(0, 60)}`);
  return found;
}"""

# Text whose contrast to what is behind it is below 4.5, the minimum of the Web Content Accessibility Guidelines.
TOO_FAINT = """() => {
  const parse = text => {
    const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number);
    return text.startsWith('color(') ? [255 * r, 255 * g, 255 * b, a] : [r, g, b, a];
  };
  const over = (top, under) => [0, 1, 2].map(i => top[3] * top[i] + (1 - top[3]) * under[i]).concat(1);
  const linear = v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const luminance = c => 0.2126 * linear(c[0]) + 0.7152 * linear(c[1]) + 0.0722 * linear(c[2]);
  const behind = new Map();
  const ground = element => {
    if (!element) return parse(getComputedStyle(document.documentElement).colorScheme.includes('dark')
      ? 'rgb(18, 18, 18)' : 'rgb(255, 255, 255)');
    if (!behind.has(element)) {
      const own = parse(getComputedStyle(element).backgroundColor);
      behind.set(element, own[3] == 1 ? own : over(own, ground(element.parentElement)));
    }
    return behind.get(element);
  };
  const found = new Map(), walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; (node = walker.nextNode());) {
    const element = node.parentElement, text = node.data.trim();
    if (!text || element.closest('script, style, noscript, title')) continue;
    if (!element.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
    const style = getComputedStyle(element), under = ground(element);
    const color = over(parse(element.closest('svg') ? style.fill : style.color), under);
    const [dark, bright] = [luminance(color), luminance(under)].sort((a, b) => a - b);
    const contrast = (bright + 0.05) / (dark + 0.05);
    if (contrast < 4.495) found.set(`contrast ${contrast.toFixed(2)}: ${style.color} on ${under}`, text.slice(0, 40));
  }
  return [...found].map(([words, text]) => `${words}, "${text}"`);
}"""


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser with a fresh profile; only for as long as it is needed, for an event loop of its own runs meanwhile."""
    playwright = pytest.importorskip("playwright.sync_api")
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("there is no Chromium; apt-get install chromium")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=program, args=OPTIONS.split())
        yield browser
        browser.close()


def faults(browser: Any, pages: list[Path]) -> list[str]:
    """What is wrong with ``pages`` on any screen: too wide, too faint, an error on the console, a link to nowhere."""
    found: list[str] = []
    for screen, options in SCREENS.items():
        context = browser.new_context(reduced_motion="reduce", **options)
        context.route(re.compile("^https?:"), lambda route: route.abort())  # which then stands among the failed ones
        view, here = context.new_page(), ""
        view.on("console", lambda said: said.type in ("error", "warning") and found.append(f"{here}: {said.text}"))
        view.on("pageerror", lambda error: found.append(f"{here}: {error}"))
        view.on("requestfailed", lambda request: found.append(f"{here}: {request.url} failed"))
        for path in pages:
            here = f"{path.name} on a {screen}"
            view.goto(path.as_uri())
            for scheme in ("light", "dark"):
                view.emulate_media(color_scheme=scheme)
                here = f"{path.name} on a {screen} in {scheme}"
                wrong = view.evaluate(TOO_WIDE, options["viewport"]["width"]) + view.evaluate(TOO_FAINT)
                found += [f"{here}: {words}" for words in wrong]
            found += [f"{here}: a link to {link}" for link in view.evaluate(LINKS) if not lands(link)]
        context.close()
    return found


def lands(link: str) -> bool:
    """Whether the file of a link is there, and in it the place that is meant; links to elsewhere are not followed."""
    address, place = urldefrag(link)
    if urlsplit(address).scheme != "file":
        return urlsplit(address).scheme in ("https", "mailto")
    path = Path(unquote(urlsplit(address).path))
    return path.is_file() and (not place or unquote(place) in places(path))


@cache
def places(path: Path) -> set[str]:
    return set(re.findall(r'\bid="([^"]+)"', path.read_text(encoding="utf-8")))
