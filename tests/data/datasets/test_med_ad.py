"""The Med-AD layout: read as published, and each way in which it can be broken has its own message."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from monai_sagan.data.datalist import make_splits
from monai_sagan.data.datasets.med_ad import read_med_ad

LISTS = {
    "train": {"0": ["a.png", "b.jpg"], "unlabeled": {"0": ["c.png"], "1": ["d.png", "e.png"]}},
    "test": {"0": ["f.png"], "1": ["g.png"]},
}
FILES = ("a.png", "b.jpg", "c.png", "d.png", "e.png", "f.png", "g.png")


def write(folder: Path, lists, files=FILES) -> Path:
    (folder / "images").mkdir(parents=True)
    (folder / "data.json").write_text(lists if isinstance(lists, str) else json.dumps(lists))
    for name in files:
        os.link(folder / "data.json", folder / "images" / name)  # faster than as many files
    return folder


def names(items):
    return [(Path(item["image"]).name, item["label"]) for item in items]


def test_layout(tmp_path):
    datalist = read_med_ad(write(tmp_path / "set", LISTS)).datalist
    assert {name: names(items) for name, items in datalist.items()} == {
        "normal": [("a.png", 0), ("b.jpg", 0)],
        "unlabeled": [("c.png", 0), ("d.png", 1), ("e.png", 1)],
        "test": [("f.png", 0), ("g.png", 1)],
    }
    assert all(Path(item["image"]).is_file() for items in datalist.values() for item in items)
    assert read_med_ad(str(tmp_path / "set")).datalist == datalist


def test_lists_split_again(tmp_path, refused):
    normal, abnormal = ([f"{kind}{i}.jpg" for i in range(10)] for kind in "na")
    lists = {
        "train": {"0": normal[:4], "unlabeled": {"0": normal[4:6], "1": abnormal[:5]}},
        "test": {"0": normal[6:], "1": abnormal[5:]},
    }
    folder = write(tmp_path / "set", lists, [*normal, *abnormal])
    listed, first, again, second = (read_med_ad(folder, resplit=seed).datalist for seed in (None, 1, 1, 2))
    assert [name for name, _ in names(listed["normal"])] == normal[:4]
    assert first == again
    assert listed != first != second
    for datalist in (first, second):
        for split in listed:
            labels = ([label for _, label in names(one[split])] for one in (datalist, listed))
            assert sorted(next(labels)) == sorted(next(labels))
        items = [item for part in datalist.values() for item in part]
        assert sorted(name for name, _ in names(items)) == sorted(normal + abnormal)
        assert all(label == (name[0] == "a") for name, label in names(items))
    lists["train"]["unlabeled"] = normal[4:6] + abnormal[:5]
    (folder / "data.json").write_text(json.dumps(lists))
    with refused(folder / "data.json", "without a label", "resplit"):
        read_med_ad(folder, resplit=1)


def test_normal_images_alone_are_split_again(tmp_path):
    lists = {"train": {"0": ["a.png"], "unlabeled": {"0": ["b.jpg", "c.png"]}}, "test": {}}
    datalist = read_med_ad(write(tmp_path / "set", lists), resplit=0).datalist
    assert [len(items) for items in datalist.values()] == [1, 2, 0]


def test_unlabeled_may_be_one_list(tmp_path):
    lists = {"train": {"0": ["a.png"], "unlabeled": ["c.png", "d.png"]}, "test": {}}
    datalist = read_med_ad(write(tmp_path / "set", lists)).datalist
    assert names(datalist["unlabeled"]) == [("c.png", None), ("d.png", None)]
    assert datalist["test"] == []


@pytest.mark.parametrize(
    ("test", "wanted"),
    [
        (["f.png", "g.png"], [("f.png", None), ("g.png", None)]),
        ({"1": ["g.png"], "unlabeled": ["f.png"]}, [("g.png", 1), ("f.png", None)]),
        ([], []),
    ],
)
def test_test_images_need_no_label(tmp_path, test, wanted):
    assert names(read_med_ad(write(tmp_path / "set", LISTS | {"test": test})).datalist["test"]) == wanted


def test_files_that_are_not_listed_are_left_out(tmp_path):
    datalist = read_med_ad(write(tmp_path / "set", LISTS, (*FILES, "stray.png"))).datalist
    assert sum(map(len, datalist.values())) == len(FILES)


def test_images_in_sub_folders(tmp_path, refused):
    lists = {"train": {"0": ["deep/x.png"], "unlabeled": []}, "test": {}}
    folder = write(tmp_path / "set", lists, ["x.png"])
    with refused(folder / "images" / "deep" / "x.png", "not there"):
        read_med_ad(folder)
    (folder / "images" / "deep").mkdir()
    (folder / "images" / "deep" / "x.png").touch()
    assert names(read_med_ad(folder).datalist["normal"]) == [("x.png", 0)]


def test_missing_parts(tmp_path, refused):
    with refused(tmp_path / "nowhere", "data.json", "--dataset_dir"):
        read_med_ad(tmp_path / "nowhere")
    with refused(tmp_path / "data.json", "is missing"):
        read_med_ad(tmp_path)
    (tmp_path / "data.json").write_text(json.dumps(LISTS))
    with refused(tmp_path / "images"):
        read_med_ad(tmp_path)
    (tmp_path / "images").touch()  # a file
    with refused(tmp_path / "images"):
        read_med_ad(tmp_path)
    with refused(tmp_path / "images", "no folder"):
        read_med_ad(tmp_path / "images")


@pytest.mark.parametrize("text", ["", "{", '{"train": {', "not\njson", "\ufeff{", '{"train": [}\n'])
def test_broken_json(tmp_path, text, refused):
    folder = write(tmp_path / "set", text)
    with refused(folder / "data.json", "not readable JSON"):
        read_med_ad(folder)


def test_json_of_another_encoding_or_a_folder(tmp_path, refused):
    folder = write(tmp_path / "set", "")
    (folder / "data.json").write_bytes(b'{"train": "\xff\xfe"}')
    with refused(folder / "data.json", "not readable JSON"):
        read_med_ad(folder)
    (folder / "data.json").unlink()
    (folder / "data.json").mkdir()
    with refused(folder / "data.json", "not readable JSON"):
        read_med_ad(folder)


@pytest.mark.parametrize(
    "lists",
    [
        [],
        {},
        None,
        3,
        "text",
        {"train": LISTS["train"]},
        {"test": LISTS["test"]},
        {"train": {"0": []}, "test": {}},
        {"train": {"unlabeled": []}, "test": {}},
        {"train": [], "test": {}},
        {"train": {"0": "a.png", "unlabeled": []}, "test": {}},
        {"train": {"0": [1], "unlabeled": []}, "test": {}},
        {"train": {"0": {"a.png": 1}, "unlabeled": []}, "test": {}},
        {"train": {"0": [], "unlabeled": "c.png"}, "test": {}},
        {"train": {"0": [], "unlabeled": {"0": None}}, "test": {}},
        {"train": {"0": [], "unlabeled": None}, "test": {}},
        {"train": {"0": [], "unlabeled": []}, "test": [3]},
        {"train": {"0": [], "unlabeled": []}, "test": {"unlabeled": 3}},
        {"train": {"0": [], "unlabeled": []}, "test": {"1": "g.png"}},
        {"train": {"0": [], "unlabeled": {"0": [["c.png"]]}}, "test": {}},
    ],
)
def test_wrong_types(tmp_path, lists, refused):
    folder = write(tmp_path / "set", json.dumps(lists))
    with refused(folder / "data.json", "lacks a list of file names"):
        read_med_ad(folder)


def test_listed_files_that_are_not_there(tmp_path, refused, caplog):
    """Some are left to those who decode, all are the wrong folder."""
    folder = write(tmp_path / "set", LISTS, [name for name in FILES if name != "d.png"])
    assert str(folder / "images" / "d.png") in {
        item["image"] for part in read_med_ad(folder).datalist.values() for item in part
    }
    assert f"{folder / 'images' / 'd.png'} and 0 more" in caplog.text
    with refused(tmp_path / "other" / "images" / "a.png", tmp_path / "other" / "data.json", "not there"):
        read_med_ad(write(tmp_path / "other", LISTS, []))


@pytest.mark.parametrize("again", ["a.png", "g.png", "./a.png"])
@pytest.mark.parametrize("part", [("train", "0"), ("train", "unlabeled", "1"), ("test", "0")])
def test_a_file_listed_twice(tmp_path, again, part, refused):
    lists = json.loads(json.dumps(LISTS))
    place = lists
    for key in part:
        place = place[key]
    place.append(again)
    folder = write(tmp_path / "set", lists)
    with refused(Path(again).name, "listed twice", folder / "data.json"):
        read_med_ad(folder)


def test_a_list_under_another_key(tmp_path, refused):
    for i, lists in enumerate(
        (LISTS | {"test": {"2": ["g.png"]}}, {"train": {"0": [], "unlabeled": {"x": []}}, "test": {}})
    ):
        folder = write(tmp_path / str(i), lists)
        with refused(folder / "data.json", ("'2'", "'x'")[i]):
            read_med_ad(folder)


ITEMS = {
    "a.png": {"patient": "p1", "view": "AP", "sex": "F", "age": 43, "site": "north"},
    "g.png": {"boxes": [[1, 2.5, 3, 4]], "mask": "masks/g.png"},
    "f.png": {"boxes": []},
    "stray.png": {"patient": "p9"},
}


def test_what_else_is_known(tmp_path):
    folder = write(tmp_path / "set", LISTS)
    (folder / "masks").mkdir()
    (folder / "masks" / "g.png").touch()
    (folder / "items.json").write_text(json.dumps(ITEMS))
    items = {Path(i["image"]).name: i for items in read_med_ad(folder).datalist.values() for i in items}
    images = folder / "images"
    assert items["a.png"] == {"image": str(images / "a.png"), "label": 0} | ITEMS["a.png"]
    assert items["b.jpg"] == {"image": str(images / "b.jpg"), "label": 0}
    assert items["f.png"] == {"image": str(images / "f.png"), "label": 0, "boxes": []}
    mask = str(folder / "masks" / "g.png")
    assert items["g.png"] == {"image": str(images / "g.png"), "label": 1, "boxes": [[1, 2.5, 3, 4]], "mask": mask}
    assert set(items) == set(FILES)


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("[", ("not readable JSON",)),
        ([], ("not a dictionary",)),
        ({"a.png": 3}, ("not a dictionary",)),
        ({"a.png": {"patients": "p"}}, ("a.png", "'patients'", "patient")),
        ({"a.png": {"label": 1}}, ("a.png", "'label'")),
        ({"a.png": {"patient": 7}}, ("a.png", "patient 7")),
        ({"a.png": {"age": "43"}}, ("a.png", "age '43'")),
        ({"a.png": {"age": -1}}, ("a.png", "age -1")),
        ({"a.png": {"age": True}}, ("a.png", "age True")),
        ({"a.png": {"boxes": [1, 2, 3, 4]}}, ("a.png", "boxes")),
        ({"a.png": {"boxes": [[1, 2, 3]]}}, ("a.png", "boxes")),
        ({"a.png": {"boxes": [[1, 2, 3, 0]]}}, ("a.png", "boxes")),
        ({"a.png": {"boxes": [[1, 2, 3, float("nan")]]}}, ("a.png", "boxes")),
        ({"a.png": {"mask": "masks/none.png"}}, ("masks/none.png", "not there")),
    ],
)
def test_broken_knowledge(tmp_path, content, parts, refused):
    folder = write(tmp_path / "set", LISTS)
    (folder / "items.json").write_text(content if isinstance(content, str) else json.dumps(content))
    with refused(folder, "items.json", *parts):
        read_med_ad(folder)


@pytest.fixture
def stand_ins(real_data, tmp_path):
    """A published dataset by its name: the lists, and images that exist by their names only."""

    def published(name):
        lists = json.loads((real_data / "splits" / f"{name}.json").read_text())
        parts = [lists["train"]["0"], *lists["train"]["unlabeled"].values(), *lists["test"].values()]
        return write(tmp_path / name, lists, [file for part in parts for file in part])

    return published


def counts(datalist):
    kinds = [("normal", 0), ("unlabeled", 0), ("unlabeled", 1), ("test", 0), ("test", 1)]
    return tuple(sum(item["label"] == label for item in datalist[name]) for name, label in kinds)


@pytest.mark.parametrize(
    ("name", "published", "train_unlabeled", "valid_unlabeled"),
    [
        # 10 % of the normals validate; at most one unlabeled image a normal one, 60 % of them abnormal
        ("RSNA", (3851, 4000, 5012, 1000, 1000), (3466, 2080), (835, 501)),
        ("VinCXR", (4000, 5606, 3394, 1000, 1000), (3600, 2160), (565, 339)),
        ("LAG", (1500, 832, 900, 811, 811), (1350, 810), (150, 90)),
    ],
)
def test_published_splits(stand_ins, name, published, train_unlabeled, valid_unlabeled):
    datalist = read_med_ad(stand_ins(name)).datalist
    assert counts(datalist) == published
    splits = make_splits(datalist, anomaly_ratio=0.6)
    normal = published[0]
    assert (len(splits["train_normal"]), len(splits["valid_normal"])) == (
        normal - round(normal / 10),
        round(normal / 10),
    )
    for split, wanted in (("train_unlabeled", train_unlabeled), ("valid_unlabeled", valid_unlabeled)):
        assert (len(splits[split]), sum(item["label"] for item in splits[split])) == wanted
    assert splits["test"] == datalist["test"]
    used = [item["image"] for items in splits.values() for item in items]
    assert len(used) == len(set(used))


def test_real_children_set(real_data):
    assert counts(read_med_ad(real_data / "kermany").datalist) == (500, 120, 180, 250, 250)


def test_patients_of_items_or_file_names(tmp_path):
    lists = {"train": {"0": ["sub-1_a.png", "sub-1_b.png"], "unlabeled": ["c.png"]}, "test": {}}
    folder = write(tmp_path / "set", lists, ["sub-1_a.png", "sub-1_b.png", "c.png"])

    def patients():
        return [item.get("patient") for part in read_med_ad(folder).datalist.values() for item in part]

    assert patients() == ["sub-1", "sub-1", None]
    (folder / "items.json").write_text(json.dumps({"c.png": {"patient": "nan"}, "sub-1_a.png": {"view": "PA"}}))
    assert patients() == ["sub-1", "sub-1", None]
    (folder / "items.json").write_text(json.dumps({"c.png": {"patient": "7.0"}, "sub-1_a.png": {"patient": " 7"}}))
    assert patients() == ["7", None, "7"]


@pytest.mark.skipif(os.name == "nt", reason="backslashes are separators there")
def test_lists_written_on_windows(tmp_path, refused):
    """In any UTF with its mark, and with backslashes in paths."""
    lists = {"train": {"0": ["deep\\x.png"], "unlabeled": ["c.png"]}, "test": {}}
    folder = write(tmp_path / "set", lists, ["c.png", "m.png"])
    (folder / "images" / "deep").mkdir()
    (folder / "images" / "deep" / "x.png").touch()
    for encoding in ("utf-8-sig", "utf-16"):
        (folder / "data.json").write_bytes(json.dumps(lists).encode(encoding))
        (folder / "items.json").write_bytes(json.dumps({"deep\\x.png": {"mask": "images\\m.png"}}).encode(encoding))
        (item,) = read_med_ad(folder).datalist["normal"]
        assert item["image"] == str(folder / "images" / "deep" / "x.png")
        assert item["mask"] == str(folder / "images" / "m.png")
    (folder / "data.json").write_text(json.dumps({"train": {"0": ["C:\\x.png"], "unlabeled": []}, "test": {}}))
    with refused("C:\\x.png and 0 more", "Windows"):
        read_med_ad(folder)
