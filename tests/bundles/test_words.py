"""Words of a command line mean the same to monai-sagan, to a study and to ``python -m monai.bundle``."""

from __future__ import annotations

import fire
import pytest

from monai_sagan.bundle.words import join_options, parse_options, split_options

VALUES = [1, -1, 0.5, True, None, [0.4, 0.6], (1, 2), {"a": 1}, "text", "a b", "a,b c"]


@pytest.mark.parametrize("words", [["--key", "{}"], ["--key={}"], ["--ke-y", "{}"]])
@pytest.mark.parametrize(
    "value", ["1", "-1", "1e3", "[a,b]", "(1, 2)", "a b", "0x1F", "'5'", "a=b", "@other", "x#y", ""]
)
def test_values_are_those_of_fire(words, value):
    words = [word.format(value) for word in words]
    taken = fire.Fire(lambda **options: options, words)
    assert parse_options(words) == taken


@pytest.mark.parametrize("value", VALUES)
def test_values_come_back_from_the_words_they_are_written_as(value):
    assert parse_options(join_options({"key": value})) == {"key": value}


def test_paths_and_names_are_texts_and_truth_values_may_be_small():
    assert parse_options(["--split_file", "2024", "--model=1e3"]) == {"split_file": "2024", "model": "1e3"}
    assert parse_options(["--official_test", "true", "--strict=False"]) == {"official_test": True, "strict": False}


@pytest.mark.parametrize(("words", "wrong"), [
    (["stray"], "stray"), (["--a", "1", "2"], "2"), (["--a"], "--a"), (["--a", "--b", "1"], "--a"),
    (["--a", "1", "-b"], "-b"),
])  # fmt: skip
def test_what_is_no_option_is_refused(words, wrong, refused):
    with refused(wrong.lstrip("-"), "--key value"):
        parse_options(words)


def test_the_last_of_two_counts():
    assert split_options(["--a", "1", "--a=2"]) == ({"a": "2"}, [])
