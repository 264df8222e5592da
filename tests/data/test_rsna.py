"""RSNA in both layouts: the challenge's own tables with their quirks, and the prepared one."""

from __future__ import annotations

import gzip
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from monai_sagan.data.cache import load_image
from monai_sagan.data.datalist import split_published
from monai_sagan.data.rsna import CLASSES, IMAGES, LABELS, TABLE_1, read_rsna

THIRD = "No Lung Opacity / Not Normal"


@pytest.fixture
def kaggle(tmp_path):
    """As the challenge ships it: a row a box in both tables, empty boxes for healthy images, rows in no order."""

    def write(normal=20, opacity=12, third=5):
        classes, labels = ["patientId,class"], ["patientId,x,y,width,height,Target"]
        kinds = [("n", normal, "Normal"), ("o", opacity, "Lung Opacity"), ("z", third, THIRD)]
        for prefix, count, kind in kinds:
            for i in range(count):
                name = f"{prefix}{i:02d}"
                for box in range(1 + i % 2 if kind == "Lung Opacity" else 1):
                    classes.insert(1, f"{name},{kind}")
                    row = f"{name},{100.0 + box},{i},20.5,30,1" if kind == "Lung Opacity" else f"{name},,,,,0"
                    labels.append(row)
        (tmp_path / IMAGES).mkdir()
        for row in classes[1:]:
            (tmp_path / IMAGES / f"{row.split(',')[0]}.dcm").touch()
        (tmp_path / CLASSES).write_text("\n".join(classes) + "\n")
        (tmp_path / LABELS).write_text("\n".join(labels) + "\n")
        return tmp_path

    return write


def every(datalist):
    return [item for items in datalist.values() for item in items]


def counted(datalist):
    kinds = [("normal", 0), ("unlabeled", 0), ("unlabeled", 1), ("test", 0), ("test", 1)]
    return tuple(sum(item["label"] == label for item in datalist[name]) for name, label in kinds)


def test_challenge_layout(kaggle):
    folder = kaggle()
    datalist = read_rsna(folder)
    assert counted(datalist) == (9, 9, 10, 2, 2)
    names = [Path(item["image"]).stem for item in every(datalist)]
    assert sorted(names) == [f"n{i:02d}" for i in range(20)] + [f"o{i:02d}" for i in range(12)]
    assert [item["patient"] for item in every(datalist)] == names
    assert all(Path(item["image"]).is_file() for item in every(datalist))
    assert all(item["label"] == (name[0] == "o") for item, name in zip(every(datalist), names, strict=True))


def test_boxes_come_along(kaggle):
    boxes = {item["patient"]: item["boxes"] for item in every(read_rsna(kaggle()))}
    assert boxes["n03"] == []
    assert boxes["o02"] == [[100.0, 2.0, 20.5, 30.0]]
    assert boxes["o03"] == [[100.0, 3.0, 20.5, 30.0], [101.0, 3.0, 20.5, 30.0]]


def test_split_seed(kaggle):
    folder = kaggle()
    assert read_rsna(folder, split_seed=1) == read_rsna(folder, split_seed=1)
    first, second = ({item["image"] for item in read_rsna(folder, split_seed=seed)["unlabeled"]} for seed in (0, 1))
    assert first != second


def test_tables_with_a_byte_order_mark_and_other_line_ends(kaggle):
    folder = kaggle()
    wanted = read_rsna(folder)
    for name in (CLASSES, LABELS):
        text = (folder / name).read_text()
        (folder / name).write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert read_rsna(folder) == wanted


def test_pixels_of_the_challenge_are_read(tmp_path, write_dicom):
    (tmp_path / IMAGES).mkdir()
    names = [f"p{i}" for i in range(9)]
    for i, name in enumerate(names):
        write_dicom(tmp_path / IMAGES / f"{name}.dcm", np.full((80, 80), i, np.uint8))
    kinds = ["Normal"] * 5 + ["Lung Opacity"] * 4
    rows = [f"{name},{kind}" for name, kind in zip(names, kinds, strict=True)]
    (tmp_path / CLASSES).write_text("\n".join(["patientId,class", *rows]))
    (tmp_path / LABELS).write_text("patientId,x,y,width,height,Target\np8,1,2,3,4,1\n")
    datalist = read_rsna(tmp_path)
    assert sum(map(len, datalist.values())) == 9
    for item in every(datalist):
        assert (load_image(item["image"], (64, 64)) == int(item["patient"][1])).all()


def test_prepared_layout(tmp_path):
    (tmp_path / "images").mkdir()
    lists = {"train": {"0": ["a"], "unlabeled": {"0": ["b"], "1": ["c"]}}, "test": {"0": ["d"], "1": ["e"]}}
    for name in "abcde":
        (tmp_path / "images" / name).touch()
    (tmp_path / "data.json").write_text(json.dumps(lists))
    assert counted(read_rsna(tmp_path)) == (1, 1, 1, 1, 1)
    assert read_rsna(tmp_path, split_seed=1) == read_rsna(tmp_path, split_seed=0)


def test_neither_layout(tmp_path, refused):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with refused(folder, "images/", "data.json", IMAGES, CLASSES, LABELS, "bundles/phantom/train.json"):
            read_rsna(folder)


def test_missing_table(kaggle, refused):
    folder = kaggle()
    (folder / LABELS).unlink()
    with refused(folder / LABELS, "is missing"):
        read_rsna(folder)


@pytest.mark.parametrize(("table", "column"), [(CLASSES, "class"), (CLASSES, "patientId"), (LABELS, "Target")])
def test_missing_column(kaggle, table, column, refused):
    folder = kaggle()
    text = (folder / table).read_text()
    (folder / table).write_text(text.replace(column, "other", 1))
    with refused(folder / table, f"no column {column}"):
        read_rsna(folder)


def test_missing_images(kaggle, refused):
    folder = kaggle()
    (folder / IMAGES / "o03.dcm").unlink()
    with refused(folder / IMAGES / "o03.dcm", "0 more"):
        read_rsna(folder)
    shutil.rmtree(folder / IMAGES)
    with refused(folder / IMAGES, "36 more"):
        read_rsna(folder)


@pytest.mark.parametrize("content", [b"", b"\x00\x01", b"patientId,class\n\xff\xfe,Normal\n", b"PK\x03\x04zip"])
def test_unreadable_table(kaggle, content, refused):
    folder = kaggle()
    (folder / CLASSES).write_bytes(content)
    with refused(folder / CLASSES):
        read_rsna(folder)


@pytest.mark.parametrize("box", [",,,", "1,2,3,wide", "1,2"])
def test_broken_box(kaggle, box, refused):
    folder = kaggle()
    line = f"o00,{box},1\n" if box != "1,2" else "o00,1,2,,,1\n"
    with (folder / LABELS).open("a") as file:
        file.write(line)
    with refused(folder / LABELS, "o00"):
        read_rsna(folder)


def test_the_whole_challenge_is_split_as_published():
    normal, opacity = ([{"image": str(i), "label": label} for i in range(n)] for label, n in enumerate((8851, 6012)))
    assert counted(split_published(normal, opacity, TABLE_1, seed=0)) == (3851, 4000, 5012, 1000, 1000)


def test_real_tables(real_data, tmp_path, monkeypatch):
    """The class table that is public lacks 79 of the 26,684 images; what it has is split in proportion."""
    with gzip.open(real_data / "labels" / f"{CLASSES}.gz") as file:
        (tmp_path / CLASSES).write_bytes(file.read())
    with zipfile.ZipFile(real_data / "labels" / f"{LABELS}.zip") as archive:
        archive.extract(LABELS, tmp_path)
    names = {line.split(",")[0] for line in (tmp_path / CLASSES).read_text().splitlines()[1:]}
    assert len(names) == 26_605
    # Images that exist by their names only: to write so many files takes longer than all other tests.
    monkeypatch.setattr(Path, "glob", lambda folder, pattern: (folder / f"{name}.dcm" for name in names))
    datalist = read_rsna(tmp_path)
    items = every(datalist)
    assert [sum(item["label"] == label for item in items) for label in (0, 1)] == [8818, 6000]
    assert len({item["image"] for item in items}) == len(items) == 14_818
    assert counted(datalist) == (3837, 3985, 5002, 996, 998)
    assert all(bool(item["boxes"]) == item["label"] for item in items)
    assert sum(len(item["boxes"]) for item in items) == 9537
