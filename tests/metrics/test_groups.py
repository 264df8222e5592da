"""Results of groups of images, and groups that give the label away."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from monai_sagan.metrics import grouped_metrics, image_metrics
from monai_sagan.metrics.groups import group_warnings


@pytest.fixture
def test_set():
    """200 images of two views, three ages and no known sex or site, with scores and labels."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200)
    ages = [5, 17.9, 63, 95, None, math.nan]
    items = [{"image": f"{i}.png", "view": ("AP", "PA")[i % 2], "age": ages[i % 6]} for i in range(200)]
    return items, rng.normal(size=200) + labels, labels


def test_each_group_is_a_table_of_its_own(test_set):
    items, scores, labels = test_set
    tables = grouped_metrics(items, scores, labels)
    assert list(tables) == ["view", "age"]
    assert list(tables["view"]) == ["AP", "PA"]
    assert list(tables["age"]) == ["0-17", "60-79", "80+", "unknown"]
    odd = np.arange(200) % 2 == 1
    wanted = {"n_normal": (labels[odd] == 0).sum(), "n_abnormal": (labels[odd] == 1).sum()}
    assert tables["view"]["PA"] == wanted | image_metrics(scores[odd], labels[odd])
    for groups in tables.values():
        assert sum(group["n_normal"] + group["n_abnormal"] for group in groups.values()) == 200
    json.dumps(tables, allow_nan=False)


def test_groups_without_both_classes():
    items = [{"site": site} for site in ("a", "a", "b", "c", 7)]
    table = grouped_metrics(items, range(5), [0, 1, 0, None, 1])["site"]
    assert list(table) == ["a", "b", "c", "7"]  # names, then numbers
    assert table["a"]["auc"] == 1
    assert (table["b"]["n_normal"], table["b"]["n_abnormal"], table["b"]["auc"], table["b"]["ap"]) == (1, 0, None, None)
    assert (table["c"]["n_normal"], table["c"]["n_abnormal"]) == (0, 0)


def test_nothing_known():
    items = [{"image": "a", "view": ""}, {"image": "b", "view": None}]
    assert grouped_metrics(items, [1, 2], [0, 1]) == {}
    assert group_warnings(items, [0, 1]) == []


@pytest.mark.parametrize(
    ("age", "band"),
    [
        (0, "0-17"),
        (17.99, "0-17"),
        (18, "18-39"),
        (59, "40-59"),
        (60, "60-79"),
        (80, "80+"),
        (107, "80+"),
        ("43", "40-59"),
    ],
)
def test_bands_of_ages(age, band):
    assert list(grouped_metrics([{"age": age}], [1], [0])["age"]) == [band]


@pytest.mark.parametrize("age", ["043Y", -1, math.inf, [3]])
def test_an_age_that_is_no_number(age, refused):
    with refused("x.png", "the age is", "in years"):
        grouped_metrics([{"image": "x.png", "age": age}], [1], [0])


def test_as_many_items_as_scores_and_labels(refused):
    items = [{"view": "AP"}, {"view": "PA"}]
    for scores, labels, parts in (
        ([1, 2, 3], [0, 1, 0], ("2 items", "3 scores")),
        ([1], [0], ("2 items", "1 score")),
        ([1, 2], [0], ("2 scores", "1 label")),
    ):
        with refused(*parts):
            grouped_metrics(items, scores, labels)
    with refused("2 items", "3 labels"):
        group_warnings(items, [0, 1, 0])


def test_a_view_that_gives_the_label_away():
    """Six in ten normal images are PA, eight in ten abnormal ones AP: an AUC of 0.7 by the view alone."""
    views = ["AP"] * 40 + ["PA"] * 60 + ["AP"] * 80 + ["PA"] * 20
    labels = [0] * 100 + [1] * 100
    (warning,) = group_warnings([{"view": view, "sex": "FM"[i % 2]} for i, view in enumerate(views)], labels)
    assert warning.startswith("view alone")
    assert "AUC of 0.70" in warning
    assert group_warnings([{"view": view} for view in views], labels, limit=0.75) == []
    assert group_warnings([{"view": view} for view in views], [None if label else 0 for label in labels]) == []


def test_chance_seldom_warns():
    """Groups drawn without regard to the label, few or as many as there are images."""
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 2
    warned = 0
    for groups in (2, 10, 120):
        for _ in range(20):
            warned += len(group_warnings([{"site": str(site)} for site in rng.integers(0, groups, 120)], labels))
    assert warned <= 3  # of 60
    assert group_warnings([{"site": str(i)} for i in range(120)], labels) == []


def test_few_images_of_a_class():
    items = [{"site": "ab"[i > 7]} for i in range(16)]
    assert group_warnings(items, [0] * 15 + [1]) == []
    assert group_warnings(items[7:9], [0, 1]) == []
    for labels in ([0] * 8 + [1] * 8, [0] * 14 + [1] * 2):
        (warning,) = group_warnings(items, labels)
        assert "site alone" in warning
