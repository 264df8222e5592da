from __future__ import annotations

import math

import pytest

from monai_sagan.runs.schema import AUDIT, GALLERY, METRICS, SPLITS, misfit, models_of


@pytest.mark.parametrize(
    ("content", "schema", "words"),
    [
        ({"aucp": {"auc": math.inf}}, METRICS, "aucp.auc is Infinity, not a number"),
        ({"aucp": {"auc": True}}, METRICS, "aucp.auc is true, not a number"),
        ({"n_normal": 3.0}, METRICS, "n_normal is 3.0, not a whole number"),
        ({"aucp": {"auc_ci95": [0.1, 0.2, 0.3]}}, METRICS, "aucp.auc_ci95 is a list of 3, not a pair"),
        ({"aucp": {"auc_ci95": [0.1, None]}}, METRICS, "aucp.auc_ci95[1] is null, not a number"),
        ({"mine": {"groups": {"a": {"b": 3}}}}, models_of(["mine"]), "mine.groups.a.b is 3, not a dictionary"),
        ({"test": [{"patient": [1]}]}, SPLITS, "test[0].patient is a list, not a number or a text"),
        ({"file_kinds": [{"auc": None}]}, AUDIT, "file_kinds[0].auc is null, not a number"),
        ([{"score": "x"}], GALLERY, '[0].score is "x", not a number'),
        (3, AUDIT, "all of it is 3, not a dictionary"),
    ],
)
def test_the_place_the_value_and_what_it_should_be(content, schema, words):
    assert misfit(content, schema) == words


def test_what_is_not_known_and_other_keys_fit():
    assert misfit({"aucp": {"auc": None, "auc_ci95": None, "new": [True]}, "also": 3}, METRICS) is None
    assert misfit({"test": [{"image": "a.png", "label": None, "patient": 7}]}, SPLITS) is None
