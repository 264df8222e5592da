"""What an anomaly map is, in words, and the bar of its colors."""

from __future__ import annotations

import re

import pytest
from matplotlib import colormaps
from matplotlib.colors import to_hex

from monai_sagan.methods import resolve_settings
from monai_sagan.pictures.maps import how_maps_are_made, map_words
from monai_sagan.report.color_bar import color_bar


@pytest.mark.parametrize(
    ("values", "parts"),
    [
        ({"map_smoothing": "none"}, []),
        ({"map_smoothing": "gaussian", "map_sigma": 2.0}, ["smoothed by a Gaussian of 2 pixels"]),
        ({"map_smoothing": "gaussian", "map_sigma": 0.5, "map_passes": 9}, ["mean of 9 shifted", "of 0.5 pixels"]),
        ({"map_smoothing": "guided", "map_passes": 4}, ["mean of 4 shifted", "smoothed by a guided filter"]),
    ],
)
def test_words_say_what_was_done(values, parts):
    how = how_maps_are_made(resolve_settings("paper", **values), 0.25)
    words = map_words(how)
    assert words.startswith("|image - restored| / 2")
    assert how["top_of_scale"] == 0.25
    assert all(part in words for part in parts)
    assert words.count(",") == len(parts)


def test_what_is_not_known_is_not_said_to_be_plain():
    assert "as set in the run" in map_words(None)
    assert "as set in the run" in map_words({})


def test_the_bar_goes_through_the_colors():
    bar = color_bar(0.03125)
    colors = re.findall(r'fill="(#[0-9a-f]{6})"', bar)
    ends = [to_hex(colormaps["inferno"](i)) for i in (0, 255)]
    assert [colors[0], colors[-1]] == ends
    assert len(set(colors)) == len(colors) > 30
    assert "0.0312" in bar
