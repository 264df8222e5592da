"""LAG in both layouts, and its split drawn again."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from monai_sagan.data.datasets.lag import ABNORMAL, ARCHIVE, NORMAL, TABLE_1, read_lag
from monai_sagan.data.datasets.med_ad import read_med_ad


def every(datalist):
    return [item for items in datalist.values() for item in items]


def stems(items):
    return [Path(item["image"]).stem for item in items]


def counted(datalist):
    kinds = [("normal", 0), ("unlabeled", 0), ("unlabeled", 1), ("test", 0), ("test", 1)]
    return tuple(sum(item["label"] == label for item in datalist[name]) for name, label in kinds)


@pytest.fixture
def original(tmp_path):
    folder = tmp_path / "lag"
    for kind, numbers in ((NORMAL, range(1, 20)), (ABNORMAL, range(20, 32))):
        (folder / kind / "image").mkdir(parents=True)
        for number in numbers:
            (folder / kind / "image" / f"{number:04d}.jpg").touch()
    return folder


def test_published_list(original, tmp_path, refused):
    path = tmp_path / "lists.json"
    lists = {"train": {"0": ["0003.png"], "unlabeled": {"0": ["0001.jpg"], "1": ["0031"]}}, "test": {"1": ["0020.jpg"]}}
    path.write_text(json.dumps(lists))
    datalist, left_out, _ = read_lag(original, split_file=path)
    assert [stems(items) for items in datalist.values()] == [["0003"], ["0001", "0031"], ["0020"]]
    assert left_out == {f"not in {path}": 27}
    with refused("split_file", "resplit"):
        read_lag(original, split_file=path, resplit=0)
    path.write_text(json.dumps(lists | {"test": {"0": ["0021.jpg"]}}))
    with refused(path, "0021.jpg", "label 0"):
        read_lag(original, split_file=path)


def test_folders(original, refused):
    wanted = stems(every(read_lag(original).datalist))
    inner = original / ARCHIVE
    inner.mkdir()
    for kind in (NORMAL, ABNORMAL):
        (original / kind).rename(inner / kind)
    assert stems(every(read_lag(original).datalist)) == stems(every(read_lag(inner).datalist)) == wanted
    with refused(original / "x", "data.json", NORMAL, ABNORMAL):
        read_lag(original / "x")


def prepared(folder, lists):
    (folder / "images").mkdir(parents=True)
    (folder / "data.json").write_text(json.dumps(lists))
    for part in (lists["train"]["0"], *lists["train"]["unlabeled"].values(), *lists["test"].values()):
        for name in part:
            os.link(folder / "data.json", folder / "images" / name)
    return folder


@pytest.fixture(scope="module")
def published(real_data):
    return json.loads((real_data / "splits" / "LAG.json").read_text())


@pytest.fixture(scope="module")
def stand_ins(published, tmp_path_factory):
    """Both layouts, of images that exist by their names only."""
    folder = tmp_path_factory.mktemp("lag")
    prepared(folder / "prepared", published)
    train, test = published["train"], published["test"]
    for kind, names in (
        (NORMAL, train["0"] + train["unlabeled"]["0"] + test["0"]),
        (ABNORMAL, train["unlabeled"]["1"] + test["1"]),
    ):
        (folder / kind / "image").mkdir(parents=True)
        for name in names:
            os.link(folder / "prepared" / "data.json", folder / kind / "image" / name)  # faster than as many files
    return folder


def test_real_numbers(stand_ins):
    for options in ({}, {"resplit": 5}):
        datalist = read_lag(stand_ins, **options).datalist
        assert counted(datalist) == TABLE_1 == (1500, 832, 900, 811, 811)
        assert len(set(stems(every(datalist)))) == 3143 + 1711


def test_the_published_split_follows_the_numbers_and_one_by_chance_does_not(stand_ins, published, real_data):
    def middle(items, label):
        numbers = sorted(int(stem) for stem, item in zip(stems(items), items, strict=True) if item["label"] == label)
        return numbers[len(numbers) // 2]

    listed = read_med_ad(stand_ins / "prepared").datalist
    assert counted(listed) == TABLE_1
    assert middle(listed["test"], 0) - middle(listed["normal"], 0) > 1500
    original = read_lag(stand_ins, split_file=real_data / "splits" / "LAG.json").datalist
    assert [stems(items) for items in original.values()] == [stems(items) for items in listed.values()]
    again = read_med_ad(stand_ins / "prepared", resplit=0).datalist
    assert counted(again) == TABLE_1
    assert abs(middle(again["test"], 0) - middle(again["normal"], 0)) < 300
