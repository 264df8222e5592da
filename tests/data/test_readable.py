"""Bad images are skipped, counted and listed; too many of them end the run."""

from __future__ import annotations

import csv
import logging

import numpy as np
import pytest
from PIL import Image

from monai_sagan.data.cache import HowToDecode, ImageCache
from monai_sagan.data.readable import keep_readable


@pytest.fixture
def datalist(tmp_path, write_dicom):
    """Eleven images, one of them DICOM, one broken."""
    rng = np.random.default_rng(0)
    items = []
    for i in range(10):
        path = tmp_path / f"{i}.png"
        Image.fromarray(rng.integers(0, 256, (20, 30), np.uint8)).save(path)
        items.append({"image": str(path), "label": 0})
    (tmp_path / "7.png").write_bytes(b"no image")
    pixels = rng.integers(0, 256, (20, 30), np.uint8)
    path = write_dicom(tmp_path / "x.dcm", pixels, PatientID="Jane Doe", PatientSex="F", PatientAge="043Y")
    items.append({"image": str(path), "label": 0, "sex": "from the table"})
    return {"normal": items[:5], "unlabeled": items[5:8], "test": items[8:]}


@pytest.fixture
def images(datalist, tmp_path):
    return ImageCache(datalist, HowToDecode((16, 16)), tmp_path / "cache")


def listed(path):
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_what_is_left(datalist, images, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        found = keep_readable(datalist, images, tmp_path, max_unreadable=0.1)
    bad = str(tmp_path / "7.png")
    assert {name: len(items) for name, items in found.items()} == {"normal": 5, "unlabeled": 2, "test": 3}
    assert bad not in {item["image"] for items in found.values() for item in items}
    assert [row[0] for row in listed(tmp_path / "skipped.csv")] == ["image", bad]
    assert [bad in record.getMessage() for record in caplog.records] == [True]
    assert datalist["unlabeled"][2] == {"image": bad, "label": 0}  # the argument is as it was


def test_what_a_file_tells_comes_along_and_the_dataset_has_the_last_word(datalist, images, tmp_path):
    item = keep_readable(datalist, images, tmp_path, 0.1)["test"][-1]
    assert (item["size"], item["age"], item["sex"], item["label"]) == ([30, 20], 43, "from the table", 0)
    assert item["patient"]
    assert "Jane" not in str(item)
    assert item["digest"] == images.images[item["image"]]["digest"]


def test_too_many_are_an_error_that_changes_nothing(datalist, images, tmp_path, refused, caplog):
    with refused("1 of 11 images", "max_unreadable 0.01", "monai-sagan data DIR --check", tmp_path / "7.png"):
        keep_readable(datalist, images, tmp_path)
    assert not (tmp_path / "skipped.csv").exists()
    assert str(tmp_path / "7.png") in caplog.text


def test_left_out_slices_are_listed_but_are_not_bad(datalist, tmp_path):
    Image.new("L", (30, 20)).save(tmp_path / "7.png")
    images = ImageCache(datalist, HowToDecode((16, 16), min_foreground=0.1), tmp_path / "cache")
    found = keep_readable(datalist, images, tmp_path, max_unreadable=0)
    assert len(found["unlabeled"]) == 2
    assert "foreground" in listed(tmp_path / "skipped.csv")[1][1]


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_lies_between_0_and_1(datalist, images, tmp_path, share, refused):
    with refused(f"max_unreadable is {share}"):
        keep_readable(datalist, images, tmp_path, share)


@pytest.mark.parametrize("box", [[30.0, 0.0, 5.0, 5.0], [0.0, 20.0, 5.0, 5.0], [-6.0, 2.0, 5.0, 5.0]])
def test_a_box_outside_its_image(datalist, images, tmp_path, box, refused):
    datalist["test"][0]["boxes"] = [[29.0, 19.0, 5.0, 5.0], box]
    with refused(datalist["test"][0]["image"], "30 x 20 pixels"):
        keep_readable(datalist, images, tmp_path, 0.1)
    assert not (tmp_path / "skipped.csv").exists()
