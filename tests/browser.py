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
    "phone": {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True},
    "desk": {"width": 1280, "height": 900, "deviceScaleFactor": 1, "mobile": False},
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


# What a page break cuts or parts from what it belongs to. Sheets of paper are columns here: these break by the same
# rules, and can be asked for.
CUT = """([width, height]) => {
  const size = { columnWidth: `${width}px`, width: `${width}px`, height: `${height}px` };
  Object.assign(document.body.style, size, { columnGap: 0, columnFill: 'auto' });
  const sheet = box => Math.floor(box.left / width + 0.01), found = [];
  const name = element => `${element.localName} ${element.textContent.trim().replace(/\\s+/g, ' ').slice(0, 60)}`;
  for (const element of document.querySelectorAll('figure, tr, svg, img, li, .tile, .note, h2, h3')) {
    const boxes = [...element.getClientRects()];
    if (boxes.length > 1) found.push(`cut: ${name(element)}`);
    if (boxes.some(box => box.right > (sheet(box) + 1) * width + 1)) found.push(`too wide: ${name(element)}`);
  }
  for (const head of document.querySelectorAll('h2, h3, h3 + p, dt, caption')) {
    const next = head.nextElementSibling?.getClientRects()[0];
    if (next && sheet(next) != sheet(head.getClientRects()[0])) found.push(`alone at the end of a page: ${name(head)}`);
  }
  return found;
}"""
PAPER = (703, 1031)  # A4 at 96 dots per inch, less margins of 12 mm


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
    context = browser.new_context(reduced_motion="reduce")
    context.route(re.compile("^https?:"), lambda route: route.abort())  # which then stands among the failed ones
    view = context.new_page()
    device, said, found = context.new_cdp_session(view), _messages(view), list[str]()
    for path in pages:
        view.goto(path.as_uri())
        wrong = [f"a link to {link}" for link in view.evaluate(LINKS) if not lands(link)]
        for screen, metrics in SCREENS.items():
            device.send("Emulation.setDeviceMetricsOverride", metrics)
            for scheme in ("light", "dark"):
                view.emulate_media(color_scheme=scheme)
                seen = view.evaluate(TOO_WIDE, metrics["width"]) + view.evaluate(TOO_FAINT)
                wrong += [f"on a {screen} in {scheme}: {words}" for words in seen]
        found += [f"{path.name}: {words}" for words in [*said, *wrong]]
        said.clear()
    context.close()
    return found


def _messages(view: Any) -> list[str]:
    """What goes wrong while a page is open, as it comes."""
    found: list[str] = []
    view.on("console", lambda said: found.append(said.text) if said.type in ("error", "warning") else None)
    view.on("pageerror", lambda error: found.append(str(error)))
    view.on("requestfailed", lambda request: found.append(f"{request.url} failed"))
    return found


def cut_by_page_breaks(browser: Any, path: Path) -> list[str]:
    """What would be torn apart, or be cut off at the right, if the page were printed."""
    view = browser.new_page(viewport=dict(zip(("width", "height"), PAPER, strict=True)))
    view.goto(path.as_uri())
    view.emulate_media(media="print")
    found: list[str] = view.evaluate(CUT, list(PAPER))
    view.close()
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
