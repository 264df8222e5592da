"""Options are checked, described and converted from their one field."""

from __future__ import annotations

import dataclasses
import runpy
from pathlib import Path

import pytest

from monai_sagan.options import describe, option, resolve
from monai_sagan.settings import Settings


@dataclasses.dataclass(frozen=True)
class Some:
    width: int = option(8, "of a level", low=1, high=64)
    share: float = option(0.5, "kept", low=1e-9, high=1 - 1e-9)
    rate: float | None = option(0.5, "of learning", low=0)
    size: tuple[int, int] = option((4, 4), "in pixels", low=2)
    loss: str = option("l1", "to minimize", choices=("l1", "l2"))
    norm: str | None = option(None, "of a layer", choices=("instance", None))
    fast: bool = option(False, "or slow")


def test_values_take_the_place_of_defaults():
    assert resolve(Some, {}) == Some()
    given = {"width": 3, "rate": 1, "size": 5, "loss": "l2", "norm": "instance", "fast": "true"}
    assert resolve(Some, given) == Some(3, 0.5, 1.0, (5, 5), "l2", "instance", True)
    assert resolve(Some, dict.fromkeys(given)) == Some()
    assert resolve(Some, {"rate": "none", "norm": "none"}) == Some(rate=None)


@pytest.mark.parametrize(
    ("values", "parts"),
    [
        ({"widht": 3}, ("'widht'", "width")),
        ({"zzz": 3}, ("'zzz'", "width, share, rate, size, loss, norm, fast")),
        ({"width": 0}, ("width is 0", "at least 1 and at most 64")),
        ({"width": 65}, ("width is 65", "at least 1 and at most 64")),
        ({"width": "none"}, ("width is 'none'", "a whole number")),
        ({"rate": -1}, ("rate is -1", "at least 0")),
        ({"rate": float("nan")}, ("rate is nan", "at least 0")),
        ({"size": [4, 1]}, ("size is [4, 1]", "at least 2")),
        ({"loss": "l3"}, ("loss is 'l3'", "l1, l2")),
        ({"norm": "batch"}, ("norm is 'batch'", "instance, none")),
        ({"fast": 1}, ("fast is 1", "true or false")),
    ],
)
def test_wrong_values_are_named_with_what_fits(values, parts, refused):
    with refused(*parts):
        resolve(Some, values)


def test_descriptions():
    assert [tuple(row) for row in describe(Some)] == [
        ("width", "a whole number, at least 1 and at most 64", "8", "of a level"),
        ("share", "a number, above 0 and below 1", "0.5", "kept"),
        ("rate", "a number, at least 0 or none", "0.5", "of learning"),
        ("size", "a whole number or two, at least 2", "[4,4]", "in pixels"),
        ("loss", "l1, l2", "l1", "to minimize"),
        ("norm", "instance, none", "none", "of a layer"),
        ("fast", "true or false", "false", "or slow"),
    ]
    assert describe(Some, Some(width=9))[0].default == "9"


def test_every_setting_has_help():
    assert [row.name for row in describe(Settings)] == [field.name for field in dataclasses.fields(Settings)]
    assert all(row.help and "\n" not in row.help for row in describe(Settings))


def test_the_guide_has_the_settings_as_they_are():
    made = runpy.run_path(str(Path(__file__).parents[1] / "docs" / "make_options.py"))
    text = made["PAGE"].read_text(encoding="utf-8")
    assert text == made["with_settings"](text), "write the table again: python docs/make_options.py"
