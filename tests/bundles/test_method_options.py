"""The methods and how their options are given, as ``monai-sagan methods`` shows them."""

from __future__ import annotations

import re

import pytest

from monai_sagan.bundle.method_options import option_key, train_keys
from monai_sagan.cli import main
from monai_sagan.methods import METHODS, find_method, resolve_settings
from monai_sagan.options import describe


def test_the_list_has_every_method(capsys):
    assert main(["methods"]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ["name", "title", "learns", "from", "images", "presets"]
    assert [row.split()[0] for row in rows] == list(METHODS)
    for name, row in zip(METHODS, rows, strict=True):
        method = find_method(name)
        assert f" {method.title} " in row
        assert ("unlabeled" in row) == ("unlabeled" in method.streams)
        assert row.endswith(", ".join(method.presets))


@pytest.mark.parametrize("name", [*METHODS, "two_stages.TwoStages"])
def test_every_option_is_shown_with_its_values_and_a_key_that_train_json_takes(name, capsys):
    assert main(["methods", name]) == 0
    shown = capsys.readouterr().out
    method = find_method(name)
    assert method.title in shown
    given = dict(re.findall(r"^  --(\S+) (\S+)", shown, re.M))
    rows = {row.name: row for row in describe(method.Options, resolve_settings("recommended", name))}
    del rows["method"]
    assert given == {option_key(key, train_keys()): row.default for key, row in rows.items()}
    assert all(f"      {row.values}: " in shown for row in rows.values())
    assert "](" not in shown  # links are for pages


def test_a_value_that_differs_in_another_preset_is_shown(capsys):
    assert main(["methods", "sagan"]) == 0
    assert "  --lambda_id 10  (paper 1, official 1)\n" in capsys.readouterr().out


def test_options_without_a_key_of_their_own_go_to_the_settings(capsys):
    main(["methods", "two_stages.TwoStages"])
    assert "  --settings#second_rate 0.01\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "hint"),
    [("brainomly", "the nearest is brainomaly"), ("no.such.Method", "give the dotted path of a class")],
)
def test_an_unknown_name_is_one_line(name, hint, capsys):
    assert main(["methods", name]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert hint in err
