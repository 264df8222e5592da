from __future__ import annotations

import csv

import pytest
import torch

from monai_sagan.runs.score_table import read_scores, write_scores

ITEMS = [{"image": 'a, "b".png', "label": None}, {"image": "ä\n.png", "label": 1}]
SCORES = {"aucp": torch.tensor([0.5, 1.0]), "oracle_test": torch.tensor([0.25, 0.75])}


def test_odd_names_and_the_order_of_columns(tmp_path):
    path = tmp_path / "scores.csv"
    write_scores(path, ITEMS, SCORES, "aucp", torch.tensor([0.5, 0.1]), ["", "dark"])
    with path.open(newline="", encoding="utf-8") as file:
        assert list(csv.reader(file)) == [
            ["image", "label", "score", "p_value", "warning", "score_oracle_test_no_result"],
            ['a, "b".png', "", "0.50000000", "0.500000", "", "0.25000000"],
            ["ä\n.png", "1", "1.00000000", "0.100000", "dark", "0.75000000"],
        ]


@pytest.mark.parametrize("mark", ["_no_result", ""])
@pytest.mark.parametrize("p_values", [torch.tensor([0.5, 0.125]), None])
def test_what_is_written_is_read_and_so_is_an_older_file(tmp_path, mark, p_values):
    path = tmp_path / "scores.csv"
    write_scores(path, ITEMS, SCORES, "aucp", p_values)
    path.write_text(path.read_text(encoding="utf-8").replace("_no_result", mark), encoding="utf-8", newline="")
    found = read_scores(path, "aucp", "run it again")
    assert found.images == [item["image"] for item in ITEMS]
    assert found.labels == [None, 1]
    assert found.scores == {"aucp": [0.5, 1.0], "oracle_test": [0.25, 0.75]}
    assert found.p_values == (None if p_values is None else [0.5, 0.125])


def test_a_file_that_is_not_there(tmp_path, refused):
    with refused(tmp_path, "no scores.csv", "run it again"):
        read_scores(tmp_path / "scores.csv", "aucp", "run it again")
