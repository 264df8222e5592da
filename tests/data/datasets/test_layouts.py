"""Which layout a folder is in: told by what is there, or refused. The contract of the readers tests each layout."""

from __future__ import annotations

import json
import logging

import pytest

from monai_sagan.data.datasets.image_table import read_table
from monai_sagan.data.datasets.layouts import LAYOUTS, find_layout, read_datalist, read_dataset
from monai_sagan.data.datasets.med_ad import read_med_ad


def write_med_ad(folder):
    (folder / "images").mkdir(parents=True)
    for name in ("a.png", "b.png", "stray.png"):
        (folder / "images" / name).touch()
    lists = {"train": {"0": ["a.png"], "unlabeled": ["b.png"]}, "test": {}}
    (folder / "data.json").write_text(json.dumps(lists))


def write_folder(folder):
    for name in ("normal", "unlabeled"):
        (folder / name).mkdir(parents=True)
        (folder / name / f"{name}.png").touch()


def test_what_is_found(tmp_path, caplog):
    write_med_ad(tmp_path)
    with caplog.at_level(logging.INFO, logger="monai_sagan"):
        found = read_dataset(str(tmp_path))
    assert (found.layout, found.evidence) == ("med_ad", "data.json")
    assert found.left_out == {"in images/, but not in data.json": 1}
    assert [record.getMessage() for record in caplog.records] == [
        f"left out of {tmp_path}: 1 images, in images/, but not in data.json"
    ]


def test_lists_come_before_folders(tmp_path):
    write_folder(tmp_path)
    assert find_layout(tmp_path) == ("folder", "normal/ and unlabeled/")
    (tmp_path / "images.csv").write_text("image,split\nnormal/normal.png,normal\n")
    assert find_layout(tmp_path)[0] == "table"
    write_med_ad(tmp_path)
    assert find_layout(tmp_path)[0] == "med_ad"
    assert read_dataset(tmp_path, layout="folder").layout == "folder"


def test_a_table_itself(tmp_path):
    write_folder(tmp_path)
    (tmp_path / "mine.csv").write_text("image,split\nnormal/normal.png,normal\n")
    found = read_dataset(tmp_path / "mine.csv")
    assert (found.layout, found.evidence) == ("table", "mine.csv")
    assert len(found.datalist["normal"]) == 1


def test_options_of_the_reader(tmp_path, refused):
    write_folder(tmp_path)
    with refused("slice_axis is 7"):
        read_dataset(tmp_path, slice_axis=7)
    for option in ("third_class", "left_out"):
        with refused(f"{option} is not an option", "folder", "slice_axis, slice_range"):
            read_dataset(tmp_path, **{option: "x"})
    write_med_ad(tmp_path)
    with refused("split_seed is not an option", "med_ad", "data.json", "resplit"):
        read_dataset(tmp_path, split_seed=1)


def test_the_first_of_some_layouts_is_read(tmp_path, refused):
    layouts = ["med_ad", "table", "folder"]
    with refused(f"no folder {tmp_path / 'normal'}"):  # the last one says what is missing
        read_datalist(tmp_path, layouts)
    write_folder(tmp_path)
    assert len(read_datalist(tmp_path, layouts)["normal"]) == 1
    (tmp_path / "images.csv").write_text("image,split,label\nnormal/normal.png,normal,0\n")
    assert read_datalist(tmp_path, layouts) == read_table(tmp_path).datalist
    write_med_ad(tmp_path)
    assert read_datalist(str(tmp_path), layouts) == read_med_ad(tmp_path).datalist
    with refused("'coco'", "vindr_cxr"):
        read_datalist(tmp_path, ["coco"])


@pytest.mark.parametrize(
    ("layout", "defaults", "other"),
    [
        ("rsna", {"split_file": None, "third_class": None, "split_seed": 0}, {"third_class": "normal"}),
        ("rsna", {}, {"split_file": "lists.json"}),
        ("vindr_cxr", {"agreement": "all", "official_test": "false"}, {"agreement": "majority"}),
        ("vindr_cxr", {"official_test": False}, {"official_test": True}),
        ("lag", {"split_file": None, "resplit": None}, {"split_file": "lists.json"}),
        ("folder", {"slice_axis": 2, "slice_range": [0.0, 1.0]}, {"slice_axis": 1}),
    ],
)
def test_options_that_a_list_leaves_no_choice_about(tmp_path, refused, layout, defaults, other):
    """Bundles pass all options of their readers: only those that would change something are refused."""
    write_med_ad(tmp_path)
    assert read_datalist(tmp_path, ["med_ad", layout], **defaults) == read_med_ad(tmp_path).datalist
    with refused(tmp_path, "data.json", next(iter(other))):
        read_datalist(tmp_path, ["med_ad", layout], **defaults | other)


@pytest.mark.parametrize("layout", ["lag", "rsna", "vindr_cxr", "table", "med_ad"])
def test_another_layout_than_the_one_given(tmp_path, refused, layout):
    write_folder(tmp_path)
    with refused(tmp_path):
        read_dataset(tmp_path, layout=layout)


def test_none(tmp_path, refused):
    with refused(tmp_path, "no known layout", *LAYOUTS, "normal/ and unlabeled/"):
        find_layout(tmp_path)
    write_folder(tmp_path / "inner" / "data")
    with refused(tmp_path / "inner", f"{tmp_path / 'inner' / 'data'} is in the layout folder"):
        find_layout(tmp_path / "inner")
    with refused("no folder", tmp_path / "nowhere"):
        find_layout(tmp_path / "nowhere")
    (tmp_path / "picture.png").touch()
    with refused(tmp_path / "picture.png", "no known layout"):
        find_layout(tmp_path / "picture.png")
    with refused("'coco'", "vindr_cxr"):
        read_dataset(tmp_path, layout="coco")
