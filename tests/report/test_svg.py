"""Charts: round ticks, data where they belong, no point outside the drawing."""

from __future__ import annotations

import html
import math
import re

import numpy as np
import pytest

from monai_sagan.report.html import Html, tag
from monai_sagan.report.svg import Frame, area, axes, bars, chart, line, rule, rules, ticks, whisker


@pytest.mark.parametrize("scale", [1e-9, 3e-4, 0.02, 1, 7, 1234, 1e8])
@pytest.mark.parametrize("start", [-1.0, 0.0, 0.37])
def test_ticks(scale, start):
    low, high = start * scale, (start + 1) * scale
    found = ticks(low, high)
    assert 3 <= len(found) <= 7
    assert low - 1e-9 * scale <= found[0]
    assert found[-1] <= high + 1e-9 * scale
    step = found[1] - found[0]
    np.testing.assert_allclose(np.diff(found), step)
    assert round(step / 10 ** math.floor(math.log10(step * 1.0001)), 6) in (1, 2, 2.5, 5)


def test_labels_are_short_and_distinct():
    drawn = axes(Frame((0, 1000), (-0.02, 0.02)), "iteration", "loss")
    labels = re.findall(r">([^<>]+)</text>", drawn)
    assert "1,000" in labels
    assert "\N{MINUS SIGN}0.02" in labels
    assert len(set(labels)) == len(labels)


def points(drawn):
    return [(float(x), float(y)) for x, y in re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", drawn)]


def test_data_lie_in_the_frame():
    frame = Frame((10, 20), (0, 5))
    corners = points(line(frame, [10, 20], [0, 5], "first"))
    assert corners == [(54, 294), (406, 14)]
    for drawn in (area(frame, [10, 15, 20], [0, 1, 2], [3, 4, 5], "band"), bars(frame, [10, 12, 20], [5, 1], "normal")):
        assert all(54 <= x <= 406 and 14 <= y <= 294 for x, y in points(drawn))
        assert 'Z"' in drawn


def test_missing_values_break_a_line():
    assert line(Frame((0, 4)), range(5), [0, 0.5, math.nan, 1, 0], "first").count("<path") == 2
    assert line(Frame((0, 1)), [0, 1], [math.nan, math.nan], "first") == ""


def test_equal_points_are_drawn_once():
    assert len(points(line(Frame((0, 1)), np.linspace(0, 1, 10_000), np.zeros(10_000), "first"))) < 4000


@pytest.mark.parametrize(("x", "anchor"), [(0.1, "start"), (0.99, "end")])
def test_labels_of_rules_stay_in_the_drawing(x, anchor):
    assert f'text-anchor="{anchor}"' in rules(Frame((0, 1)), [x], ["95 % specificity"])
    assert "<text" not in rule(Frame((0, 1)), x)


def boxes(drawn):
    """Where each rule's line is, and about where its label: (x, from y, to y), (from x, to x, y)."""
    lines = [(float(x), float(a), float(b)) for x, a, b in re.findall(r'd="M([\d.]+) ([\d.]+)L[\d.]+ ([\d.]+)"', drawn)]
    texts = []
    for attributes, words in re.findall(r"<text ([^>]*)>([^<]*)", drawn):
        x, y = (float(re.search(rf'\b{name}="([\d.]+)"', attributes)[1]) for name in "xy")
        width = 6.4 * len(html.unescape(words))
        texts.append((x - width, x, y) if 'anchor="end"' in attributes else (x, x + width, y))
    return lines, texts


@pytest.mark.parametrize("left", np.linspace(0, 0.95, 20))
@pytest.mark.parametrize("apart", [0.0, 0.001, 0.02, 0.1, 0.3, 0.9])
def test_no_line_of_a_rule_runs_through_a_label(left, apart):
    frame = Frame((0, 1), top=42)
    places = [min(left + apart, 1), left]  # in any order
    lines, texts = boxes(rules(frame, places, ["95 % specificity", "90 % specificity"]))
    assert sorted(x for x, _, _ in lines) == pytest.approx(sorted(frame.across(x) for x in places), abs=0.06)
    assert len({y for _, _, y in texts}) == 2
    for start, end, y in texts:
        assert 0 <= start < end <= frame.width
        assert not [x for x, top, bottom in lines if start < x < end and top < y < bottom]


def test_a_whisker_is_clipped_to_its_scale():
    places = [float(x) for x in re.findall(r"[MH]([\d.]+)", whisker(0.2, 0.7, 1.3, (0.5, 1), "first", "AUC"))]
    assert min(places) == 4
    assert max(places) == 156


def test_text_is_escaped_and_markup_is_not():
    assert tag("p", "a < b & c", tag("b", "x"), None, class_="k", hidden=True, title='"') == (
        '<p class="k" hidden title="&quot;">a &lt; b &amp; c<b>x</b></p>'
    )
    assert isinstance(tag("p"), Html)
    assert "<title>1 &lt; 2</title>" in chart(Frame((0, 1)), "1 < 2")
